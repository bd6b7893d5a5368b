//! On a real Kafka: workers that share a topic out, and topics that were trimmed, or deleted and made anew.

use super::read;
use crate::firehose::claim;
use crate::firehose::commit::flush;
use crate::firehose::work::{Duty, Fence, Step, Work};
use crate::firehose::{
    Closed, FirehoseError, GapReason, NoticeRule, Phase, Settings, Status, TrimRule, gaps,
};
use crate::simulation::world::{World, message, origins, stream};
use millstream_lake::{Bucket, Table};
use millstream_log::Log;
use millstream_log::kafka::{KafkaLog, KafkaSettings};
use millstream_model::name::{LogTopic, Offset, Partition, QUARANTINE, TopicPartition};
use millstream_model::stream::{CloseRule, Stream};
use millstream_services::{Services, services};
use object_store::memory::InMemory;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const FILES: CloseRule =
    CloseRule { after: Duration::from_secs(1), size: 128 * 1024, idle: Duration::from_millis(300) };

/// A stream with a topic of its own on Kafka, and tables in memory.
struct River {
    services: &'static Services,
    partitions: u16,
    stream: Arc<Stream>,
    ingestion: Bucket,
}

impl River {
    fn new(services: &'static Services, partitions: u16) -> Self {
        let name = services.unique("firehose").replace('-', "_").parse().unwrap();
        let ingestion = World::bucket(Arc::new(InMemory::new()));
        Self { services, partitions, stream: Arc::new(Stream { name, ..stream(FILES) }), ingestion }
    }

    fn topic(&self) -> LogTopic {
        self.stream.name.log_topic()
    }

    async fn open(&self) -> KafkaLog {
        let settings = KafkaSettings {
            partitions: self.partitions,
            session_timeout: Duration::from_secs(6),
            ..KafkaSettings::new(self.services.kafka.clone())
        };
        KafkaLog::open(settings).await.unwrap()
    }

    fn work(&self, log: &KafkaLog, shutdown: CancellationToken) -> (Work, watch::Receiver<Status>) {
        let (status, seen) = watch::channel(Status::default());
        let settings = Settings {
            notices: NoticeRule::Store,
            group: self.stream.name.to_string(),
            ..Settings::default()
        };
        let (duty, log) = (Duty::Stream(Arc::clone(&self.stream)), Arc::new(log.clone()));
        let ingestion = self.ingestion.clone();
        (Work { settings, duty, log, ingestion, shutdown, status, fence: Fence::Checked }, seen)
    }

    /// Commits what the log holds, or says why not.
    async fn drain(&self, log: &KafkaLog, accept_gap: bool) -> Result<(), FirehoseError> {
        let stopped = CancellationToken::new();
        stopped.cancel();
        let (mut work, _seen) = self.work(log, stopped);
        work.settings.accept_gap = accept_gap;
        work.run().await
    }

