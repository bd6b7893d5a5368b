//! A cluster that for a moment says it has no brokers.

use super::{PATIENCE, first, found, numbered, settings_of, unique, within};
use crate::api::{Log, LogReader, ReadLimit};
use crate::contract::ALL;
use crate::kafka::context::Voice;
use crate::kafka::{KafkaLog, KafkaSettings};
use crate::partitioner::partition_of;
use millstream_model::name::{LogTopic, Offset, Partition, TopicPartition};
use millstream_services::services;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// The only topic of a [`Cluster`], with one partition.
const TOPIC: &str = "millstream.stranded";

/// So many at once: most find their way back by themselves.
const CLIENTS: usize = 30;

/// How long a client that may never answer is listened to.
const LOOK: Duration = Duration::from_millis(20);

/// As much of Kafka's protocol as a client needs to learn which brokers there are: ApiVersions 0, Metadata 4, InitProducerId 0.
///
/// Real clusters of one broker do this after their only broker stood still for longer than its controller trusts it; but seldom, and not when asked to.
struct Cluster {
    port: u16,
    empty: Arc<AtomicBool>,
    /// How often it said that it is empty.
    said: Arc<AtomicUsize>,
}

impl Cluster {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (empty, said) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (told, counted) = (Arc::clone(&empty), Arc::clone(&said));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (told, counted) = (Arc::clone(&told), Arc::clone(&counted));
                thread::spawn(move || answer(&stream.unwrap(), port, &told, &counted));
            }
        });
        Self { port, empty, said }
    }

    fn says_it_is_empty(&self, empty: bool) {
        self.empty.store(empty, Ordering::SeqCst);
    }

    fn settings(&self) -> KafkaSettings {
        KafkaSettings::new(format!("127.0.0.1:{}", self.port))
    }
}

/// Answers requests until the connection ends.
fn answer(mut stream: &TcpStream, port: u16, empty: &AtomicBool, said: &AtomicUsize) -> io::Result<()> {
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut request = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut request)?;
        let (key, version) = (short(&request[0..2]), short(&request[2..4]));
        let mut body = request[4..8].to_vec();
        match (key, version) {
            (18, _) => {
                body.extend(if version == 0 { 0_i16 } else { 35 }.to_be_bytes());
                body.extend(3_i32.to_be_bytes());
                for (key, version) in [(3_i16, 4_i16), (18, 0), (22, 0)] {
                    [key, version.min(0), version].iter().for_each(|part| body.extend(part.to_be_bytes()));
                }
            }
            (3, 4) => {
                // Behind the client's name: how many topics it asks for.
                let asked = &request[10 + usize::try_from(short(&request[8..10])).unwrap()..];
                let of_a_topic = asked[..4] != [0; 4];
                let is_empty = empty.load(Ordering::SeqCst);
                metadata(&mut body, port, is_empty, of_a_topic);
                said.fetch_add(usize::from(is_empty), Ordering::SeqCst);
            }
            (22, 0) => {
                body.extend([0; 6]);
                body.extend(7_i64.to_be_bytes());
                body.extend([0; 2]);
            }
            other => panic!("{other:?} was not offered"),
        }
        stream.write_all(&u32::try_from(body.len()).unwrap().to_be_bytes())?;
        stream.write_all(&body)?;
    }
}

fn short(bytes: &[u8]) -> i16 {
    i16::from_be_bytes(bytes.try_into().unwrap())
}

fn metadata(body: &mut Vec<u8>, port: u16, empty: bool, of_a_topic: bool) {
    let string = |body: &mut Vec<u8>, text: &str| {
        body.extend(i16::try_from(text.len()).unwrap().to_be_bytes());
        body.extend(text.as_bytes());
    };
    let ints = |body: &mut Vec<u8>, ints: &[i32]| ints.iter().for_each(|int| body.extend(int.to_be_bytes()));
    ints(body, &[0]);
    if empty {
        ints(body, &[0]);
    } else {
        ints(body, &[1, 1]);
        string(body, "127.0.0.1");
        ints(body, &[port.into()]);
        body.extend((-1_i16).to_be_bytes());
    }
    string(body, "cluster");
    ints(body, &[if empty { -1 } else { 1 }, of_a_topic.into()]);
    if !of_a_topic {
        return;
    }
    body.extend([0; 2]);
    string(body, TOPIC);
    body.extend([0]);
    ints(body, &[1]);
    // No leader.
    body.extend(if empty { 5_i16 } else { 0 }.to_be_bytes());
    ints(body, &[0, if empty { -1 } else { 1 }, 1, 1, 1, 1]);
}

