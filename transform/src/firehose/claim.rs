//! Owning the partitions of a log topic: where the ledger stands, what a predecessor left half done, and whether this is the right log.

use super::buffer::Buffer;
use super::commit::{grow, lost};
use super::decision::{Decision, Mark};
use super::error::FirehoseError;
use super::fingerprint::fingerprint;
use super::intake::Intake;
use super::status::{Phase, Progress};
use super::work::{Duty, Step, Work};
use millstream_lake::{Operation, Outcome, Plan, Snapshot, Table, TableDefinition};
use millstream_log::ReadLimit;
use millstream_model::column::reserved;
use millstream_model::name::{LogTopic, Offset, Partition, QUARANTINE, TopicPartition};
use millstream_model::stream::Stream;
use millstream_readings::{Decoder, InputSchema, TransformError, quarantine_schema, table_schema};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Table property: what the stream's columns are known to be.
pub const INPUT_SCHEMA: &str = "millstream.input_schema";

/// Table property: a number in the names of the table's transactions. A table that begins anew has another one than the table before it, so that what quarantine
/// knows of that one's offsets does not count. Absent is 0.
pub const EPOCH: &str = "millstream.epoch";

/// What a worker works with while it owns its partitions.
#[derive(Debug)]
pub(crate) struct Owned {
    pub(crate) claim: Claim,
    pub(crate) buffer: Buffer,
    pub(crate) intake: Intake,
}

/// Where the ledger stood when the partitions were claimed, and stands after each commit of ours.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) ledger: Table,
    /// Where quarantined messages go; `None` where the ledger itself is quarantine.
    pub(crate) quarantine: Option<Table>,
    pub(crate) topic: LogTopic,
    pub(crate) epoch: i64,
    pub(crate) partitions: Vec<TopicPartition>,
    /// Each partition that has an outcome.
    pub(crate) standing: BTreeMap<Partition, Standing>,
    /// The version whose columns and properties the buffer stands on.
    pub(crate) snapshot: Arc<Snapshot>,
}

/// Where one partition stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The last offset with an outcome.
    pub(crate) committed: Offset,
    /// What the record there looked like; `None` where the commit that said so is gone from the table's log.
    pub(crate) fingerprint: Option<String>,
}

/// The transaction that holds the last offset of a partition with an outcome in a table.
pub(crate) fn app(table: &str, topic: &LogTopic, epoch: i64, partition: Partition) -> String {
    format!("millstream/{table}/{topic}/{epoch}/{partition}")
}

/// The last offset of a partition that has an outcome in this version of its stream's table; `None` if none has. What comes after it waits in the log.
#[must_use]
pub fn committed(snapshot: &Snapshot, partition: &TopicPartition) -> Option<Offset> {
    let epoch = snapshot.property(EPOCH).map_or(Some(0), |text| text.parse().ok())?;
    snapshot.txn(&app(snapshot.table(), &partition.topic, epoch, partition.partition)).map(Offset)
}

/// The transaction that counts changes of a table's columns.
pub(crate) fn schema_app(table: &str) -> String {
    format!("millstream/{table}/schema")
}

