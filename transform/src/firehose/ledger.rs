//! The ledger of a log topic: how its table is made, and which decisions stand last in it. What its transactions are called stands in [`millstream_lake::ledger`].

use super::commit::lost;
use super::error::FirehoseError;
use super::work::{Step, Work};
use arrow::datatypes::SchemaRef;
use millstream_lake::ledger::{self, App, Decision, EPOCH, INPUT_SCHEMA, app, apps};
use millstream_lake::{GrowError, Operation, Outcome, Plan, Snapshot, Table, TableDefinition, grow};
use millstream_model::column::reserved;
use millstream_model::name::{LogTopic, Partition, QUARANTINE, TopicPartition};
use millstream_model::stream::Stream;
use millstream_readings::{InputSchema, TransformError, quarantine_schema, table_schema};
use std::collections::BTreeMap;

/// So often it is looked what became of a decision that somebody else finishes, too: once would do, for whoever was faster has finished all of it.
const REDO_LOOKS: u32 = 3;

/// The transaction that counts changes of a table's columns and properties.
pub(crate) fn schema_app(table: &str) -> String {
    format!("millstream/{table}/schema")
}

/// The transaction that moves with the epoch: whoever read the log for a former one is fenced by it.
pub(crate) fn epoch_app(table: &str) -> String {
    format!("millstream/{table}/epoch")
}

/// The epoch that a table's property says.
pub(crate) fn epoch(table: &str, snapshot: &Snapshot) -> Result<i64, FirehoseError> {
    ledger::epoch(snapshot).ok_or_else(|| FirehoseError::Property {
        table: table.to_owned(),
        property: EPOCH,
        value: snapshot.property(EPOCH).unwrap_or_default().to_owned(),
        expected: "a number",
    })
}

/// The table's columns and those that the rows have beside them; `None` if there are none.
pub(crate) fn grown(
    table: &str,
    columns: &SchemaRef,
    wanted: &SchemaRef,
) -> Result<Option<SchemaRef>, FirehoseError> {
    let table = || table.to_owned();
    grow(columns, wanted).map_err(|contradiction| match contradiction {
        GrowError::Case { column, in_table } => {
            FirehoseError::ColumnCase { table: table(), column, in_table }
        }
        GrowError::Type { column, in_table, wanted } => {
            FirehoseError::ColumnType { table: table(), column, in_table, wanted }
        }
    })
}

/// The stream's table, made if there is none: in an epoch of which quarantine knows nothing yet.
pub(crate) async fn open_table(
    work: &Work,
    stream: &Stream,
    quarantine: &Table,
) -> Result<Table, FirehoseError> {
    let name = stream.name.as_str();
    if let Some(table) = Table::open(&work.ingestion, name).await? {
        return Ok(table);
    }
    let snapshot = quarantine.snapshot().await?;
    let last = apps(&snapshot, &stream.name.log_topic()).map(|app| app.epoch).max();
    let definition = definition(stream, last.map_or(0, |epoch| epoch + 1))?;
    Ok(Table::open_or_create(&work.ingestion, name, &definition).await?)
}

pub(crate) fn broken(stream: &Stream) -> impl Fn(TransformError) -> FirehoseError {
    let stream = stream.name.to_string();
    move |source| FirehoseError::Definition { stream: stream.clone(), source }
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

/// The last decisions about some partitions: by version of the ledger, and for each partition the version that is about it.
#[derive(Debug, Default)]
pub(crate) struct Decisions {
    pub(crate) by_version: BTreeMap<i64, Decision>,
    pub(crate) versions: BTreeMap<Partition, i64>,
}

impl Decisions {
    /// The last one about a partition; `None` where there is none, or its commit was cleaned away.
    pub(crate) fn about(&self, partition: Partition) -> Option<&Decision> {
        self.by_version.get(self.versions.get(&partition)?)
    }
}

/// The decisions that the ledger's last commits about these partitions were, whatever their epoch: as many as there were workers that shared the topic out.
pub(crate) async fn last_decisions(
    ledger: &Table,
    snapshot: &Snapshot,
    topic: &LogTopic,
    partitions: &[TopicPartition],
) -> Result<Decisions, FirehoseError> {
    let mut decisions = Decisions::default();
    let newest = partitions.iter().filter_map(|owned| {
        let of_partition = apps(snapshot, topic).filter(|app| app.partition == owned.partition);
        of_partition.max_by_key(|app| app.epoch)
    });
    let newest: Vec<App<'_>> = newest.collect();
    let names: Vec<&str> = newest.iter().map(|app| app.name).collect();
    let versions = ledger.versions_of_txns(&names).await?;
    for app in newest {
        let Some(&version) = versions.get(app.name) else {
            tracing::warn!(
                table = ledger.name(),
                app = app.name,
                "the last commit's own words are gone from the table's log; the log cannot be recognised by them"
            );
            continue;
        };
        decisions.versions.insert(app.partition, version);
        if !decisions.by_version.contains_key(&version)
            && let Some(decision) = Decision::from_info(&ledger.commit_info(version).await?.info)?
        {
            decisions.by_version.insert(version, decision);
        }
    }
    Ok(decisions)
}

/// Makes visible what a decision quarantined, unless that was done. It returns quarantine's version that did it now.
///
/// Of each partition at most one decision ever waits for this, its last: nobody decides further about it before this is done. The files were uploaded with the
/// decision, so whoever does it, however often it is tried, the rows are the same; and it is done for all partitions of the decision at once, also for those that
/// another worker owns by now.
pub(crate) async fn redo(
    quarantine: &Table,
    topic: &LogTopic,
    decision: &Decision,
) -> Result<Step<Option<i64>>, FirehoseError> {
    if decision.quarantine.is_empty() {
        return Ok(Step::Done(None));
    }
    let txns = decision
        .ranges
        .iter()
        .map(|range| (app(QUARANTINE, topic, decision.epoch, range.partition), range.last.0));
    let set: BTreeMap<String, i64> = txns.collect();
    let mut looks = 0;
    loop {
        let snapshot = quarantine.snapshot().await?;
        if set.iter().all(|(app, last)| snapshot.txn(app) >= Some(*last)) {
            return Ok(Step::Done(None));
        }
        let plan = Plan {
            operation: Operation::Redo,
            expect: set.keys().map(|app| (app.clone(), snapshot.txn(app))).collect(),
            set: set.clone(),
            adds: decision.quarantine.clone(),
            data_change: true,
            info: decision.without_files().to_info()?,
            ..Plan::default()
        };
        looks += 1;
        match quarantine.commit(plan).await? {
            Outcome::Applied { version } => return Ok(Step::Done(Some(version))),
            // Somebody else may have finished the same decision meanwhile: then it is done.
            Outcome::Fenced { .. } if looks < REDO_LOOKS => {}
            other => return Ok(Step::Lost(lost(&other))),
        }
    }
}
