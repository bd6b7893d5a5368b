//! What every log promises, as tests that every implementation runs.

use crate::api::{Bounds, Log, LogReader, Pending, ReadLimit};
use crate::error::LogError;
use async_trait::async_trait;
use bytes::Bytes;
use millstream_model::name::{LogTopic, Offset, Partition, TopicPartition};
use millstream_model::record::{Position, Record, Stored};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// An implementation under test.
#[async_trait]
pub(crate) trait Subject: Sync {
    /// The log; where it was open before, it is closed and opened again on the same storage.
    async fn reopen(&self) -> Arc<dyn Log>;
    /// How many partitions its topics have.
    fn partitions(&self) -> usize;
    /// The largest record that it takes, as [`Record::size`] counts.
    fn record_max(&self) -> usize;
    /// A topic that nobody else uses.
    fn topic(&self, name: &str) -> LogTopic {
        topic(name)
    }
}

/// Runs the whole suite. Each promise has a topic of its own.
pub(crate) async fn check(subject: &dyn Subject) {
    looking_makes_no_topic(subject).await;
    a_new_topic_has_empty_partitions(subject).await;
    records_come_back_as_they_were_appended(subject).await;
    order_is_the_order_of_the_calls(subject).await;
    a_key_has_one_partition(subject).await;
    each_of_many_appenders_keeps_its_order(subject).await;
    a_reader_waits_and_may_be_cancelled(subject).await;
    a_read_keeps_to_its_limit(subject).await;
    an_append_that_is_not_awaited_is_appended(subject).await;
    a_record_that_is_too_large_leaves_nothing(subject).await;
    a_reader_begins_only_where_records_are_or_will_be(subject).await;
    offsets_survive_trimming_and_reopening(subject).await;
    the_only_member_of_a_group_has_all_partitions(subject).await;
}

pub(crate) const ALL: ReadLimit = ReadLimit { records: usize::MAX, bytes: usize::MAX };

pub(crate) fn topic(name: &str) -> LogTopic {
    format!("millstream.{name}").parse().unwrap()
}

pub(crate) fn record(key: &str, value: &str) -> Record {
    Record {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        headers: Vec::new(),
    }
}

pub(crate) async fn append(log: &dyn Log, topic: &LogTopic, records: Vec<Record>) -> Vec<Position> {
    log.append(topic, records).await.unwrap().await.unwrap()
}

/// All that is in a partition between its bounds, read in one go.
pub(crate) async fn read_all(log: &dyn Log, partition: &TopicPartition) -> Result<Vec<Stored>, LogError> {
    let Bounds { first, next } = log.bounds(partition).await?;
    let mut reader = log.reader(partition, first).await?;
    let mut records = Vec::new();
    while records.last().map_or(first, |last: &Stored| last.offset.next()) < next {
        records.extend(reader.next(ALL).await?);
    }
    let offsets: Vec<_> = records.iter().map(|stored| stored.offset.0).collect();
    assert_eq!(offsets, (first.0..next.0).collect::<Vec<_>>(), "the offsets rise by one");
    Ok(records)
}

/// A partition whose records a test can tell apart, and a key that goes there.
async fn one_partition(log: &dyn Log, topic: &LogTopic) -> TopicPartition {
    let position = append(log, topic, vec![record("device", "the first")]).await[0];
    assert_eq!(position.offset, Offset::ZERO, "offsets begin at 0");
    TopicPartition { topic: topic.clone(), partition: position.partition }
}

async fn looking_makes_no_topic(subject: &dyn Subject) {
    let log = subject.reopen().await;
    let topic = subject.topic("looked");
    for _ in 0..2 {
        assert_eq!(log.existing(&topic).await.unwrap(), None);
    }
    let partitions = log.partitions(&topic).await.unwrap();
    assert_eq!(log.existing(&topic).await.unwrap(), Some(partitions));
}