#[test]
fn a_client_has_a_broker_again_or_is_known_to_have_lost_all() {
    let cluster = Cluster::start();
    let settings = cluster.settings();
    let config = settings.client(&[("group.id", "test")]).unwrap();
    let client = |_| BaseConsumer::from_config_and_context(&config, Voice::new("test", &settings)).unwrap();
    let mut clients: Vec<BaseConsumer<Voice>> = (0..CLIENTS).map(client).collect();
    let asked = |client: &BaseConsumer<Voice>, patience| {
        client.fetch_metadata(Some(TOPIC), patience).map(|metadata| metadata.brokers().len())
    };
    clients.iter().for_each(|client| assert_eq!(asked(client, PATIENCE).unwrap(), 1));
    cluster.says_it_is_empty(true);
    // One that has heard it by itself may have lost them before it is asked.
    let begin = Instant::now();
    let left = || PATIENCE.saturating_sub(begin.elapsed()).min(PATIENCE / 8);
    clients.iter().for_each(|client| assert_eq!(asked(client, left()).unwrap_or(0), 0));
    cluster.says_it_is_empty(false);
    let begin = Instant::now();
    while !clients.is_empty() {
        assert!(begin.elapsed() < PATIENCE, "{} have no broker, and it is not known", clients.len());
        clients.retain(|client| {
            drop(client.poll(LOOK));
            asked(client, LOOK).is_err() && !client.context().is_stranded()
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cluster_that_for_a_moment_has_no_broker_is_found_again() {
    let cluster = Cluster::start();
    let topic: LogTopic = TOPIC.parse().unwrap();
    let mut logs = Vec::new();
    for _ in 0..CLIENTS {
        let request_timeout = Duration::from_secs(2);
        // The time is for those that are to fail below.
        let settings = KafkaSettings { request_timeout, ..cluster.settings() };
        let log = within(async {
            loop {
                if let Ok(log) = KafkaLog::open(settings.clone()).await
                    && let Ok(found) = log.existing(&topic).await
                {
                    assert_eq!(found.unwrap().len(), 1);
                    return log;
                }
            }
        });
        logs.push(log.await);
    }
    cluster.says_it_is_empty(true);
    let mut asked = JoinSet::new();
    for log in logs.clone() {
        let topic = topic.clone();
        asked.spawn(async move { log.existing(&topic).await });
    }
    assert!(within(asked.join_all()).await.iter().all(Result::is_err), "there is no leader");
    cluster.says_it_is_empty(false);
    for log in &logs {
        found(async || log.existing(&topic).await).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_log_is_opened_where_the_cluster_has_no_broker_at_first() {
    let cluster = Cluster::start();
    cluster.says_it_is_empty(true);
    let mut opening = JoinSet::new();
    for _ in 0..CLIENTS {
        opening.spawn(KafkaLog::open(KafkaSettings { request_timeout: PATIENCE, ..cluster.settings() }));
    }
    // Each has asked when it connected, and several times by a topic's name.
    within(async {
        while cluster.said.load(Ordering::SeqCst) < CLIENTS * 4 {
            tokio::time::sleep(LOOK).await;
        }
    })
    .await;
    assert!(opening.try_join_next().is_none(), "there is nobody yet");
    cluster.says_it_is_empty(false);
    let topic: LogTopic = TOPIC.parse().unwrap();
    while let Some(opened) = within(opening.join_next()).await {
        let log = opened.unwrap().unwrap();
        assert_eq!(found(async || log.existing(&topic).await).await.unwrap().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_whose_clients_lost_all_brokers_goes_on_with_others() {
    let Some(services) = services("a_log_whose_clients_lost_all_brokers_goes_on_with_others") else { return };
    let log = KafkaLog::open(KafkaSettings { partitions: 1, ..settings_of(services) }).await.unwrap();
    let topic = unique(services, "stranded");
    let mut reader = log.reader(&first(&topic), Offset::ZERO).await.unwrap();
    let append = async |number| {
        within(within(log.append(&topic, vec![numbered(number)])).await.unwrap()).await.unwrap()
    };
    append(0).await;
    assert_eq!(values(&mut reader, 1).await, ["0"]);
    let before = log.0.producer.client();
    log.0.producer.strand();
    within(async {
        while Arc::ptr_eq(&before, &log.0.producer.client()) {
            tokio::time::sleep(LOOK).await;
        }
    })
    .await;
    assert_eq!(log.0.fetchers.strand(), 1);
    append(1).await;
    append(2).await;
    assert_eq!(values(&mut reader, 2).await, ["1", "2"]);
    // One that waits for what is not there yet is woken.
    let mut waiting = JoinSet::new();
    waiting.spawn(async move { values(&mut reader, 1).await });
    assert_eq!(log.0.fetchers.strand(), 1);
    append(3).await;
    assert_eq!(within(waiting.join_all()).await, [["3"]]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_a_client_does_not_fetch_goes_to_another_and_its_others_stay() {
    let test = "a_partition_that_a_client_does_not_fetch_goes_to_another_and_its_others_stay";
    let Some(services) = services(test) else { return };
    let log = KafkaLog::open(settings_of(services)).await.unwrap();
    let topic = unique(services, "deaf");
    let deaf = TopicPartition { topic: topic.clone(), partition: partition_of(b"device", 3) };
    let idle = TopicPartition { topic: topic.clone(), partition: Partition((deaf.partition.0 + 1) % 3) };
    let mut reader = log.reader(&deaf, Offset::ZERO).await.unwrap();
    let mut other = log.reader(&idle, Offset::ZERO).await.unwrap();
    log.0.fetchers.pause(&deaf);
    let mut waiting = JoinSet::new();
    waiting.spawn(async move { values(&mut reader, 1).await });
    let mut idling = JoinSet::new();
    idling.spawn(async move { values(&mut other, 1).await });
    within(within(log.append(&topic, vec![numbered(0)])).await.unwrap()).await.unwrap();
    // As the firehose asks: it turns to something else again and again.
    let mut ever = log.reader(&idle, Offset::ZERO).await.unwrap();
    let read = within(async {
        loop {
            tokio::select! {
                read = waiting.join_next() => break read.unwrap().unwrap(),
                _ = ever.next(ALL) => panic!("nobody wrote there"),
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    })
    .await;
    assert_eq!(read, ["0"]);
    assert_eq!(log.0.fetchers.count(), 2, "who reads the other partition by the first still does");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_record_is_lost_or_doubled_however_often_clients_change() {
    const RECORDS: usize = 3_000;
    const OFTEN: usize = 4;
    let test = "no_record_is_lost_or_doubled_however_often_clients_change";
    let Some(services) = services(test) else { return };
    let seed =
        std::env::var("MILLSTREAM_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    let mut random = fastrand::Rng::with_seed(seed);
    // Little is read ahead, so that every client leaves off in the middle.
    let ahead = [
        ("queued.min.messages", "100"),
        ("queued.max.messages.kbytes", "16"),
        ("fetch.message.max.bytes", "1000"),
    ];
    let properties = ahead.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let log =
        KafkaLog::open(KafkaSettings { partitions: 1, properties, ..settings_of(services) }).await.unwrap();
    let topic = unique(services, "often");
    // Each confirmed before the next, and so a batch of its own: a batch is fetched whole.
    for begin in (0..RECORDS).step_by(20) {
        let records = (begin..begin + 20).map(numbered).collect();
        within(within(log.append(&topic, records)).await.unwrap()).await.unwrap();
    }
    let (mut dropped, mut changed) = (0, 0);
    let begin = Instant::now();
    // Chance may spare one pass through all of it, not many.
    while dropped < OFTEN || changed < OFTEN {
        let mut reader = log.reader(&first(&topic), Offset::ZERO).await.unwrap();
        let (mut read, mut stranded_at) = (0, None);
        while read < RECORDS {
            let so_far =
                || format!("{read} read, {changed} changed, {dropped} dropped, MILLSTREAM_SEED={seed}");
            assert!(begin.elapsed() < PATIENCE, "{}", so_far());
            // Where something was read since the last time: a client that takes long to make would else never come to read.
            if random.u8(..) < 20 && stranded_at != Some(read) {
                stranded_at = Some(read);
                changed += log.0.fetchers.strand();
                // The client's thread hears of it, and reads on meanwhile.
                tokio::time::sleep(LOOK * 6).await;
            }
            let limit = ReadLimit { records: random.usize(1..30), bytes: random.usize(1..2_000) };
            let soon = Duration::from_micros(random.u64(..20_000));
            let Ok(records) = tokio::time::timeout(soon, reader.next(limit)).await else {
                dropped += 1;
                continue;
            };
            for stored in records.unwrap() {
                let (offset, value) = (stored.offset.0, &stored.record.value[..]);
                assert_eq!(
                    (offset, value),
                    (read as i64, read.to_string().as_bytes()),
                    "MILLSTREAM_SEED={seed}"
                );
                read += 1;
            }
        }
    }
}

async fn values(reader: &mut Box<dyn LogReader>, count: usize) -> Vec<String> {
    let mut values = Vec::new();
    while values.len() < count {
        let read = within(reader.next(ALL)).await.unwrap();
        values
            .extend(read.into_iter().map(|stored| String::from_utf8(stored.record.value.to_vec()).unwrap()));
    }
    values
}
