//! A device that speaks MQTT by the byte, so that it can also speak it wrongly. It has no code in common with the gateway.

use super::harness::PATIENCE;
use crate::replay::Wire;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(super) const PING: &[u8] = &[0xC0, 0];
pub(super) const PONG: &[u8] = &[0xD0, 0];

pub(super) struct Device {
    stream: Box<dyn Wire>,
}

impl Device {
    pub(super) async fn connect(address: SocketAddr) -> Self {
        Self::over(Box::new(TcpStream::connect(address).await.unwrap()))
    }

    /// On a connection that is there.
    pub(super) fn over(stream: Box<dyn Wire>) -> Self {
        Self { stream }
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Sends what the gateway may cut off.
    pub(super) async fn try_send(&mut self, bytes: &[u8]) {
        drop(self.stream.write_all(bytes).await);
    }

    /// The next packet; `None`: the gateway has closed the connection.
    pub(super) async fn packet(&mut self) -> Option<Vec<u8>> {
        tokio::time::timeout(PATIENCE, self.read_packet()).await.expect("the gateway answers or closes")
    }

    async fn read_packet(&mut self) -> Option<Vec<u8>> {
        let mut packet = vec![self.stream.read_u8().await.ok()?];
        let (mut length, mut shift) = (0_usize, 0);
        loop {
            let byte = self.stream.read_u8().await.ok()?;
            packet.push(byte);
            length |= usize::from(byte & 0x7F) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let header = packet.len();
        packet.resize(header + length, 0);
        self.stream.read_exact(&mut packet[header..]).await.ok()?;
        Some(packet)
    }

    /// Expects exactly these packets.
    pub(super) async fn expect(&mut self, packets: &[&[u8]]) {
        for expected in packets {
            assert_eq!(self.packet().await.as_deref(), Some(*expected));
        }
    }

    /// Expects that everything sent so far was handled, and that nothing was answered.
    pub(super) async fn expect_nothing(&mut self) {
        self.send(PING).await;
        self.expect(&[PONG]).await;
    }

    /// Expects the end: in MQTT 5 a DISCONNECT with this code before it.
    pub(super) async fn expect_end(&mut self, code: Option<u8>) {
        if let Some(code) = code {
            let packet = self.packet().await.expect("a DISCONNECT before the end");
            assert_eq!((packet[0], packet[2]), (0xE0, code), "{packet:x?}");
        }
        assert_eq!(self.packet().await, None);
    }

    /// Says CONNECT and returns the CONNACK.
    pub(super) async fn greet(&mut self, connect: &[u8]) -> Vec<u8> {
        self.send(connect).await;
        self.packet().await.expect("a CONNACK")
    }

    /// Says CONNECT and expects "session present" to be this.
    pub(super) async fn enter(&mut self, connect: &[u8], session_present: bool) {
        let answer = self.greet(connect).await;
        assert_eq!((answer[0], answer[2], answer[3]), (0x20, u8::from(session_present), 0), "{answer:x?}");
    }
}

/// Version by its level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    V3,
    V5,
}

impl Speaks {
    /// Where MQTT 5 has properties: none.
    pub(super) fn no_properties(self) -> &'static [u8] {
        if self == Self::V5 { &[0] } else { &[] }
    }

    /// A CONNECT with a keep-alive of a minute.
    pub(super) fn connect(self, client_id: &str, clean: bool) -> Vec<u8> {
        // MQTT 5 says in a property what clean session off says in 3.1.1.
        let lasting: &[u8] =
            if self == Self::V5 && !clean { &[5, 0x11, 0, 0, 0x0E, 0x10] } else { self.no_properties() };
        self.connect_with(u8::from(clean) << 1, 60, lasting, &text(client_id))
    }

    /// A CONNECT with flags, keep-alive, properties and payload.
    pub(super) fn connect_with(
        self,
        flags: u8,
        keep_alive: u16,
        properties: &[u8],
        payload: &[u8],
    ) -> Vec<u8> {
        let level = if self == Self::V5 { 5 } else { 4 };
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', level, flags];
        body.extend(keep_alive.to_be_bytes());
        body.extend(properties);
        body.extend(payload);
        packet(0x10, &body)
    }

    /// A CONNECT with a Will of QoS 1 on `wills/<client id>`.
    pub(super) fn connect_with_will(self, client_id: &str, keep_alive: u16) -> Vec<u8> {
        let mut payload = text(client_id);
        payload.extend(self.no_properties());
        payload.extend(text(&format!("wills/{client_id}")));
        payload.extend(text("gone"));
        self.connect_with(0b0000_1110, keep_alive, self.no_properties(), &payload)
    }

    /// A PUBLISH; the packet identifier counts if the QoS is above 0.
    pub(super) fn publish(self, topic: &str, qos: u8, id: u16, payload: &[u8]) -> Vec<u8> {
        self.publish_with(qos << 1, topic, id, self.no_properties(), payload)
    }

    pub(super) fn publish_with(
        self,
        flags: u8,
        topic: &str,
        id: u16,
        properties: &[u8],
        payload: &[u8],
    ) -> Vec<u8> {
        let mut body = text(topic);
        if flags & 0b0110 != 0 {
            body.extend(id.to_be_bytes());
        }
        body.extend(properties);
        body.extend(payload);
        packet(0x30 | flags, &body)
    }

    /// PUBACK 0x40, PUBREC 0x50 or PUBCOMP 0x70 of success.
    pub(super) fn ack(self, kind: u8, id: u8) -> Vec<u8> {
        if self == Self::V5 { vec![kind, 4, 0, id, 0, 0] } else { vec![kind, 2, 0, id] }
    }

    /// PUBREL.
    pub(super) fn release(self, id: u8) -> Vec<u8> {
        vec![0x62, 2, 0, id]
    }

    /// The code, where the version has codes.
    pub(super) fn code(self, code: u8) -> Option<u8> {
        (self == Self::V5).then_some(code)
    }
}

pub(super) const BOTH: [Speaks; 2] = [Speaks::V3, Speaks::V5];

pub(super) fn text(text: &str) -> Vec<u8> {
    let mut bytes = u16::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

pub(super) fn packet(first_byte: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first_byte];
    let mut length = body.len();
    loop {
        let low = u8::try_from(length % 128).unwrap();
        length /= 128;
        bytes.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            break;
        }
    }
    bytes.extend(body);
    bytes
}
