//! Owning partitions of a log topic: where the ledger stands, what a predecessor left half done, and whether this is the right log.

use super::buffer::{Batch, Buffer};
use super::error::FirehoseError;
use super::intake::Intake;
use super::ledger::{
    Decisions, broken, epoch, epoch_app, grown, last_decisions, open_table, quarantine_definition, redo,
};
use super::passed::passed;
use super::status::{Phase, Progress};
use super::work::{Duty, Step, Work};
use chrono::Utc;
use futures::future::try_join_all;
use millstream_lake::ledger::{INPUT_SCHEMA, Mark, app, fingerprint, passed_app};
use millstream_lake::{Snapshot, Table};
use millstream_log::{Bounds, LogError, ReadLimit};
use millstream_model::name::{LogTopic, Offset, Partition, QUARANTINE, TopicPartition};
use millstream_model::record::Stored;
use millstream_model::stream::Stream;
use millstream_model::time::Micros;
use millstream_readings::{Decoder, InputSchema, table_schema};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How long the log may take to give a record that it has: many times what a slow broker takes.
const RECORD_WITHIN: Duration = Duration::from_secs(30);

/// What a worker works with while it owns its partitions.
#[derive(Debug)]
pub(crate) struct Owned {
    pub(crate) claim: Claim,
    pub(crate) buffer: Buffer,
    pub(crate) intake: Intake,
}

/// Where the ledger stood when the partitions were claimed, and stands after each commit of ours. Others may own the topic's other partitions meanwhile.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) ledger: Table,
    /// Where quarantined messages go; `None` where the ledger itself is quarantine.
    pub(crate) quarantine: Option<Table>,
    pub(crate) topic: LogTopic,
    pub(crate) epoch: i64,
    /// The transaction that moves with the epoch.
    pub(crate) raised: Option<i64>,
    pub(crate) partitions: Vec<TopicPartition>,
    /// Each claimed partition that has an outcome.
    pub(crate) standing: BTreeMap<Partition, Standing>,
    /// How far event time has come in each claimed partition that has readings, in microseconds since 1970.
    pub(crate) passed: BTreeMap<Partition, i64>,
    /// The version whose columns and properties the buffer stands on.
    pub(crate) snapshot: Arc<Snapshot>,
}

/// A claim, and what the log holds where its partitions stand.
#[derive(Debug)]
pub(crate) struct Looked {
    pub(crate) claim: Claim,
    pub(crate) found: Vec<(TopicPartition, Bounds, Found)>,
}

/// Where one partition stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The last offset with an outcome.
    pub(crate) committed: Offset,
    /// What the record there looked like; `None` where the commit that said so is gone from the table's log.
    pub(crate) fingerprint: Option<String>,
}

/// What the log holds where a partition stands.
#[derive(Debug)]
pub(crate) enum Found {
    /// The very record that was committed last, and when it was received.
    Ours { received_at: Option<Micros> },
    /// Nothing that speaks for or against it.
    Nothing,
    /// Records that have no outcome are gone from it.
    Gap { wanted: Offset, first: Offset },
    /// It is another log than the one that the table was filled from, or it has lost its end.
    Another(Box<FirehoseError>),
}

/// Claims partitions of the topic, by a look that was made just now or else by one of its own. May be repeated at will: it changes nothing but what a predecessor
/// had decided.
pub(crate) async fn own(
    work: &Work,
    partitions: &[TopicPartition],
    looked: Option<Looked>,
) -> Result<Step<Owned>, FirehoseError> {
    let looked = match looked {
        Some(looked) => looked,
        None => match look(work, partitions).await? {
            Step::Done(looked) => looked,
            Step::Lost(why) => return Ok(Step::Lost(why)),
        },
    };
    let Looked { claim, found } = looked;
    let intake = match claim.open(work, found).await? {
        Step::Done(intake) => intake,
        Step::Lost(why) => return Ok(Step::Lost(why)),
    };
    let buffer = match &work.duty {
        Duty::Stream(stream) => Buffer::readings(decoder(stream, &claim.snapshot)?),
        Duty::Unrouted => Buffer::unclaimed(work.settings.unclaimed),
    };
    Ok(Step::Done(Owned { claim, buffer, intake }))
}

