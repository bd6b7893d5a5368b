//! A broker for tests: acknowledges as it is told to, cuts connections as it is told to, and remembers what it got.

use crate::replay::settings::{Broker, MqttVersion};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use rmqtt_codec::types::{Publish, QoS};
use rmqtt_codec::{MqttCodec, MqttPacket, v3, v5};
use std::collections::{HashMap, HashSet, VecDeque};
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::codec::Framed;

/// What becomes of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    /// It is closed after so many PUBLISH and PUBREL.
    pub(crate) packets: usize,
    /// The first of them are answered, the others are not.
    pub(crate) answered: usize,
    /// Whether the session is kept beyond it.
    pub(crate) keeps_session: bool,
}

/// What the broker is told to do.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) version: MqttVersion,
    /// One for each connection, in the order in which they come; later ones are served well.
    pub(crate) cuts: VecDeque<Cut>,
    /// The CONNACK (version 5).
    pub(crate) connack: v5::ConnectAck,
    /// The code of the CONNACK (version 3.1.1).
    pub(crate) return_code: v3::ConnectAckReason,
    /// Messages on this topic are refused.
    pub(crate) refused_topic: Option<&'static str>,
    /// Answered by a DISCONNECT with this reason (version 5).
    pub(crate) disconnect: Option<v5::DisconnectReasonCode>,
    /// Nothing is ever answered but CONNECT.
    pub(crate) is_mute: bool,
}

impl Script {
    pub(crate) fn new(version: MqttVersion) -> Self {
        Self {
            version,
            cuts: VecDeque::new(),
            connack: v5::ConnectAck::default(),
            return_code: v3::ConnectAckReason::ConnectionAccepted,
            refused_topic: None,
            disconnect: None,
            is_mute: false,
        }
    }
}

/// A PUBLISH as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delivery {
    pub(crate) topic: String,
    pub(crate) payload: Bytes,
    pub(crate) dup: bool,
    pub(crate) client: String,
    pub(crate) connection: usize,
    pub(crate) id: Option<u16>,
}

/// A CONNECT as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Connected {
    pub(crate) client: String,
    pub(crate) clean: bool,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Bytes>,
}

#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) connects: Vec<Connected>,
    /// Every PUBLISH, also those that come again.
    pub(crate) publishes: Vec<Delivery>,
    /// Messages as a subscriber would get them: at QoS 2 without those that the session knows.
    pub(crate) delivered: Vec<Delivery>,
    pub(crate) open_max: usize,
    pub(crate) pings: usize,
    pub(crate) goodbyes: usize,
    /// Packet ids of QoS 2 by client.
    pub(crate) sessions: HashMap<String, HashSet<NonZeroU16>>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    script: Script,
    seen: Seen,
}

/// Serves until it is dropped.
#[derive(Debug)]
pub(crate) struct TestBroker {
    pub(crate) address: Broker,
    shared: Arc<Mutex<Shared>>,
    _tasks: JoinSet<()>,
}

impl TestBroker {
    pub(crate) async fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Broker { host: "127.0.0.1".to_owned(), port: listener.local_addr().unwrap().port() };
        let shared = share(script);
        let serving = Arc::clone(&shared);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, Arc::clone(&serving)));
            }
        });
        Self { address, shared, _tasks: tasks }
    }

    pub(crate) fn seen(&self) -> Seen {
        seen(&self.shared)
    }

    /// Looks without taking.
    pub(crate) fn publishes(&self) -> usize {
        lock(&self.shared).seen.publishes.len()
    }

    /// A session that somebody left behind.
    pub(crate) fn remember(&self, client: &str) {
        lock(&self.shared).seen.sessions.insert(client.to_owned(), HashSet::new());
    }
}

pub(crate) fn share(script: Script) -> Arc<Mutex<Shared>> {
    Arc::new(Mutex::new(Shared { script, seen: Seen::default() }))
}

pub(crate) fn seen(shared: &Mutex<Shared>) -> Seen {
    std::mem::take(&mut lock(shared).seen)
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap()
}

enum Heard {
    Connect(Connected),
    Publish(Publish),
    Release(NonZeroU16),
    Ping,
    Goodbye,
}