    /// A tenth of them cannot be readings.
    async fn send(&self, log: &KafkaLog, numbers: std::ops::Range<i64>) {
        for chunk in numbers.collect::<Vec<_>>().chunks(500) {
            let records = chunk.iter().map(|number| {
                let payload =
                    if number % 10 == 9 { "broken".to_owned() } else { format!(r#"{{"temp":{number}}}"#) };
                message(&format!("d{}", number % 50), &payload, *number)
            });
            log.append(&self.topic(), records.collect()).await.unwrap().await.unwrap();
        }
    }

    fn first(&self) -> TopicPartition {
        TopicPartition { topic: self.topic(), partition: Partition(0) }
    }

    async fn rows(&self) -> (usize, usize) {
        let readings = origins(&self.ingestion, self.stream.name.as_str()).await.len();
        (readings, origins(&self.ingestion, QUARANTINE).await.len())
    }

    async fn gaps(&self) -> Vec<(i64, Option<i64>, GapReason)> {
        let table = Table::open(&self.ingestion, self.stream.name.as_str()).await.unwrap().unwrap();
        let all = gaps(&table.snapshot().await.unwrap());
        all.into_iter().map(|gap| (gap.first.0, gap.last.map(|last| last.0), gap.why)).collect()
    }

    /// Deletes the topic and makes it anew, as somebody else would do. What is open stays with the topic that was.
    async fn recreate(&self) -> KafkaLog {
        let admin: AdminClient<_> =
            ClientConfig::new().set("bootstrap.servers", &self.services.kafka).create().unwrap();
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
        for deleted in admin.delete_topics(&[self.topic().as_str()], &options).await.unwrap() {
            deleted.unwrap();
        }
        let log = self.open().await;
        // The controller has deleted it; a broker may still show it for a moment.
        while log.existing(&self.topic()).await.unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        log.partitions(&self.topic()).await.unwrap();
        log
    }
}

/// Every offset of the topic stands exactly once in the table or in quarantine.
async fn assert_each_once(river: &River, log: &KafkaLog) {
    let mut expected = BTreeSet::new();
    for partition in log.partitions(&river.topic()).await.unwrap() {
        let next = log.bounds(&partition).await.unwrap().next;
        expected.extend((0..next.0).map(|offset| (partition.partition, Offset(offset), 0)));
    }
    let mut found = origins(&river.ingestion, river.stream.name.as_str()).await;
    found.extend(origins(&river.ingestion, QUARANTINE).await);
    assert_eq!(found.len(), expected.len(), "rows");
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_firehoses_share_a_topic_and_one_goes_on_when_the_other_is_dropped() {
    let Some(services) = services("two firehoses share a topic") else { return };
    let river = River::new(services, 4);
    let (one, other, sender) = (river.open().await, river.open().await, river.open().await);
    river.send(&sender, 0..4_000).await;
    let stop = CancellationToken::new();
    let mut staying = JoinSet::new();
    let (mut work, mut seen) = river.work(&one, stop.clone());
    work.settings.trim = TrimRule::AfterCommit;
    staying.spawn(work.run());
    let mut dropped = JoinSet::new();
    let (mut work, mut seen_other) = river.work(&other, CancellationToken::new());
    work.settings.trim = TrimRule::AfterCommit;
    dropped.spawn(work.run());
    let half = |status: &Status| status.phase == Phase::Running && status.partitions.len() == 2;
    seen.wait_for(half).await.unwrap();
    seen_other.wait_for(half).await.unwrap();
    river.send(&sender, 4_000..12_000).await;
    // Midway: it has committed something of its share, and reads on.
    let before = seen_other.borrow().totals.messages;
    river.send(&sender, 12_000..14_000).await;
    seen_other.wait_for(|status| status.totals.messages > before).await.unwrap();
    river.send(&sender, 14_000..16_000).await;
    dropped.shutdown().await;
    drop(other);
    river.send(&sender, 16_000..20_000).await;
    seen.wait_for(|status| status.phase == Phase::Running && status.partitions.len() == 4).await.unwrap();
    stop.cancel();
    staying.join_next().await.unwrap().unwrap().unwrap();
    assert_each_once(&river, &sender).await;
    assert_eq!(river.rows().await, (18_000, 2_000));
    assert!(seen.borrow().incidents.rebalances > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_was_trimmed_too_far_is_a_gap_which_can_be_accepted() {
    let Some(services) = services("a trimmed topic is a gap") else { return };
    let river = River::new(services, 1);
    let log = river.open().await;
    river.send(&log, 0..100).await;
    river.drain(&log, false).await.unwrap();
    river.send(&log, 100..200).await;
    log.trim(&river.first(), Offset(150)).await.unwrap();
    let refused = river.drain(&log, false).await.unwrap_err();
    let wanted = Offset(100);
    assert!(matches!(&refused, FirehoseError::Gap { wanted: at, .. } if *at == wanted), "{refused:?}");
    assert!(refused.to_string().contains(&format!("`millstream up --accept-gap {}`", river.stream.name)));
    river.drain(&log, true).await.unwrap();
    assert_eq!(river.gaps().await, [(100, Some(149), GapReason::Trimmed)]);
    assert_eq!(river.rows().await, (135, 15));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_was_made_anew_is_recognised_whether_it_is_shorter_or_longer() {
    let Some(services) = services("a recreated topic is recognised") else { return };
    for messages in [40, 300] {
        let river = River::new(services, 1);
        let log = river.open().await;
        river.send(&log, 0..100).await;
        river.drain(&log, false).await.unwrap();
        drop(log);
        let log = river.recreate().await;
        river.send(&log, 1_000..1_000 + messages).await;
        let refused = river.drain(&log, false).await.unwrap_err();
        let told = match &refused {
            FirehoseError::OtherLog { next, .. } => messages == 40 && next.0 == 40,
            FirehoseError::OtherRecord { committed, .. } => messages == 300 && committed.0 == 99,
            _ => false,
        };
        assert!(told, "{messages}: {refused:?}");
        assert_eq!(river.rows().await, (90, 10));
        river.drain(&log, true).await.unwrap();
        assert_eq!(river.gaps().await, [(100, None, GapReason::OtherLog)]);
        let new = usize::try_from(messages).unwrap();
        assert_eq!(river.rows().await, (90 + new * 9 / 10, 10 + new / 10));
        river.drain(&log, false).await.unwrap();
        assert_eq!(river.rows().await, (90 + new * 9 / 10, 10 + new / 10));
    }
}

/// The worker runs on meanwhile, with readers that stand in the middle of the topic that was. It commits nothing of the other one, and ends when it has seen it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_made_anew_under_a_running_worker_is_refused_by_it() {
    let Some(services) = services("a topic is recreated under a running firehose") else { return };
    let river = River::new(services, 1);
    let log = river.open().await;
    river.send(&log, 0..100).await;
    let (work, mut seen) = river.work(&log, CancellationToken::new());
    let mut tasks = JoinSet::new();
    tasks.spawn(work.run());
    seen.wait_for(|status| status.totals.messages == 100).await.unwrap();
    let anew = river.recreate().await;
    river.send(&anew, 1_000..1_300).await;
    // For a while its log may not find the topic, and says so in the status.
    let ended = tokio::time::timeout(Duration::from_secs(180), tasks.join_next()).await.unwrap();
    let refused = ended.unwrap().unwrap().unwrap_err();
    let told = match refused {
        FirehoseError::OtherRecord { committed: Offset(99), .. } => true,
        // It looked before so many were sent again.
        FirehoseError::OtherLog { next, .. } => next < Offset(100),
        _ => false,
    };
    assert!(told, "{refused:?}");
    assert_eq!(river.rows().await, (90, 10));
}

/// What is in the buffer was read before the topic was made anew, and the other one is long enough to have these offsets: only a second look tells them apart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_read_of_a_topic_that_was_made_anew_since_is_not_committed() {
    let Some(services) = services("a topic is recreated before a commit") else { return };
    for committed in [0, 100] {
        let river = River::new(services, 1);
        let log = river.open().await;
        river.send(&log, 0..committed).await;
        river.drain(&log, false).await.unwrap();
        river.send(&log, 100..150).await;
        let (work, _seen) = river.work(&log, CancellationToken::new());
        let partitions = log.partitions(&river.topic()).await.unwrap();
        let Step::Done(mut owned) = claim::own(&work, &partitions, None).await.unwrap() else { panic!() };
        read(&work, &mut owned).await;
        let anew = river.recreate().await;
        river.send(&anew, 1_000..1_300).await;
        let (_, batch) = owned.buffer.finish();
        assert_eq!(batch.ranges[0].messages, 50);
        let flushed = flush(&work, &mut owned.claim, batch, Closed::Age).await.unwrap();
        assert!(
            matches!(&flushed, Step::Lost(why) if why.contains("is another one than it was")),
            "{flushed:?}"
        );
        let before = usize::try_from(committed).unwrap();
        assert_eq!(river.rows().await, (before * 9 / 10, before / 10));
    }
}
