//! How fast it is. Nothing is checked but that it works: run it by hand and read the figures.

use super::{first, settings_of, unique, within};
use crate::api::Log;
use crate::contract::{ALL, record};
use crate::kafka::{KafkaLog, KafkaSettings};
use millstream_model::name::Offset;
use millstream_services::services;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

const RECORDS: usize = 300_000;
const AT_ONCE: usize = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures"]
async fn figures() {
    let Some(services) = services("figures") else { return };
    let log = KafkaLog::open(KafkaSettings { partitions: 1, ..settings_of(services) }).await.unwrap();
    let topic = unique(services, "figures");
    let partition = first(&topic);
    log.partitions(&topic).await.unwrap();
    let one = || record("device-1", &"{\"temp\":21.5,\"hum\":40.25,\"ts\":1700000000000}".repeat(3));

    let mut alone = Vec::new();
    for _ in 0..300 {
        let begin = Instant::now();
        log.append(&topic, vec![one()]).await.unwrap().await.unwrap();
        alone.push(begin.elapsed());
    }
    print("append alone, answered", &mut alone);

    // Appended, read by a reader that waits at the end.
    let next = log.bounds(&partition).await.unwrap().next;
    let mut reader = log.reader(&partition, next).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..300 {
        let begin = Instant::now();
        drop(log.append(&topic, vec![one()]).await.unwrap());
        within(reader.next(ALL)).await.unwrap();
        seen.push(begin.elapsed());
    }
    print("append to read", &mut seen);

    let begin = Instant::now();
    let mut pending = VecDeque::new();
    for _ in 0..RECORDS / AT_ONCE {
        pending.push_back(log.append(&topic, (0..AT_ONCE).map(|_| one()).collect()).await.unwrap());
        while pending.len() > 500
            && let Some(append) = pending.pop_front()
        {
            append.await.unwrap();
        }
    }
    for append in pending {
        append.await.unwrap();
    }
    print_rate("appended", begin.elapsed(), RECORDS);

    let begin = Instant::now();
    let mut reader = log.reader(&partition, Offset::ZERO).await.unwrap();
    let mut records = 0;
    while records < RECORDS + 600 {
        records += within(reader.next(ALL)).await.unwrap().len();
    }
    print_rate("read", begin.elapsed(), records);

    let (mut looked, mut opened) = (Vec::new(), Vec::new());
    for _ in 0..50 {
        let begin = Instant::now();
        let next = log.bounds(&partition).await.unwrap().next;
        looked.push(begin.elapsed());
        let begin = Instant::now();
        let mut reader = log.reader(&partition, Offset(next.0 - 10)).await.unwrap();
        within(reader.next(ALL)).await.unwrap();
        opened.push(begin.elapsed());
    }
    print("bounds", &mut looked);
    print("reader opened, first record", &mut opened);
}

/// How the two settings that decide when a consumer asks again compare: the pause while a reader's queue is full, and how much an answer waits for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures"]
async fn fetch_settings_compared() {
    const ROUNDS: usize = 3;
    let Some(services) = services("fetch_settings_compared") else { return };
    let own = KafkaSettings { partitions: 1, ..settings_of(services) };
    let topic = unique(services, "compared");
    let partition = first(&topic);
    let one = || record("device-1", &"{\"temp\":21.5,\"hum\":40.25,\"ts\":1700000000000}".repeat(3));
    let log = KafkaLog::open(own.clone()).await.unwrap();
    let mut pending = Vec::new();
    for _ in 0..RECORDS / AT_ONCE {
        pending.push(log.append(&topic, (0..AT_ONCE).map(|_| one()).collect()).await.unwrap());
    }
    for append in pending {
        append.await.unwrap();
    }
    let settings =
        [("20", "1"), ("150", "1"), ("1000", "1"), ("20", "65536"), ("150", "65536"), ("1000", "65536")];
    for _ in 0..ROUNDS {
        for (backoff, least) in settings {
            let mut settings = own.clone();
            settings.properties.insert("fetch.queue.backoff.ms".to_owned(), backoff.to_owned());
            settings.properties.insert("fetch.min.bytes".to_owned(), least.to_owned());
            let log = KafkaLog::open(settings).await.unwrap();
            let what = format!("backoff {backoff} ms, least {least} bytes");
            // As fast as it can; and with work between the reads, during which the queue is full.
            for pause in [Duration::ZERO, Duration::from_millis(30)] {
                let begin = Instant::now();
                let mut reader = log.reader(&partition, Offset::ZERO).await.unwrap();
                let mut records = 0;
                while records < RECORDS {
                    records += within(reader.next(ALL)).await.unwrap().len();
                    tokio::time::sleep(pause).await;
                }
                print_rate(&format!("{what}: read, {pause:?} between"), begin.elapsed(), records);
            }
            let next = log.bounds(&partition).await.unwrap().next;
            let mut reader = log.reader(&partition, next).await.unwrap();
            let mut seen = Vec::new();
            for _ in 0..200 {
                let begin = Instant::now();
                drop(log.append(&topic, vec![one()]).await.unwrap());
                within(reader.next(ALL)).await.unwrap();
                seen.push(begin.elapsed());
            }
            print(&format!("{what}: append to read"), &mut seen);
            log.close().await.unwrap();
        }
    }
}

fn print(what: &str, times: &mut [Duration]) {
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!("{what}: p50 {:?}, p99 {:?}, most {:?}", at(50), at(99), at(100));
}

fn print_rate(what: &str, time: Duration, records: usize) {
    println!("{what}: {records} records in {time:?}, {:.0} a second", records as f64 / time.as_secs_f64());
}