async fn a_new_topic_has_empty_partitions(subject: &dyn Subject) {
    let log = subject.reopen().await;
    let topic = subject.topic("empty");
    let partitions = log.partitions(&topic).await.unwrap();
    let numbers: Vec<_> = partitions.iter().map(|name| name.partition).collect();
    assert_eq!(numbers, (0..subject.partitions() as i32).map(Partition).collect::<Vec<_>>());
    for partition in &partitions {
        assert_eq!(log.bounds(partition).await.unwrap(), Bounds { first: Offset::ZERO, next: Offset::ZERO });
        log.reader(partition, Offset::ZERO).await.unwrap();
    }
    assert_eq!(append(&*log, &topic, Vec::new()).await, Vec::new(), "nothing to append is appended at once");
}

async fn records_come_back_as_they_were_appended(subject: &dyn Subject) {
    let log = subject.reopen().await;
    let topic = subject.topic("equal");
    let header = |name: &str, value: &'static [u8]| (name.to_owned(), Bytes::from_static(value));
    let records = vec![
        record("device", ""),
        Record {
            key: Bytes::from_static(b"device"),
            value: Bytes::from((0..=255).collect::<Vec<u8>>()),
            headers: Vec::new(),
        },
        Record {
            key: Bytes::from_static(b"device"),
            value: Bytes::from(vec![7; 70_000]),
            headers: vec![header("a", b"1"), header("", b""), header("a", b"\xff\x00"), header("ü", b"2")],
        },
    ];
    let positions = append(&*log, &topic, records.clone()).await;
    assert_eq!(positions.iter().map(|position| position.offset.0).collect::<Vec<_>>(), [0, 1, 2]);
    let partition = TopicPartition { topic, partition: positions[0].partition };
    for log in [log, subject.reopen().await] {
        let read: Vec<_> =
            read_all(&*log, &partition).await.unwrap().into_iter().map(|stored| stored.record).collect();
        assert_eq!(read, records);
    }
    let log = subject.reopen().await;
    let nameless = append(&*log, &partition.topic, vec![record("", "no key")]).await;
    assert_eq!(nameless.len(), 1);
}

async fn order_is_the_order_of_the_calls(subject: &dyn Subject) {
    let log = subject.reopen().await;
    let topic = subject.topic("order");
    let mut pending: Vec<Pending> = Vec::new();
    for number in 0..300 {
        let records = (0..number % 4).map(|part| record("device", &format!("{number}.{part}"))).collect();
        pending.push(log.append(&topic, records).await.unwrap());
    }
    // Awaited backwards: the order of the answers does not matter.
    let mut positions = BTreeMap::new();
    for (number, pending) in pending.into_iter().enumerate().rev() {
        positions.insert(number, pending.await.unwrap());
    }
    let expected: Vec<_> =
        (0..300).flat_map(|number| (0..number % 4).map(move |part| format!("{number}.{part}"))).collect();
    let offsets: Vec<_> = positions.values().flatten().map(|position| position.offset.0).collect();
    assert_eq!(offsets, (0..expected.len() as i64).collect::<Vec<_>>());
    let partition = TopicPartition { topic, partition: positions[&1][0].partition };
    let read: Vec<_> =
        read_all(&*log, &partition).await.unwrap().into_iter().map(|stored| stored.record.value).collect();
    assert_eq!(read, expected);
}

async fn a_key_has_one_partition(subject: &dyn Subject) {
    let log = subject.reopen().await;
    let topic = subject.topic("keys");
    let keys: Vec<_> = (0..64).map(|number| format!("device-{number}")).collect();
    let records = || keys.iter().map(|key| record(key, "x")).collect();
    let partitions = |positions: Vec<Position>| {
        positions.into_iter().map(|position| position.partition).collect::<Vec<_>>()
    };
    let once = partitions(append(&*log, &topic, records()).await);
    let log = subject.reopen().await;
    assert_eq!(partitions(append(&*log, &topic, records()).await), once);
    assert_eq!(once.iter().collect::<BTreeSet<_>>().len(), subject.partitions(), "all partitions are used");
}