/// Finds out where these partitions stand and what the log holds there, and finishes what was decided about them.
pub(crate) async fn look(work: &Work, partitions: &[TopicPartition]) -> Result<Step<Looked>, FirehoseError> {
    let quarantine = Table::open_or_create(&work.ingestion, QUARANTINE, &quarantine_definition()).await?;
    let ledger = match &work.duty {
        Duty::Stream(stream) => open_table(work, stream, &quarantine).await?,
        Duty::Unrouted => quarantine.clone(),
    };
    let snapshot = ledger.snapshot().await?;
    let topic = work.duty.topic();
    let epoch = epoch(work.duty.table(), &snapshot)?;
    let decisions = last_decisions(&ledger, &snapshot, &topic, partitions).await?;
    let quarantine = matches!(work.duty, Duty::Stream(_)).then_some(quarantine);
    if let Some(quarantine) = &quarantine
        && let Step::Lost(why) = finish(work, quarantine, &topic, &decisions).await?
    {
        return Ok(Step::Lost(why));
    }
    let partitions = partitions.to_vec();
    let standing = standing(work.duty.table(), &topic, epoch, &partitions, &snapshot, &decisions);
    let raised = snapshot.txn(&epoch_app(work.duty.table()));
    let passed = partitions.iter().filter_map(|owned| {
        let app = passed_app(work.duty.table(), &topic, epoch, owned.partition);
        Some((owned.partition, snapshot.txn(&app)?))
    });
    let passed = passed.collect();
    let claim = Claim { ledger, quarantine, topic, epoch, raised, partitions, standing, passed, snapshot };
    let mut found = Vec::with_capacity(claim.partitions.len());
    for partition in &claim.partitions {
        let (bounds, holds) = claim.find(work, partition).await?;
        found.push((partition.clone(), bounds, holds));
    }
    Ok(Step::Done(Looked { claim, found }))
}

/// Does what was decided and not done yet, the oldest first.
async fn finish(
    work: &Work,
    quarantine: &Table,
    topic: &LogTopic,
    decisions: &Decisions,
) -> Result<Step<()>, FirehoseError> {
    for decision in decisions.by_version.values() {
        match redo(quarantine, topic, decision).await? {
            Step::Done(Some(version)) => {
                let files = decision.quarantine.len();
                tracing::info!(
                    table = work.duty.table(),
                    version,
                    files,
                    "quarantined what a commit before had decided"
                );
            }
            Step::Done(None) => {}
            Step::Lost(why) => return Ok(Step::Lost(why)),
        }
    }
    Ok(Step::Done(()))
}

fn decoder(stream: &Arc<Stream>, snapshot: &Snapshot) -> Result<Decoder, FirehoseError> {
    let input = match snapshot.property(INPUT_SCHEMA) {
        Some(json) => InputSchema::restore(stream, json)
            .map_err(|source| FirehoseError::Columns { stream: stream.name.to_string(), source })?,
        None => InputSchema::declared(stream),
    };
    // A definition that the table contradicts is refused now, not with the first message.
    let wanted = table_schema(stream, None, &input).map_err(broken(stream))?;
    grown(stream.name.as_str(), &snapshot.schema(), &wanted)?;
    let decoder = Decoder::new(Arc::clone(stream), input).map_err(broken(stream))?;
    Ok(decoder.for_table(&snapshot.schema()))
}

fn standing(
    table: &str,
    topic: &LogTopic,
    epoch: i64,
    partitions: &[TopicPartition],
    snapshot: &Snapshot,
    decisions: &Decisions,
) -> BTreeMap<Partition, Standing> {
    let standing = partitions.iter().filter_map(|owned| {
        let committed = Offset(snapshot.txn(&app(table, topic, epoch, owned.partition))?);
        let decision = decisions.about(owned.partition).filter(|decision| decision.is_about(topic, epoch));
        let mark = decision
            .and_then(|decision| decision.marks.get(&owned.partition))
            .filter(|mark| mark.offset == committed);
        let fingerprint = mark.map(|mark| mark.fingerprint.clone());
        Some((owned.partition, Standing { committed, fingerprint }))
    });
    standing.collect()
}

