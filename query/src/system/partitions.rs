//! `system.partitions`: how far each partition of each stream's log topic is committed, and what waits there.
//!
//! What is committed comes from the table, which every process can read; what waits comes from the log, where this process has one. Looking makes no topic.

use super::definition::Kind::{Count, Instant, Number, Text};
use super::definition::{Column, Contents, Definition, column};
use super::rows::{Rows, count, instant, instant_of_millis, number, text};
use super::streams::committed_at;
use super::surroundings::{Found, LOOKS_AT_ONCE, Place, Surroundings, chain, external};
use super::wanted::Wanted;
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use millstream_lake::{Snapshot, ledger};
use millstream_log::{Bounds, Log, LogError, ReadLimit};
use millstream_model::name::{LogTopic, Offset, Partition, QUARANTINE, StreamName, TopicPartition, UNROUTED};
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// How long the log may take to say where a partition stands. Who asks for many partitions wants to see those that answer.
const LOG_WAIT: Duration = Duration::from_secs(5);

/// Questions that the log is asked at a time, of all streams together: each may take a connection, or a thread.
const ASKED_AT_ONCE: usize = 16;

/// Most of a record that is read to see when it came; a larger one is read whole.
const RECORD_BYTES: usize = 64 << 10;

const COLUMNS: [Column; 11] = [
    column("stream", Text, "the stream; `unrouted` for messages that no stream claims"),
    column("log_topic", Text, "its topic of the log"),
    column("partition", Count, "the partition; null where it is not even known which there are"),
    column(
        "first_offset",
        Count,
        "the oldest offset that the log still has; null, as all that comes from the log, where this process has no log or it does not answer",
    ),
    column(
        "committed_offset",
        Count,
        "the last offset that has an outcome in the tables; null while none has",
    ),
    column("next_offset", Count, "the offset that the next message will get"),
    column("lag_messages", Count, "how many messages have no outcome in the tables yet"),
    column(
        "freshness_seconds",
        Number,
        "how old what the tables show is: how long the oldest of those has waited; 0 if none waits",
    ),
    column(
        "last_commit",
        Instant,
        "when the commit was made that last decided about the partition; null where that commit was cleaned away",
    ),
    column(
        "newest_ts",
        Instant,
        "the latest event time of its committed readings, or the arrival of the last message of a commit without any, as far as commits say",
    ),
    column("problem", Text, "why the table or the log could not be asked; null if they could"),
];

pub(super) const DEFINITION: Definition =
    Definition { name: "partitions", columns: &COLUMNS, keys: 1, contents: Contents::Listing(rows) };

fn rows<'a>(
    surroundings: &'a Surroundings,
    wanted: &'a Wanted,
    rows: &'a mut Rows,
) -> BoxFuture<'a, Result<()>> {
    async move {
        let mut names = Vec::new();
        for name in surroundings.stream_names().await?.into_iter().chain([UNROUTED]) {
            // A table that could not be a stream's has no topic.
            if wanted.about([name])?
                && let Ok(stream) = name.parse::<StreamName>()
            {
                names.push((name.to_owned(), stream.log_topic()));
            }
        }
        let asking = &Asking { surroundings, wanted, turns: Semaphore::new(ASKED_AT_ONCE) };
        // Several at a time: where the log is silent, each takes as long as it may.
        let asked =
            stream::iter(names).map(|(name, topic)| async move { of_stream(asking, &name, &topic).await });
        let mut asked = asked.buffered(LOOKS_AT_ONCE);
        while let Some(found) = asked.try_next().await? {
            for row in found {
                rows.push(row)?;
            }
        }
        Ok(())
    }
    .boxed()
}

/// What all partitions of one listing are asked with.
struct Asking<'a> {
    surroundings: &'a Surroundings,
    wanted: &'a Wanted,
    /// Never closed.
    turns: Semaphore,
}

/// Why the log does not say what it was asked.
#[derive(Debug)]
enum Refusal {
    Failed(String),
    Silent,
}

impl Asking<'_> {
    /// What the log says.
    async fn of<T>(&self, asked: impl Future<Output = Result<T, LogError>>) -> Result<T, Refusal> {
        let _turn = self.turns.acquire().await;
        match timeout(LOG_WAIT, asked).await {
            Ok(answer) => answer.map_err(|error| Refusal::Failed(chain(&error))),
            Err(_elapsed) => Err(Refusal::Silent),
        }
    }
}

