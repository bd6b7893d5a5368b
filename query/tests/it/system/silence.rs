//! Logs that give no answer, as a Kafka that is down: what else can be asked meanwhile.

use super::*;
use async_trait::async_trait;
use millstream_log::{Bounds, LogError, LogReader, Membership, Pending};
use millstream_model::name::{Offset, TopicPartition};
use millstream_model::record::Record;
use millstream_query::{Definitions, QueryErrorKind};
use std::future::pending;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Answers about the topics that it is told, and about no other.
#[derive(Debug)]
struct Silent {
    inner: Arc<dyn Log>,
    answers: Vec<LogTopic>,
    /// A permit for each question without an answer.
    unanswered: Semaphore,
}

impl Silent {
    fn new(river: &River, answers: &[&str]) -> Arc<Self> {
        let answers = answers.iter().map(|name| name.parse::<StreamName>().unwrap().log_topic()).collect();
        Arc::new(Self { inner: Arc::new(river.log.clone()), answers, unanswered: Semaphore::new(0) })
    }

    async fn hear(&self, topic: &LogTopic) {
        if !self.answers.contains(topic) {
            self.unanswered.add_permits(1);
            pending().await
        }
    }
}

#[async_trait]
impl Log for Silent {
    async fn partitions(&self, topic: &LogTopic) -> Result<Vec<TopicPartition>, LogError> {
        self.hear(topic).await;
        self.inner.partitions(topic).await
    }

    async fn existing(&self, topic: &LogTopic) -> Result<Option<Vec<TopicPartition>>, LogError> {
        self.hear(topic).await;
        self.inner.existing(topic).await
    }

    async fn append(&self, topic: &LogTopic, records: Vec<Record>) -> Result<Pending, LogError> {
        self.hear(topic).await;
        self.inner.append(topic, records).await
    }

    async fn reader(&self, partition: &TopicPartition, from: Offset) -> Result<Box<dyn LogReader>, LogError> {
        self.hear(&partition.topic).await;
        self.inner.reader(partition, from).await
    }

    async fn bounds(&self, partition: &TopicPartition) -> Result<Bounds, LogError> {
        self.hear(&partition.topic).await;
        self.inner.bounds(partition).await
    }

    async fn trim(&self, partition: &TopicPartition, before: Offset) -> Result<(), LogError> {
        self.hear(&partition.topic).await;
        self.inner.trim(partition, before).await
    }

    async fn join(&self, topic: &LogTopic, group: &str) -> Result<Box<dyn Membership>, LogError> {
        self.hear(topic).await;
        self.inner.join(topic, group).await
    }
}

/// A session over the river's tables, with streams beside `plant` that have none, and a log that answers about some.
async fn session(river: &River, others: &[&str], log: &Arc<Silent>) -> Arc<Session> {
    let other =
        |name: &&str| Arc::new(Stream { name: name.parse().unwrap(), ..river.stream.as_ref().clone() });
    let mut streams: Vec<Arc<Stream>> = others.iter().map(other).collect();
    streams.push(Arc::clone(&river.stream));
    let definitions = Arc::new(Definitions { streams, ..Definitions::default() });
    let lakehouse = river.lakehouse.clone().with_definitions(definitions).with_log(Arc::clone(log) as _);
    let limits = Limits { parallelism: Some(2), ..Limits::default() };
    Arc::new(Session::open(&lakehouse, limits).await.unwrap())
}

/// Eleven names.
const OTHERS: [&str; 11] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"];

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_silent_log_keeps_nobody_else_waiting() {
    let river = two_flushes().await;
    let log = Silent::new(&river, &[]);
    let session = session(&river, &OTHERS, &log).await;
    let mut questions = JoinSet::new();
    for _ in 0..4 {
        let session = Arc::clone(&session);
        questions.spawn(async move { csv(&session, "select * from system.partitions").await });
    }
    // All four wait for the log now, and there are two places for planning.
    let topics = u32::try_from(OTHERS.len() + 2).unwrap();
    log.unanswered.acquire_many(4 * topics).await.unwrap().forget();
    check(&session, "select 1 as one", "one\n1").await;
    assert!(questions.try_join_next().is_none());
    for found in questions.join_all().await {
        let found = found.unwrap();
        assert_eq!(found.matches("the log did not answer within 5s").count(), OTHERS.len() + 2, "{found}");
    }
}

#[tokio::test(start_paused = true)]
async fn all_streams_of_a_silent_log_are_told_of_at_once() {
    let river = two_flushes().await;
    let log = Silent::new(&river, &[]);
    let session = session(&river, &OTHERS, &log).await;
    let began = Instant::now();
    check(
        &session,
        "select stream, partition, committed_offset, lag_messages, problem is not null as told from system.partitions where stream in ('k', 'plant')",
        "stream,partition,committed_offset,lag_messages,told\nk,,,,true\nplant,0,4,,true",
    )
    .await;
    check(&session, "select count(problem) as n from system.partitions", "n\n13").await;
    // Five seconds each time.
    assert!(began.elapsed() < Duration::from_secs(11), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_names_of_tables_need_no_log() {
    let river = two_flushes().await;
    let log = Silent::new(&river, &[]);
    let session = session(&river, &["other"], &log).await;
    let began = Instant::now();
    let found = csv(&session, "show tables").await.unwrap();
    for listed in ["ingestion,other", "ingestion,plant", "ingestion,quarantine", "system,devices"] {
        assert!(found.lines().any(|line| line == listed), "{found}");
    }
    assert_eq!((began.elapsed(), log.unanswered.available_permits()), (Duration::ZERO, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_cannot_be_asked_is_an_error_for_who_asks_it_and_does_not_hide_others() {
    let river = two_flushes().await;
    let log = Silent::new(&river, &["plant"]);
    let session = session(&river, &OTHERS, &log).await;
    let began = Instant::now();
    let why = "read what waits in the log for a: it gave no answer in 10 s";
    for sql in [
        "select * from system.devices where last_seen < now() - interval '1 hour'",
        "select sum(readings) from system.devices where stream in ('a', 'plant')",
    ] {
        let error = session.query(sql).await.unwrap().collect().await.unwrap_err();
        assert_eq!(error.kind(), QueryErrorKind::Storage, "as of who asks the stream itself: {error:?}");
        assert!(error.to_string().contains(why), "{sql}: {error}");
        let way_out = "leave them out with: where stream <> 'a'";
        assert!(error.hints().iter().any(|hint| hint.contains(way_out)), "{sql}: {error:?}");
    }
    check(
        &session,
        "select device_id, readings from system.devices where stream = 'plant' order by 1",
        "device_id,readings\nd1,2\nd2,2",
    )
    .await;
    check(
        &session,
        &format!("select table_name, column_name, position, required, problem like '{why}%' as told from system.columns where table_name in ('a', 'plant') and position is distinct from 2 limit 2"),
        "table_name,column_name,position,required,told\na,,,,true\nplant,ts,1,false,",
    )
    .await;
    assert!(began.elapsed() < Duration::from_secs(41), "{:?}", began.elapsed());
}
