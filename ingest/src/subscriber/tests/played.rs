//! A broker that a test plays by itself: it says what it likes, when it likes.

use super::harness::PATIENCE;
use bytes::{Bytes, BytesMut};
use rmqtt_codec::types::{Publish, QoS};
use rmqtt_codec::v5::{self, Packet};
use std::net::Ipv4Addr;
use std::num::NonZeroU16;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::{Decoder, Encoder};

pub(super) struct Played {
    listener: TcpListener,
}

impl Played {
    pub(super) async fn new() -> Self {
        Self { listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap() }
    }

    pub(super) fn url(&self) -> String {
        format!("mqtt://{}", self.listener.local_addr().unwrap())
    }

    /// The next connection, with its CONNECT.
    pub(super) async fn accept(&self) -> (Peer, v5::Connect) {
        let accepted = tokio::time::timeout(PATIENCE, self.listener.accept()).await.expect("it connects");
        let mut peer =
            Peer { stream: accepted.unwrap().0, codec: v5::Codec::new(0, 0), inbox: BytesMut::new() };
        match peer.packet().await {
            Some(Packet::Connect(connect)) => (peer, *connect),
            other => panic!("{other:?} instead of a CONNECT"),
        }
    }

    /// The next connection, accepted; and its SUBSCRIBE, granted.
    pub(super) async fn subscribed(&self, session_present: bool) -> (Peer, v5::Subscribe) {
        let (mut peer, _) = self.accept().await;
        peer.connack(session_present).await;
        let Some(Packet::Subscribe(subscribe)) = peer.packet().await else { panic!("no SUBSCRIBE") };
        let granted = vec![v5::SubscribeAckReason::GrantedQos1; subscribe.topic_filters.len()];
        peer.suback(&subscribe, granted).await;
        (peer, subscribe)
    }
}

pub(super) struct Peer {
    stream: TcpStream,
    codec: v5::Codec,
    inbox: BytesMut,
}

impl Peer {
    /// The next packet; `None`: the connection is closed.
    pub(super) async fn packet(&mut self) -> Option<Packet> {
        loop {
            if let Some((packet, _)) = self.codec.decode(&mut self.inbox).unwrap() {
                return Some(packet);
            }
            let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.inbox)).await;
            match read.expect("something comes") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The identifier of the next packet, which must be a PUBACK.
    pub(super) async fn puback(&mut self) -> u16 {
        match self.packet().await {
            Some(Packet::PublishAck(ack)) => ack.packet_id.get(),
            other => panic!("{other:?} instead of a PUBACK"),
        }
    }

    pub(super) async fn send(&mut self, packet: impl Into<Packet>) {
        let mut bytes = BytesMut::new();
        self.codec.encode(packet.into(), &mut bytes).unwrap();
        self.bytes(&bytes).await;
    }

    pub(super) async fn bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    pub(super) async fn connack(&mut self, session_present: bool) {
        self.grant(session_present, None).await;
    }

    /// A CONNACK that names the session's expiry.
    pub(super) async fn grant(&mut self, session_present: bool, session_expiry: Option<u32>) {
        let session_expiry_interval_secs = session_expiry;
        let ack =
            v5::ConnectAck { session_present, session_expiry_interval_secs, ..v5::ConnectAck::default() };
        self.send(Packet::ConnectAck(Box::new(ack))).await;
    }

    pub(super) async fn suback(&mut self, subscribe: &v5::Subscribe, status: Vec<v5::SubscribeAckReason>) {
        let (packet_id, properties) = (subscribe.packet_id, Vec::new());
        let ack = v5::SubscribeAck { packet_id, properties, reason_string: None, status };
        self.send(Packet::SubscribeAck(ack)).await;
    }

    pub(super) async fn publish(&mut self, id: u16, payload: &'static str) {
        self.publish_as(QoS::AtLeastOnce, id, payload).await;
    }

    pub(super) async fn publish_as(&mut self, qos: QoS, id: u16, payload: &'static str) {
        let publish = Publish {
            dup: false,
            retain: false,
            qos,
            topic: "devices/d1/telemetry".into(),
            packet_id: NonZeroU16::new(id),
            payload: Bytes::from_static(payload.as_bytes()),
            properties: None,
        };
        self.send(publish).await;
    }
}