impl Refusal {
    fn problem(&self) -> String {
        match self {
            Self::Failed(why) => why.clone(),
            Self::Silent => format!("the log did not answer within {LOG_WAIT:?}"),
        }
    }
}

async fn of_stream(
    asking: &Asking<'_>,
    name: &str,
    topic: &LogTopic,
) -> Result<Vec<[ScalarValue; COLUMNS.len()]>> {
    let (surroundings, wanted) = (asking.surroundings, asking.wanted);
    let table = if name == UNROUTED { QUARANTINE } else { name };
    // The table before the log: so what is committed meanwhile seems to wait, and nothing is committed that is not in the log.
    let (found, unread) = match surroundings.look(Place::Ingestion, table).await {
        Ok(found) => (found, None),
        Err(error) => (None, Some(chain(&error))),
    };
    let (partitions, refusal) = partitions(asking, topic, &found).await;
    let problem = unread.or_else(|| refusal.as_ref().map(Refusal::problem));
    let committed_at = match &found {
        Some((table, snapshot)) if wanted.reads(["last_commit"]) => {
            commit_times(table, snapshot, &partitions).await?
        }
        _ => HashMap::new(),
    };
    let snapshot = found.as_ref().map(|(_, snapshot)| snapshot.as_ref());
    // A log that has not said which there are does not say of each, either, and each would take as long.
    let silent = matches!(refusal, Some(Refusal::Silent));
    let states = stream::iter(partitions).map(|partition| async move {
        let committed = snapshot.and_then(|snapshot| ledger::committed(snapshot, &partition));
        let standing = match silent {
            true => Standing::default(),
            false => standing(asking, &partition, committed).await,
        };
        (Some(partition), committed, standing)
    });
    let mut states: Vec<_> = states.buffered(ASKED_AT_ONCE).collect().await;
    if states.is_empty() && problem.is_some() {
        states.push((None, None, Standing::default()));
    }
    let row = |(partition, committed, standing): (Option<TopicPartition>, Option<Offset>, Standing)| {
        let Standing { bounds, waiting, problem: own_problem } = standing;
        let partition = partition.as_ref();
        let last_commit = partition.and_then(|partition| committed_at.get(&partition.partition));
        [
            text(Some(name)),
            text(Some(topic.as_str())),
            count(partition.map(|partition| i64::from(partition.partition.0))),
            count(bounds.map(|bounds| bounds.first.0)),
            count(committed.map(|offset| offset.0)),
            count(bounds.map(|bounds| bounds.next.0)),
            count(bounds.map(|bounds| lag(bounds, committed))),
            number(waiting),
            instant_of_millis(last_commit.copied().unwrap_or(0)),
            instant(snapshot.zip(partition).and_then(|(snapshot, partition)| passed(snapshot, partition))),
            text(own_problem.or_else(|| problem.clone())),
        ]
    };
    Ok(states.into_iter().map(row).collect())
}

/// The partitions that the table or the log knows, and why the log could not say.
async fn partitions(
    asking: &Asking<'_>,
    topic: &LogTopic,
    found: &Found,
) -> (Vec<TopicPartition>, Option<Refusal>) {
    let mut numbers = BTreeSet::new();
    if let Some((_, snapshot)) = found {
        let epoch = ledger::epoch(snapshot);
        let current = ledger::apps(snapshot, topic).filter(|app| Some(app.epoch) == epoch);
        numbers.extend(current.map(|app| app.partition));
    }
    let mut refusal = None;
    if let Some(log) = &asking.surroundings.log {
        match asking.of(log.existing(topic)).await {
            Ok(partitions) => {
                numbers.extend(partitions.into_iter().flatten().map(|partition| partition.partition));
            }
            Err(why) => refusal = Some(why),
        }
    }
    let partition = |partition| TopicPartition { topic: topic.clone(), partition };
    (numbers.into_iter().map(partition).collect(), refusal)
}