async fn each_of_many_appenders_keeps_its_order(subject: &dyn Subject) {
    const APPENDERS: usize = 16;
    const EACH: usize = 100;
    let log = subject.reopen().await;
    let topic = subject.topic("many");
    let mut appenders = JoinSet::new();
    for appender in 0..APPENDERS {
        let (log, topic) = (Arc::clone(&log), topic.clone());
        appenders.spawn(async move {
            let key = format!("device-{appender}");
            let mut pending = Vec::new();
            for number in 0..EACH {
                pending.push(log.append(&topic, vec![record(&key, &number.to_string())]).await.unwrap());
            }
            for pending in pending {
                assert_eq!(pending.await.unwrap().len(), 1);
            }
        });
    }
    while let Some(done) = appenders.join_next().await {
        done.unwrap();
    }
    let mut orders: BTreeMap<Bytes, Vec<Bytes>> = BTreeMap::new();
    for partition in log.partitions(&topic).await.unwrap() {
        for Stored { record, .. } in read_all(&*log, &partition).await.unwrap() {
            orders.entry(record.key).or_default().push(record.value);
        }
    }
    assert_eq!(orders.len(), APPENDERS);
    for (key, order) in orders {
        assert_eq!(order, (0..EACH).map(|number| number.to_string()).collect::<Vec<_>>(), "{key:?}");
    }
}

async fn a_reader_waits_and_may_be_cancelled(subject: &dyn Subject) {
    let log = subject.reopen().await;
    let topic = subject.topic("waiting");
    let partition = one_partition(&*log, &topic).await;
    let mut reader = log.reader(&partition, Offset(1)).await.unwrap();
    tokio::select! {
        biased;
        records = reader.next(ALL) => panic!("there is nothing to read: {records:?}"),
        () = tokio::task::yield_now() => {}
    }
    let (read, position) =
        tokio::join!(reader.next(ALL), append(&*log, &topic, vec![record("device", "the second")]));
    let read: Vec<_> = read.unwrap().into_iter().map(|stored| (stored.offset, stored.record)).collect();
    assert_eq!(read, [(position[0].offset, record("device", "the second"))]);
    // A call that is dropped while it reads has taken nothing.
    append(&*log, &topic, vec![record("device", "the third")]).await;
    for _ in 0..20 {
        let mut polled = Box::pin(reader.next(ALL));
        let poll =
            std::future::poll_fn(|context| std::task::Poll::Ready(polled.as_mut().poll(context))).await;
        drop(polled);
        if let std::task::Poll::Ready(records) = poll {
            assert_eq!(records.unwrap()[0].offset, Offset(2));
            return;
        }
    }
    assert_eq!(reader.next(ALL).await.unwrap()[0].offset, Offset(2));
}

async fn a_read_keeps_to_its_limit(subject: &dyn Subject) {
    let log = subject.reopen().await;
    let topic = subject.topic("limits");
    let partition = one_partition(&*log, &topic).await;
    append(&*log, &topic, (1..10).map(|number| record("device", &number.to_string())).collect()).await;
    let size = record("device", "1").size();
    let check = async |records, bytes, expected: &[i64]| {
        let mut reader: Box<dyn LogReader> = log.reader(&partition, Offset(1)).await.unwrap();
        let mut offsets: Vec<i64> = Vec::new();
        for _ in expected {
            let read = reader.next(ReadLimit { records, bytes }).await.unwrap();
            offsets.push(read.len() as i64);
        }
        assert_eq!(offsets, expected, "{records} records, {bytes} bytes");
    };
    check(4, usize::MAX, &[4, 4, 1]).await;
    check(100, 2 * size, &[2, 2, 2, 2, 1]).await;
    check(100, 2 * size - 1, &[1, 1]).await;
    check(1, 1, &[1, 1]).await;
    check(100, 0, &[1, 1]).await;
}

async fn an_append_that_is_not_awaited_is_appended(subject: &dyn Subject) {
    let log = subject.reopen().await;
    let topic = subject.topic("unawaited");
    let partition = one_partition(&*log, &topic).await;
    // Dropped before it was ever polled: nothing is appended.
    drop(log.append(&topic, vec![record("device", "never")]));
    drop(log.append(&topic, vec![record("device", "the second")]).await.unwrap());
    append(&*log, &topic, vec![record("device", "the third")]).await;
    let read: Vec<_> =
        read_all(&*log, &partition).await.unwrap().into_iter().map(|stored| stored.record.value).collect();
    assert_eq!(read, ["the first", "the second", "the third"]);
}

