//! A device: as little MQTT as a test needs, and every byte under its control.

use crate::program::DEADLINE;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// Messages that may wait for their acknowledgement.
const WINDOW: usize = 50;

/// The protocol's version, as CONNECT has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V3 = 4,
    V5 = 5,
}

/// Packet types, with the flags that they must have.
pub(crate) mod kind {
    pub(crate) const CONNECT: u8 = 0x10;
    pub(crate) const CONNACK: u8 = 0x20;
    pub(crate) const PUBLISH: u8 = 0x30;
    pub(crate) const PUBACK: u8 = 0x40;
    pub(crate) const PUBREC: u8 = 0x50;
    pub(crate) const DISCONNECT: u8 = 0xE0;
}

/// One packet as it is on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) first: u8,
    pub(crate) body: Vec<u8>,
}

impl Packet {
    /// Its type, without flags.
    pub(crate) fn kind(&self) -> u8 {
        self.first & 0xF0
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.first];
        bytes.extend(length(self.body.len()));
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// The next packet; `None` when the other side has closed the connection.
    pub(crate) fn read(from: &mut impl Read) -> Option<Self> {
        let first = byte(from)?;
        let (mut length, mut shift) = (0_usize, 0);
        loop {
            let next = byte(from)?;
            length |= usize::from(next & 0x7F) << shift;
            shift += 7;
            if next & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        from.read_exact(&mut body).ok()?;
        Some(Self { first, body })
    }
}

fn byte(from: &mut impl Read) -> Option<u8> {
    let mut byte = [0];
    match from.read_exact(&mut byte) {
        Ok(()) => Some(byte[0]),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
            ) =>
        {
            None
        }
        Err(error) => panic!("the connection said nothing: {error}"),
    }
}

fn length(mut rest: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(rest & 0x7F).unwrap();
        rest >>= 7;
        if rest == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = u16::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// A connected device.
#[derive(Debug)]
pub(crate) struct Device {
    socket: TcpStream,
    version: Version,
    next_id: u16,
    unacknowledged: VecDeque<u16>,
}

impl Device {
    /// Connects with a clean session.
    pub(crate) fn connect(address: SocketAddr, version: Version, client_id: &str) -> Self {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut body = text("MQTT");
        body.extend([version as u8, 0b10, 0, 0]);
        if version == Version::V5 {
            body.push(0);
        }
        body.extend(text(client_id));
        socket.write_all(&Packet { first: kind::CONNECT, body }.to_bytes()).unwrap();
        let answer = Packet::read(&mut socket)
            .expect("the gateway closed the connection instead of answering CONNECT");
        assert_eq!((answer.first, answer.body[1]), (kind::CONNACK, 0), "{answer:?}");
        Self { socket, version, next_id: 0, unacknowledged: VecDeque::new() }
    }

    /// Sends a message at QoS 1; its acknowledgement may come later.
    pub(crate) fn send(&mut self, topic: &str, payload: &[u8]) {
        while self.unacknowledged.len() >= WINDOW {
            self.acknowledged();
        }
        self.next_id = self.next_id % u16::MAX + 1;
        let mut body = text(topic);
        body.extend(self.next_id.to_be_bytes());
        if self.version == Version::V5 {
            body.push(0);
        }
        body.extend_from_slice(payload);
        self.socket.write_all(&Packet { first: kind::PUBLISH | 0b10, body }.to_bytes()).unwrap();
        self.unacknowledged.push_back(self.next_id);
    }

    /// Waits until all that was sent is acknowledged: in the order in which it was sent (MQTT-4.6.0-2).
    pub(crate) fn all_acknowledged(&mut self) {
        while !self.unacknowledged.is_empty() {
            self.acknowledged();
        }
    }

    /// Publishes one message and waits for its acknowledgement.
    pub(crate) fn publish(&mut self, topic: &str, payload: impl AsRef<[u8]>) {
        self.send(topic, payload.as_ref());
        self.all_acknowledged();
    }

    fn acknowledged(&mut self) {
        let expected = self.unacknowledged.pop_front().unwrap();
        let packet = self.read().expect("the gateway closed the connection instead of acknowledging");
        assert_eq!(
            (packet.first, &packet.body[..2]),
            (kind::PUBACK, expected.to_be_bytes().as_slice()),
            "{packet:?}"
        );
        let reason = packet.body.get(2).copied().unwrap_or(0);
        assert!(reason < 0x80, "the message was refused with {reason:#x}");
    }

    /// Sends bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    /// The next packet; `None` when the gateway has closed the connection.
    pub(crate) fn read(&mut self) -> Option<Packet> {
        Packet::read(&mut self.socket)
    }
}