/// Claims all partitions of the topic. May be repeated at will: it changes nothing but what a predecessor had decided.
pub(crate) async fn own(work: &Work) -> Result<Step<Owned>, FirehoseError> {
    let quarantine = Table::open_or_create(&work.ingestion, QUARANTINE, &quarantine_definition()).await?;
    let ledger = match &work.duty {
        Duty::Stream(stream) => open_table(work, stream, &quarantine).await?,
        Duty::Unrouted => quarantine.clone(),
    };
    let snapshot = ledger.snapshot().await?;
    let topic = work.duty.topic();
    let epoch = epoch(work.duty.table(), &snapshot)?;
    let partitions = work.log.partitions(&topic).await?;
    let decision = last_decision(&ledger, &snapshot, &topic).await?;
    if let (Duty::Stream(_), Some(decision)) = (&work.duty, &decision) {
        match redo(&quarantine, &topic, decision).await? {
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
    let mut claim = Claim {
        ledger,
        quarantine: matches!(work.duty, Duty::Stream(_)).then_some(quarantine),
        epoch,
        standing: standing(work.duty.table(), &topic, epoch, &partitions, &snapshot, decision.as_ref()),
        topic,
        partitions,
        snapshot,
    };
    let intake = claim.open(work).await?;
    let buffer = match &work.duty {
        Duty::Stream(stream) => Buffer::readings(decoder(stream, &claim.snapshot)?),
        Duty::Unrouted => Buffer::unclaimed(work.settings.unclaimed),
    };
    Ok(Step::Done(Owned { claim, buffer, intake }))
}

fn broken(stream: &Stream) -> impl Fn(TransformError) -> FirehoseError {
    let stream = stream.name.to_string();
    move |source| FirehoseError::Definition { stream: stream.clone(), source }
}

/// The stream's table, made if there is none: in an epoch of which quarantine knows nothing yet.
async fn open_table(work: &Work, stream: &Stream, quarantine: &Table) -> Result<Table, FirehoseError> {
    let name = stream.name.as_str();
    if let Some(table) = Table::open(&work.ingestion, name).await? {
        return Ok(table);
    }
    let snapshot = quarantine.snapshot().await?;
    let last = apps(&snapshot, &stream.name.log_topic()).map(|(epoch, _)| epoch).max();
    let definition = definition(stream, last.map_or(0, |epoch| epoch + 1))?;
    Ok(Table::open_or_create(&work.ingestion, name, &definition).await?)
}

/// The transactions of a log topic's partitions in a table, each with its epoch.
fn apps<'s>(snapshot: &'s Snapshot, topic: &LogTopic) -> impl Iterator<Item = (i64, &'s str)> {
    let prefix = format!("millstream/{}/{topic}/", snapshot.table());
    snapshot.txns().filter_map(move |(app, _)| {
        let (epoch, _) = app.strip_prefix(&prefix)?.split_once('/')?;
        Some((epoch.parse().ok()?, app))
    })
}

fn definition(stream: &Stream, epoch: i64) -> Result<TableDefinition, FirehoseError> {
    let input = InputSchema::declared(stream);
    let schema = table_schema(stream, None, &input).map_err(broken(stream))?;
    let properties = [(INPUT_SCHEMA, input.to_json()), (EPOCH, epoch.to_string())];
    Ok(TableDefinition {
        schema,
        partition_by: vec![reserved::DATE.to_owned()],
        properties: properties.map(|(name, value)| (name.to_owned(), value)).into(),
    })
}

/// The quarantine table as it is made.
pub(crate) fn quarantine_definition() -> TableDefinition {
    let properties = [(EPOCH.to_owned(), "0".to_owned())].into();
    TableDefinition { schema: quarantine_schema(), partition_by: vec![reserved::DATE.to_owned()], properties }
}

fn decoder(stream: &Arc<Stream>, snapshot: &Snapshot) -> Result<Decoder, FirehoseError> {
    let input = match snapshot.property(INPUT_SCHEMA) {
        Some(json) => InputSchema::restore(stream, json)
            .map_err(|source| FirehoseError::Columns { stream: stream.name.to_string(), source })?,
        None => InputSchema::declared(stream),
    };
    // A definition that the table contradicts is refused now, not with the first message.
    let wanted = table_schema(stream, None, &input).map_err(broken(stream))?;
    grow(stream.name.as_str(), &snapshot.schema(), &wanted)?;
    let decoder = Decoder::new(Arc::clone(stream), input).map_err(broken(stream))?;
    Ok(decoder.for_table(&snapshot.schema()))
}

fn epoch(table: &str, snapshot: &Snapshot) -> Result<i64, FirehoseError> {
    let Some(text) = snapshot.property(EPOCH) else { return Ok(0) };
    let wrong = || FirehoseError::Property {
        table: table.to_owned(),
        property: EPOCH,
        value: text.to_owned(),
        expected: "a number",
    };
    text.parse().ok().filter(|epoch| *epoch >= 0).ok_or_else(wrong)
}

fn standing(
    table: &str,
    topic: &LogTopic,
    epoch: i64,
    partitions: &[TopicPartition],
    snapshot: &Snapshot,
    decision: Option<&Decision>,
) -> BTreeMap<Partition, Standing> {
    let marks = decision.filter(|decision| decision.is_about(topic, epoch)).map(|decision| &decision.marks);
    let standing = partitions.iter().filter_map(|owned| {
        let committed = Offset(snapshot.txn(&app(table, topic, epoch, owned.partition))?);
        let mark =
            marks.and_then(|marks| marks.get(&owned.partition)).filter(|mark| mark.offset == committed);
        Some((
            owned.partition,
            Standing { committed, fingerprint: mark.map(|mark| mark.fingerprint.clone()) },
        ))
    });
    standing.collect()
}

/// The decision that the ledger's last commit about this log topic was, whatever its epoch. `None` where there is none, or its commit was cleaned away.
async fn last_decision(
    ledger: &Table,
    snapshot: &Snapshot,
    topic: &LogTopic,
) -> Result<Option<Decision>, FirehoseError> {
    // Each decision carries the transactions of all partitions, so any of the newest epoch leads to it.
    let Some((_, newest)) = apps(snapshot, topic).max() else { return Ok(None) };
    let version = ledger.version_of_txn(newest).await?;
    let Some(version) = version else {
        tracing::warn!(
            table = ledger.name(),
            app = newest,
            "the last commit's own words are gone from the table's log; the log cannot be recognised by them"
        );
        return Ok(None);
    };
    Ok(Decision::from_info(&ledger.commit_info(version).await?.info)?)
}

/// Makes visible what a decision quarantined, unless that was done. It returns quarantine's version that did it now.
///
/// At most one decision ever waits for this, the last: nobody decides further before it is done. The files were uploaded with the decision, so whoever
/// does it, however often it is tried, the rows are the same.
pub(crate) async fn redo(
    quarantine: &Table,
    topic: &LogTopic,
    decision: &Decision,
) -> Result<Step<Option<i64>>, FirehoseError> {
    if decision.quarantine.is_empty() {
        return Ok(Step::Done(None));
    }
    let snapshot = quarantine.snapshot().await?;
    let txns = decision
        .ranges
        .iter()
        .map(|range| (app(QUARANTINE, topic, decision.epoch, range.partition), range.last.0));
    let set: BTreeMap<String, i64> = txns.collect();
    if set.iter().all(|(app, last)| snapshot.txn(app) >= Some(*last)) {
        return Ok(Step::Done(None));
    }
    let expect = set.keys().map(|app| (app.clone(), snapshot.txn(app))).collect();
    let adds = decision.quarantine.clone();
    let info = decision.without_files().to_info()?;
    let plan =
        Plan { operation: Operation::Redo, expect, set, adds, data_change: true, info, ..Plan::default() };
    match quarantine.commit(plan).await? {
        Outcome::Applied { version } => Ok(Step::Done(Some(version))),
        other => Ok(Step::Lost(lost(&other))),
    }
}

impl Claim {
    /// Checks that the log is the one that the ledger was filled from, and begins to read behind what has an outcome.
    async fn open(&mut self, work: &Work) -> Result<Intake, FirehoseError> {
        let mut from = BTreeMap::new();
        let mut progress = BTreeMap::new();
        for partition in &self.partitions {
            let standing = self.standing.get(&partition.partition);
            let bounds = work.log.bounds(partition).await?;
            let table = work.duty.table().to_owned();
            let wanted = standing.map_or(Offset::ZERO, |standing| standing.committed.next());
            if let Some(Standing { committed, .. }) = standing.filter(|_| wanted > bounds.next) {
                return Err(FirehoseError::OtherLog {
                    table,
                    partition: partition.clone(),
                    committed: *committed,
                    next: bounds.next,
                });
            }
            if wanted < bounds.first {
                return Err(FirehoseError::Gap {
                    table,
                    partition: partition.clone(),
                    wanted,
                    first: bounds.first,
                });
            }
            if let Some(standing) = standing.filter(|standing| standing.committed >= bounds.first) {
                recognise(work, partition, standing).await?;
            }
            from.insert(partition.partition, (partition.clone(), wanted));
            progress.insert(
                partition.partition,
                Progress { committed: standing.map(|standing| standing.committed), next: bounds.next },
            );
        }
        let intake = Intake::open(work.log.as_ref(), &from).await?;
        let draining = work.shutdown.is_cancelled();
        work.report(|status| {
            status.phase = if draining { Phase::Draining } else { Phase::Running };
            status.partitions = progress;
        });
        Ok(intake)
    }

    /// The transaction of a partition in a table.
    pub(crate) fn app(&self, table: &str, partition: Partition) -> String {
        app(table, &self.topic, self.epoch, partition)
    }

    /// The transactions of the owned partitions in the ledger, as they stand.
    pub(crate) fn txns(&self, table: &str) -> BTreeMap<String, Option<i64>> {
        let txns = self.partitions.iter().map(|owned| {
            let committed = self.standing.get(&owned.partition).map(|standing| standing.committed.0);
            (self.app(table, owned.partition), committed)
        });
        txns.collect()
    }

    /// Where the partitions stand after these records.
    pub(crate) fn marks_after(&self, marks: &BTreeMap<Partition, Mark>) -> BTreeMap<Partition, Mark> {
        let standing = self.standing.iter().filter_map(|(partition, standing)| {
            let fingerprint = standing.fingerprint.clone()?;
            Some((*partition, Mark { offset: standing.committed, fingerprint }))
        });
        standing.chain(marks.iter().map(|(partition, mark)| (*partition, mark.clone()))).collect()
    }
}

async fn recognise(
    work: &Work,
    partition: &TopicPartition,
    standing: &Standing,
) -> Result<(), FirehoseError> {
    let Some(expected) = &standing.fingerprint else { return Ok(()) };
    let mut reader = work.log.reader(partition, standing.committed).await?;
    let records = reader.next(ReadLimit { records: 1, bytes: 1 }).await?;
    let found = records.first().map(|stored| fingerprint(&stored.record)).unwrap_or_default();
    if found == *expected {
        return Ok(());
    }
    Err(FirehoseError::OtherRecord {
        table: work.duty.table().to_owned(),
        partition: partition.clone(),
        committed: standing.committed,
        expected: expected.clone(),
        found,
    })
}