async fn a_record_that_is_too_large_leaves_nothing(subject: &dyn Subject) {
    let log = subject.reopen().await;
    let topic = subject.topic("large");
    let partition = one_partition(&*log, &topic).await;
    let max = subject.record_max();
    let fits = record("device", &"x".repeat(max - record("device", "").size()));
    let larger = record("device", &"x".repeat(max + 1 - record("device", "").size()));
    let refused = log.append(&topic, vec![record("device", "with it"), larger]).await;
    assert!(
        matches!(refused, Err(LogError::TooLarge { size, limit }) if size == max + 1 && limit == max),
        "{refused:?}"
    );
    assert_eq!(log.bounds(&partition).await.unwrap().next, Offset(1));
    append(&*log, &topic, vec![fits.clone()]).await;
    assert_eq!(read_all(&*log, &partition).await.unwrap()[1].record, fits);
}

async fn a_reader_begins_only_where_records_are_or_will_be(subject: &dyn Subject) {
    let log = subject.reopen().await;
    let partition = one_partition(&*log, &subject.topic("begin")).await;
    let beyond = log.reader(&partition, Offset(2)).await;
    assert!(
        matches!(beyond, Err(LogError::BeyondEnd { wanted: Offset(2), next: Offset(1), .. })),
        "{beyond:?}"
    );
    let none = TopicPartition { partition: Partition(subject.partitions() as i32), ..partition };
    assert!(log.bounds(&none).await.is_err());
    assert!(log.reader(&none, Offset::ZERO).await.is_err());
}

async fn offsets_survive_trimming_and_reopening(subject: &dyn Subject) {
    let mut log = subject.reopen().await;
    let topic = subject.topic("trimmed");
    let partition = one_partition(&*log, &topic).await;
    for next in 1..40 {
        let value = format!("{next}:{}", "x".repeat(100));
        assert_eq!(append(&*log, &topic, vec![record("device", &value)]).await[0].offset, Offset(next));
        if next % 10 == 0 {
            let before = Offset(if next % 20 == 0 { next + 1 } else { next - 5 });
            log.trim(&partition, before).await.unwrap();
            let bounds = log.bounds(&partition).await.unwrap();
            assert!(bounds.first <= before && bounds.next == Offset(next + 1), "{bounds:?}");
            if let Some(gone) = bounds.first.0.checked_sub(1).filter(|gone| *gone >= 0) {
                let trimmed = log.reader(&partition, Offset(gone)).await;
                assert!(
                    matches!(trimmed, Err(LogError::Trimmed { first, .. }) if first == bounds.first),
                    "{trimmed:?}"
                );
            }
            log = subject.reopen().await;
            assert_eq!(
                log.bounds(&partition).await.unwrap().next,
                Offset(next + 1),
                "the next offset is never forgotten"
            );
        }
        for stored in
            read_all(&*log, &partition).await.unwrap().iter().filter(|stored| stored.offset > Offset::ZERO)
        {
            assert!(stored.record.value.starts_with(format!("{}:", stored.offset).as_bytes()));
        }
    }
}

/// How long a group may take to deal.
const DEALT_WITHIN: Duration = Duration::from_secs(120);

async fn the_only_member_of_a_group_has_all_partitions(subject: &dyn Subject) {
    let log = subject.reopen().await;
    let topic = subject.topic("group");
    let partitions = log.partitions(&topic).await.unwrap();
    // The second time the group knows a member that has left.
    for next in [Offset(0), Offset(1)] {
        let mut membership = log.join(&topic, "contract").await.unwrap();
        let mut share = membership.next().await.unwrap();
        // The group may hear that one has left only after the other has come.
        while next > Offset::ZERO && share.partitions != partitions {
            drop(share);
            let dealt = timeout(DEALT_WITHIN, membership.next()).await;
            share = dealt.unwrap_or_else(|_| panic!("not all of {partitions:?} were dealt in time")).unwrap();
        }
        assert_eq!(share.partitions, partitions);
        membership.committed(&partitions[0], next);
        tokio::select! {
            biased;
            share = membership.next() => panic!("nothing changed: {share:?}"),
            () = tokio::task::yield_now() => {}
        }
        drop(share);
    }
    assert_eq!(log.bounds(&partitions[0]).await.unwrap().next, Offset::ZERO, "a group appends nothing");
}
