//! A device that publishes at QoS 1 in MQTT 3.1.1 and notes when each acknowledgement came.
//!
//! A few bytes written by hand, and nothing between a message and the clock: a client library would have queues of its own.

use anyhow::{Context, ensure};
use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a device waits for an acknowledgement before it is taken for lost.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// PUBLISH with QoS 1, PUBACK.
const PUBLISH: u8 = 0x32;
const PUBACK: [u8; 2] = [0x40, 2];

/// A connected device.
#[derive(Debug)]
pub struct Device {
    stream: TcpStream,
    topic: String,
    packet: Vec<u8>,
}

/// Acknowledgements as they come, each for the next message: they keep the order of messages (MQTT-4.6.0).
#[derive(Debug)]
pub struct Acks {
    listener: JoinHandle<anyhow::Result<Vec<Instant>>>,
}

impl Device {
    /// Connects, and publishes to one topic from then on. `expected` messages will be published.
    ///
    /// # Errors
    /// If it is not let in.
    pub fn connect(
        gateway: SocketAddr,
        name: &str,
        topic: String,
        expected: usize,
    ) -> anyhow::Result<(Self, Acks)> {
        let mut stream = TcpStream::connect(gateway).context("failed to connect to the gateway")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        // CONNECT: protocol level 4, clean session, no keep-alive.
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0];
        put_text(&mut body, name)?;
        stream.write_all(&[0x10, u8::try_from(body.len())?])?;
        stream.write_all(&body)?;
        let mut connack = [0; 4];
        stream.read_exact(&mut connack)?;
        ensure!(connack == [0x20, 2, 0, 0], "{name} was not let in: {connack:?}");
        let reader = BufReader::new(stream.try_clone()?);
        let listener = std::thread::spawn(move || listen(reader, expected));
        Ok((Self { stream, topic, packet: Vec::new() }, Acks { listener }))
    }

    /// Publishes message number `number`, counted from 0. Blocks while the gateway takes nothing.
    ///
    /// # Errors
    /// If the connection ended.
    pub fn publish(&mut self, number: usize, payload: &[u8]) -> anyhow::Result<()> {
        let mut body = Vec::with_capacity(self.topic.len() + payload.len() + 4);
        put_text(&mut body, &self.topic)?;
        body.extend(packet_id(number)?.to_be_bytes());
        body.extend(payload);
        self.packet.clear();
        self.packet.push(PUBLISH);
        let mut length = body.len();
        while length >= 128 {
            self.packet.push(u8::try_from(length % 128)? | 0x80);
            length /= 128;
        }
        self.packet.push(u8::try_from(length)?);
        self.packet.extend(body);
        Ok(self.stream.write_all(&self.packet)?)
    }
}

impl Acks {
    /// When each message's acknowledgement came, once all have.
    ///
    /// # Errors
    /// If one did not come, or came out of order.
    pub fn all(self) -> anyhow::Result<Vec<Instant>> {
        self.listener.join().map_err(|_panic| anyhow::anyhow!("the listener of a device failed"))?
    }
}

fn listen(mut stream: BufReader<TcpStream>, expected: usize) -> anyhow::Result<Vec<Instant>> {
    let mut times = Vec::with_capacity(expected);
    while times.len() < expected {
        let mut packet = [0; 4];
        stream
            .read_exact(&mut packet)
            .with_context(|| format!("no acknowledgement of message {}", times.len()))?;
        let [kind, length, high, low] = packet;
        let id = u16::from_be_bytes([high, low]);
        ensure!(
            [kind, length] == PUBACK && id == packet_id(times.len())?,
            "not the acknowledgement that is due: {packet:?}"
        );
        times.push(Instant::now());
    }
    Ok(times)
}

/// Ids begin anew after 65,535 messages: so many are never on their way.
fn packet_id(number: usize) -> anyhow::Result<u16> {
    Ok(u16::try_from(number % usize::from(u16::MAX))? + 1)
}

fn put_text(packet: &mut Vec<u8>, text: &str) -> anyhow::Result<()> {
    packet.extend(u16::try_from(text.len())?.to_be_bytes());
    packet.extend(text.as_bytes());
    Ok(())
}