/// When each partition's last commit was made, in milliseconds since 1970.
async fn commit_times(
    table: &millstream_lake::Table,
    snapshot: &Snapshot,
    partitions: &[TopicPartition],
) -> Result<HashMap<Partition, i64>> {
    let Some(epoch) = ledger::epoch(snapshot) else { return Ok(HashMap::new()) };
    let app = |partition: &TopicPartition| {
        ledger::app(snapshot.table(), &partition.topic, epoch, partition.partition)
    };
    let apps: Vec<(Partition, String)> =
        partitions.iter().map(|partition| (partition.partition, app(partition))).collect();
    let names: Vec<&str> = apps.iter().map(|(_, app)| app.as_str()).collect();
    let versions = table.versions_of_txns(&names).await.map_err(external)?;
    let distinct: BTreeSet<i64> = versions.values().copied().collect();
    let times = stream::iter(distinct).map(|version| async move {
        Ok::<_, DataFusionError>((version, committed_at(table, version).await?))
    });
    let times: HashMap<i64, i64> = times.buffered(ASKED_AT_ONCE).try_collect().await?;
    let time = |app: &str| times.get(versions.get(app)?).copied();
    Ok(apps.iter().filter_map(|(partition, app)| Some((*partition, time(app)?))).collect())
}

fn passed(snapshot: &Snapshot, partition: &TopicPartition) -> Option<i64> {
    let epoch = ledger::epoch(snapshot)?;
    snapshot.txn(&ledger::passed_app(snapshot.table(), &partition.topic, epoch, partition.partition))
}

/// Where a partition of the log stands, as far as it was asked and says so.
#[derive(Debug, Default)]
struct Standing {
    bounds: Option<Bounds>,
    /// How long the oldest message without an outcome has waited, in seconds.
    waiting: Option<f64>,
    /// Why the log could not say.
    problem: Option<String>,
}

async fn standing(asking: &Asking<'_>, partition: &TopicPartition, committed: Option<Offset>) -> Standing {
    let mut standing = Standing::default();
    let of_the_log = ["first_offset", "next_offset", "lag_messages", "freshness_seconds", "problem"];
    let wanted = asking.wanted;
    let Some(log) = asking.surroundings.log.as_ref().filter(|_| wanted.reads(of_the_log)) else {
        return standing;
    };
    let bounds = match asking.of(log.bounds(partition)).await {
        Ok(bounds) => bounds,
        Err(refusal) => return Standing { problem: Some(refusal.problem()), ..standing },
    };
    standing.bounds = Some(bounds);
    if lag(bounds, committed) == 0 {
        standing.waiting = Some(0.0);
    } else if wanted.reads(["freshness_seconds"]) {
        match asking.of(waiting(log.as_ref(), partition, bounds.first.max(after(committed)))).await {
            Ok(waiting) => standing.waiting = waiting,
            Err(refusal) => standing.problem = Some(refusal.problem()),
        }
    }
    standing
}

/// The offset after the last one that has an outcome.
fn after(committed: Option<Offset>) -> Offset {
    committed.map_or(Offset::ZERO, Offset::next)
}

/// How many messages have no outcome yet. What was trimmed before the first commit never gets one.
fn lag(bounds: Bounds, committed: Option<Offset>) -> i64 {
    bounds.next.0.saturating_sub(after(committed).max(bounds.first).0).max(0)
}

/// How long the record at an offset has waited, in seconds.
async fn waiting(log: &dyn Log, partition: &TopicPartition, from: Offset) -> Result<Option<f64>, LogError> {
    let read = async {
        let mut reader = log.reader(partition, from).await?;
        reader.next(ReadLimit { records: 1, bytes: RECORD_BYTES }).await
    };
    match read.await {
        Ok(records) => {
            let received_at = records.first().and_then(|stored| stored.received_at());
            let waited = received_at.map(|received_at| now_micros().saturating_sub(received_at.0).max(0));
            Ok(waited.map(|micros| Duration::from_micros(micros.unsigned_abs()).as_secs_f64()))
        }
        // It was committed and forgotten meanwhile.
        Err(LogError::Trimmed { .. }) => Ok(Some(0.0)),
        Err(error) => Err(error),
    }
}

/// Microseconds since 1970.
fn now_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_trimmed_before_the_first_commit_does_not_wait() {
        let check = |first, next, committed: Option<i64>, expected| {
            let bounds = Bounds { first: Offset(first), next: Offset(next) };
            assert_eq!(lag(bounds, committed.map(Offset)), expected);
        };
        check(0, 0, None, 0);
        check(0, 7, None, 7);
        check(5, 7, None, 2);
        check(4, 7, Some(4), 2);
        check(6, 7, Some(6), 0);
        // The log was looked at before the commit.
        check(0, 5, Some(6), 0);
    }
}