fn heard(packet: MqttPacket) -> Heard {
    match packet {
        MqttPacket::V3(v3::Packet::Connect(c)) => Heard::Connect(Connected {
            client: c.client_id.to_string(),
            clean: c.clean_session,
            user: c.username.map(|user| user.to_string()),
            password: c.password,
        }),
        MqttPacket::V5(v5::Packet::Connect(c)) => Heard::Connect(Connected {
            client: c.client_id.to_string(),
            clean: c.clean_start,
            user: c.username.map(|user| user.to_string()),
            password: c.password,
        }),
        MqttPacket::V3(v3::Packet::Publish(publish)) | MqttPacket::V5(v5::Packet::Publish(publish)) => {
            Heard::Publish(*publish)
        }
        MqttPacket::V3(v3::Packet::PublishRelease { packet_id }) => Heard::Release(packet_id),
        MqttPacket::V5(v5::Packet::PublishRelease(release)) => Heard::Release(release.packet_id),
        MqttPacket::V3(v3::Packet::PingRequest) | MqttPacket::V5(v5::Packet::PingRequest) => Heard::Ping,
        MqttPacket::V3(v3::Packet::Disconnect) | MqttPacket::V5(v5::Packet::Disconnect(_)) => Heard::Goodbye,
        other => panic!("a publishing client sent {other:?}"),
    }
}

fn answer(version: MqttVersion, to: &Heard, refused: bool) -> Option<MqttPacket> {
    let v5_ack = |id| v5::PublishAck {
        packet_id: id,
        reason_code: if refused {
            v5::PublishAckReason::NotAuthorized
        } else {
            v5::PublishAckReason::Success
        },
        ..v5::PublishAck::default()
    };
    Some(match (version, to) {
        (MqttVersion::V311, Heard::Publish(Publish { qos: QoS::AtLeastOnce, packet_id: Some(id), .. })) => {
            MqttPacket::V3(v3::Packet::PublishAck { packet_id: *id })
        }
        (MqttVersion::V311, Heard::Publish(Publish { qos: QoS::ExactlyOnce, packet_id: Some(id), .. })) => {
            MqttPacket::V3(v3::Packet::PublishReceived { packet_id: *id })
        }
        (MqttVersion::V311, Heard::Release(id)) => {
            MqttPacket::V3(v3::Packet::PublishComplete { packet_id: *id })
        }
        (MqttVersion::V5, Heard::Publish(Publish { qos: QoS::AtLeastOnce, packet_id: Some(id), .. })) => {
            MqttPacket::V5(v5::Packet::PublishAck(v5_ack(*id)))
        }
        (MqttVersion::V5, Heard::Publish(Publish { qos: QoS::ExactlyOnce, packet_id: Some(id), .. })) => {
            MqttPacket::V5(v5::Packet::PublishReceived(v5_ack(*id)))
        }
        (MqttVersion::V5, Heard::Release(id)) => {
            MqttPacket::V5(v5::Packet::PublishComplete(v5::PublishAck2 {
                packet_id: *id,
                ..v5::PublishAck2::default()
            }))
        }
        (MqttVersion::V311, Heard::Ping) => MqttPacket::V3(v3::Packet::PingResponse),
        (MqttVersion::V5, Heard::Ping) => MqttPacket::V5(v5::Packet::PingResponse),
        _ => return None,
    })
}