impl Claim {
    /// Checks that the log is the one that the ledger was filled from, and begins to read behind what has an outcome.
    async fn open(
        &self,
        work: &Work,
        found: Vec<(TopicPartition, Bounds, Found)>,
    ) -> Result<Step<Intake>, FirehoseError> {
        let mut from = BTreeMap::new();
        let mut progress = BTreeMap::new();
        for (partition, bounds, found) in found {
            let received_at = match self.refusal(&partition, found) {
                Ok(received_at) => received_at,
                // Whoever commits faster trims, too: what is missing may have its outcome by now.
                Err(_) if !self.is_current().await? => {
                    return Ok(Step::Lost("its transactions moved while they were looked at".to_owned()));
                }
                Err(refusal) => return Err(refusal),
            };
            let committed = self.standing.get(&partition.partition).map(|standing| standing.committed);
            from.insert(
                partition.partition,
                (partition.clone(), committed.map_or(Offset::ZERO, Offset::next)),
            );
            let next = bounds.next;
            progress.insert(
                partition.partition,
                Progress { committed, next, received_at, committed_at: None, waiting_since: None },
            );
        }
        let intake = Intake::open(work.log.as_ref(), &from).await?;
        let draining = work.shutdown.is_cancelled();
        work.report(|status| {
            status.phase = if draining { Phase::Draining } else { Phase::Running };
            for (partition, progress) in &mut progress {
                let before = status.partitions.get(partition);
                progress.committed_at = before.and_then(|progress| progress.committed_at);
                let since = before.and_then(|progress| progress.waiting_since);
                progress.waits_since(since.unwrap_or_else(|| Micros::from(Utc::now())));
            }
            status.partitions = progress;
        });
        Ok(Step::Done(intake))
    }

    /// What the log holds where a partition stands.
    async fn find(&self, work: &Work, partition: &TopicPartition) -> Result<(Bounds, Found), FirehoseError> {
        let standing = self.standing.get(&partition.partition);
        let bounds = work.log.bounds(partition).await?;
        let wanted = standing.map_or(Offset::ZERO, |standing| standing.committed.next());
        let found = match standing {
            Some(standing) if wanted > bounds.next => Found::Another(Box::new(FirehoseError::OtherLog {
                table: self.ledger.name().to_owned(),
                partition: partition.clone(),
                committed: standing.committed,
                next: bounds.next,
            })),
            _ if wanted < bounds.first => Found::Gap { wanted, first: bounds.first },
            Some(standing) if standing.committed >= bounds.first => {
                self.recognise(work, partition, standing).await?
            }
            _ => Found::Nothing,
        };
        Ok((bounds, found))
    }

    async fn recognise(
        &self,
        work: &Work,
        partition: &TopicPartition,
        standing: &Standing,
    ) -> Result<Found, FirehoseError> {
        let Some(expected) = &standing.fingerprint else { return Ok(Found::Nothing) };
        let stored = record_at(work, partition, standing.committed).await?;
        let found = stored.as_ref().map(|stored| fingerprint(&stored.record)).unwrap_or_default();
        if found == *expected {
            let received_at = stored.and_then(|stored| stored.received_at());
            return Ok(Found::Ours { received_at });
        }
        Ok(Found::Another(Box::new(FirehoseError::OtherRecord {
            table: self.ledger.name().to_owned(),
            partition: partition.clone(),
            committed: standing.committed,
            expected: expected.clone(),
            found,
        })))
    }

    /// When the last committed record was received, or why the partition must not be read.
    fn refusal(&self, partition: &TopicPartition, found: Found) -> Result<Option<Micros>, FirehoseError> {
        match found {
            Found::Ours { received_at } => Ok(received_at),
            Found::Nothing => Ok(None),
            Found::Another(refusal) => Err(*refusal),
            Found::Gap { wanted, first } => Err(FirehoseError::Gap {
                table: self.ledger.name().to_owned(),
                partition: partition.clone(),
                wanted,
                first,
            }),
        }
    }