/// Serves one connection.
pub(crate) async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, shared: Arc<Mutex<Shared>>) {
    let version = lock(&shared).script.version;
    let codec = match version {
        MqttVersion::V311 => MqttCodec::V3(v3::Codec::new(0)),
        MqttVersion::V5 => MqttCodec::V5(v5::Codec::new(0, 0)),
    };
    let mut wire = Framed::new(stream, codec);
    // A client of the other version: all a 3.1.1 broker says to MQTT 5 is "unacceptable version".
    let Some(Ok((first, _))) = wire.next().await else {
        let refusal = v3::ConnectAck {
            return_code: v3::ConnectAckReason::UnacceptableProtocolVersion,
            session_present: false,
        };
        wire.send(MqttPacket::V3(v3::Packet::ConnectAck(refusal))).await.ok();
        return;
    };
    let Heard::Connect(connect) = heard(first) else { panic!("the first packet is no CONNECT") };
    let client = connect.client.clone();
    let (connack, cut, connection) = greet(&mut lock(&shared), connect);
    wire.send(connack).await.ok();
    let mut open: HashSet<NonZeroU16> = HashSet::new();
    let mut packets = 0;
    while cut.is_none_or(|cut| packets < cut.packets) {
        let Some(Ok((packet, _))) = wire.next().await else { break };
        let heard = heard(packet);
        let (refused, disconnect, is_mute) = note(&mut lock(&shared), &heard, &client, connection, &mut open);
        match heard {
            Heard::Goodbye => return,
            Heard::Publish(_) | Heard::Release(_) => packets += 1,
            _ => {}
        }
        if let Some(reason_code) = disconnect {
            wire.send(MqttPacket::V5(v5::Packet::Disconnect(v5::Disconnect::new(reason_code)))).await.ok();
            return;
        }
        let is_answered = !is_mute && cut.is_none_or(|cut| packets <= cut.answered);
        if let Some(answer) = answer(version, &heard, refused).filter(|_| is_answered) {
            if let Heard::Release(id) = &heard {
                open.remove(id);
                lock(&shared).seen.sessions.entry(client.clone()).or_default().remove(id);
            } else if let Heard::Publish(Publish { qos: QoS::AtLeastOnce, packet_id: Some(id), .. }) = &heard
            {
                open.remove(id);
            }
            if wire.send(answer).await.is_err() {
                break;
            }
        }
    }
    if cut.is_some_and(|cut| !cut.keeps_session) {
        lock(&shared).seen.sessions.remove(&client);
    }
}

fn greet(shared: &mut Shared, connect: Connected) -> (MqttPacket, Option<Cut>, usize) {
    if connect.clean {
        shared.seen.sessions.remove(&connect.client);
    }
    let session_present = shared.seen.sessions.contains_key(&connect.client);
    shared.seen.sessions.entry(connect.client.clone()).or_default();
    if connect.clean && shared.script.version == MqttVersion::V311 {
        shared.seen.sessions.remove(&connect.client);
    }
    shared.seen.connects.push(connect);
    let connack = match shared.script.version {
        MqttVersion::V311 => MqttPacket::V3(v3::Packet::ConnectAck(v3::ConnectAck {
            return_code: shared.script.return_code,
            session_present,
        })),
        MqttVersion::V5 => MqttPacket::V5(v5::Packet::ConnectAck(Box::new(v5::ConnectAck {
            session_present,
            ..shared.script.connack.clone()
        }))),
    };
    (connack, shared.script.cuts.pop_front(), shared.seen.connects.len())
}

fn note(
    shared: &mut Shared,
    heard: &Heard,
    client: &str,
    connection: usize,
    open: &mut HashSet<NonZeroU16>,
) -> (bool, Option<v5::DisconnectReasonCode>, bool) {
    let Shared { script, seen } = shared;
    let mut refused = false;
    match heard {
        Heard::Ping => seen.pings += 1,
        Heard::Goodbye => seen.goodbyes += 1,
        Heard::Publish(publish) => {
            let delivery = Delivery {
                topic: publish.topic.to_string(),
                payload: publish.payload.clone(),
                dup: publish.dup,
                client: client.to_owned(),
                connection,
                id: publish.packet_id.map(NonZeroU16::get),
            };
            refused = script.refused_topic == Some(delivery.topic.as_str());
            let is_new = match (publish.qos, publish.packet_id) {
                (QoS::ExactlyOnce, Some(id)) => {
                    seen.sessions.entry(client.to_owned()).or_default().insert(id)
                }
                _ => true,
            };
            if is_new && !refused {
                seen.delivered.push(delivery.clone());
            }
            seen.publishes.push(delivery);
            open.extend(publish.packet_id);
            seen.open_max = seen.open_max.max(open.len());
        }
        Heard::Connect(_) | Heard::Release(_) => {}
    }
    let disconnect = script.disconnect.filter(|_| matches!(heard, Heard::Publish(_)));
    (refused, disconnect, script.is_mute)
}