    /// Why records must not be committed, if so: the log was made anew or has lost its end while they were read, and what is in the buffer is not in it any more.
    ///
    /// Readers need not notice that: one that stands at offset 100 goes on there in another log that is long enough. So two records of each partition are read again,
    /// behind everything that was read: the last one that was read, and the one that was committed last (or, where that is not known, that was read first). A log
    /// that is only ever appended to and has both has all between them, and is the one that all of it came from.
    pub(crate) async fn doubt(
        &self,
        work: &Work,
        heads: &BTreeMap<Partition, Mark>,
        marks: &BTreeMap<Partition, Mark>,
    ) -> Result<Option<String>, FirehoseError> {
        let known = heads.iter().map(|(partition, head)| match self.standing.get(partition) {
            Some(Standing { committed, fingerprint: Some(fingerprint) }) => {
                (*partition, *committed, fingerprint.as_str())
            }
            _ => (*partition, head.offset, head.fingerprint.as_str()),
        });
        let last = marks.iter().map(|(partition, mark)| (*partition, mark.offset, mark.fingerprint.as_str()));
        let records: BTreeSet<(Partition, Offset, &str)> = known.chain(last).collect();
        let looks = records.into_iter().map(|(partition, offset, expected)| async move {
            let owned = TopicPartition { topic: self.topic.clone(), partition };
            match work.keep_trying("recognise", || record_at(work, &owned, offset)).await {
                Ok(Some(stored)) if fingerprint(&stored.record) == expected => Ok(None),
                // Whoever else commits has trimmed it; then the ledger's transactions have moved, too. Or it has grown old: the other record speaks for both.
                Err(FirehoseError::Log(LogError::Trimmed { .. })) => Ok(None),
                Ok(_) | Err(FirehoseError::Log(LogError::BeyondEnd { .. })) => {
                    Ok(Some(format!("the record at offset {offset} of {owned} is another one than it was")))
                }
                Err(error) => Err(error),
            }
        });
        Ok(try_join_all(looks).await?.into_iter().flatten().next())
    }

    /// Whether the ledger still stands where it stood.
    async fn is_current(&self) -> Result<bool, FirehoseError> {
        let latest = self.ledger.snapshot().await?;
        let unmoved = self.fences().iter().all(|(app, txn)| latest.txn(app) == *txn);
        Ok(unmoved && epoch(self.ledger.name(), &latest)? == self.epoch)
    }

    /// The transaction of a partition in the ledger.
    pub(crate) fn app(&self, partition: Partition) -> String {
        app(self.ledger.name(), &self.topic, self.epoch, partition)
    }

    /// The transaction that says how far event time has come in a partition.
    pub(crate) fn passed_app(&self, partition: Partition) -> String {
        passed_app(self.ledger.name(), &self.topic, self.epoch, partition)
    }

    /// How far event time has come with this batch: never back, whatever is in it.
    pub(crate) fn passed_after(&self, batch: &Batch) -> BTreeMap<Partition, i64> {
        let mut after = self.passed.clone();
        for (partition, time) in passed(&batch.rows, &batch.marks) {
            after.entry(partition).and_modify(|known| *known = time.max(*known)).or_insert(time);
        }
        after
    }

    /// The transactions of the claimed partitions in the ledger, as they stand.
    pub(crate) fn txns(&self) -> BTreeMap<String, Option<i64>> {
        let txns = self.partitions.iter().map(|owned| {
            let committed = self.standing.get(&owned.partition).map(|standing| standing.committed.0);
            (self.app(owned.partition), committed)
        });
        txns.collect()
    }

    /// What every commit expects: these transactions, and the one that moves with the epoch.
    pub(crate) fn fences(&self) -> BTreeMap<String, Option<i64>> {
        let mut fences = self.txns();
        fences.insert(epoch_app(self.ledger.name()), self.raised);
        fences
    }

    /// Where the claimed partitions stand after these records.
    pub(crate) fn marks_after(&self, marks: &BTreeMap<Partition, Mark>) -> BTreeMap<Partition, Mark> {
        let standing = self.standing.iter().filter_map(|(partition, standing)| {
            let fingerprint = standing.fingerprint.clone()?;
            Some((*partition, Mark { offset: standing.committed, fingerprint, received_at: None }))
        });
        standing.chain(marks.iter().map(|(partition, mark)| (*partition, mark.clone()))).collect()
    }
}

/// The record at an offset that the log has.
pub(crate) async fn record_at(
    work: &Work,
    partition: &TopicPartition,
    offset: Offset,
) -> Result<Option<Stored>, FirehoseError> {
    let read = async {
        let mut reader = work.log.reader(partition, offset).await?;
        reader.next(ReadLimit { records: 1, bytes: 1 }).await
    };
    Ok(soon(partition, offset, read).await?.into_iter().next())
}

/// What is read of the log at an offset that it has; it must not take for ever.
pub(crate) async fn soon<T>(
    partition: &TopicPartition,
    offset: Offset,
    read: impl Future<Output = Result<T, LogError>>,
) -> Result<T, FirehoseError> {
    match timeout(RECORD_WITHIN, read).await {
        Ok(read) => Ok(read?),
        Err(_elapsed) => {
            Err(FirehoseError::Silent { partition: partition.clone(), offset, waited: RECORD_WITHIN })
        }
    }
}
