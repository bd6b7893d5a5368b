//! Brings one report to the latest version of its sources, in one commit.

use super::error::ReportError;
use super::scope::{Scope, scope};
use super::status::ReportPhase;
use super::tables::Tables;
use super::{Report, Works};
use crate::backoff::Backoff;
use arrow::compute::concat_batches;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use chrono::Utc;
use millstream_lake::{
    DataFile, NewFile, Operation, Outcome, Plan, Snapshot, Table, TableDefinition, WriteOptions,
};
use millstream_model::time::Micros;
use millstream_query::{Answer, Recompute, ReportPlan, ReportSource};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Table property of a report: the SQL that its rows come from.
pub(crate) const SQL: &str = "millstream.report_sql";

/// Table property of a report: which table of this name its rows come from. One that was made anew in its place has versions of the same numbers.
pub(crate) fn made_of(source: &str) -> String {
    format!("millstream.report_source.{source}")
}

/// How often a report is planned anew because somebody else changed its table meanwhile, before that is called a failure.
const PLANS_MAX: u32 = 8;

/// What came of a look at a report.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refreshed {
    /// A table that it reads does not exist yet.
    Waiting { source: String },
    /// It shows the latest version already.
    Current,
    /// Its rows were replaced: those of so many dates, or all (`None`).
    Replaced { version: i64, dates: Option<usize>, rows: u64, files: usize },
}

/// A report's table and its sources, at one version each.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) sources: Vec<ReportSource>,
    pub(crate) plan: ReportPlan,
    pub(crate) table: Table,
    pub(crate) shown: Arc<Snapshot>,
}

/// The transaction of a report's table that says which version of a source its rows show.
pub(crate) fn app(report: &Report, source: &str, plan: &ReportPlan) -> String {
    if plan.reads().len() == 1 {
        format!("report/{}", report.name)
    } else {
        format!("report/{}/{source}", report.name)
    }
}

/// Looks once, and recomputes what is not up to date.
pub(crate) async fn refresh(
    works: &Works,
    report: &Report,
    tables: &mut Tables,
) -> Result<Refreshed, ReportError> {
    works.say(&report.name, |status| status.phase = ReportPhase::Computing);
    let mut backoff = Backoff::new();
    loop {
        let Some(look) = look(works, report, tables).await? else {
            works
                .say(&report.name, |status| (status.phase, status.last_error) = (ReportPhase::Waiting, None));
            let source = ReportPlan::sources(&report.sql)?.join(", ");
            return Ok(Refreshed::Waiting { source });
        };
        works.say(&report.name, |status| status.latest = look.versions());
        let refreshed = match scope(report, &look).await? {
            Scope::Nothing => Some((look.shown.version(), Refreshed::Current)),
            scope => replace(works, report, &look, &scope).await?.map(|done| (done.version, done.into())),
        };
        if let Some((version, refreshed)) = refreshed {
            say_current(works, report, &look, version);
            return Ok(refreshed);
        }
        let pause = backoff.next();
        if backoff.attempts() == PLANS_MAX {
            return Err(ReportError::Contended { attempts: PLANS_MAX });
        }
        tokio::time::sleep(pause).await;
    }
}

/// Everything at its latest version; `None` while a source does not exist.
pub(super) async fn look(
    works: &Works,
    report: &Report,
    tables: &mut Tables,
) -> Result<Option<Look>, ReportError> {
    let mut sources = Vec::new();
    for name in ReportPlan::sources(&report.sql)? {
        let bucket = works.lakehouse.ingestion.clone();
        let Some(table) = tables.source(&bucket, &name).await? else { return Ok(None) };
        let snapshot = table.snapshot().await?;
        sources.push(ReportSource { bucket, table, snapshot });
    }
    let snapshots: Vec<&Snapshot> = sources.iter().map(|source| source.snapshot.as_ref()).collect();
    let plan = ReportPlan::analyse(&report.sql, &snapshots, report.partition_by.as_deref()).await?;
    let wanted: Vec<String> = report.partition_by.iter().cloned().collect();
    let definition =
        TableDefinition { schema: plan.schema(), partition_by: wanted.clone(), properties: BTreeMap::new() };
    let table = tables.shown(&works.lakehouse.reporting, report.name.as_str(), &definition).await?;
    let shown = table.snapshot().await?;
    if shown.partition_by() != wanted {
        return Err(ReportError::Partitioned { in_table: shown.partition_by().to_vec(), wanted });
    }
    Ok(Some(Look { sources, plan, table, shown }))
}

pub(super) struct Done {
    version: i64,
    dates: Option<usize>,
    rows: u64,
    files: usize,
}

impl From<Done> for Refreshed {
    fn from(done: Done) -> Self {
        Self::Replaced { version: done.version, dates: done.dates, rows: done.rows, files: done.files }
    }
}

/// Recomputes the scope over exactly the versions of the look, and replaces it on exactly the shown version; `None` if that is no longer the latest.
pub(super) async fn replace(
    works: &Works,
    report: &Report,
    look: &Look,
    scope: &Scope,
) -> Result<Option<Done>, ReportError> {
    if let Some(schema) = grown(&look.shown.schema(), &look.plan.schema())? {
        // Whatever came of it, the version that was looked at is no longer the latest.
        widen(report, look, schema).await?;
        return Ok(None);
    }
    let (dates, removes) = match scope {
        Scope::Nothing => (None, Vec::new()),
        Scope::Dates(dates) => (Some(dates.days()), look.files_of(dates.texts())),
        Scope::Whole => (None, look.shown.files().to_vec()),
    };
    let adds = if dates.as_ref().is_some_and(Vec::is_empty) {
        Vec::new()
    } else {
        let answer = works.session.compute(&look.plan, &look.sources, dates.as_deref()).await?;
        write(works, &look.table, answer, look.plan.schema()).await?
    };
    let rows = adds.iter().map(|file| file.rows).sum();
    let files = adds.len();
    let outcome = look.table.commit(plan(report, look, adds, removes)).await?;
    let Outcome::Applied { version } = outcome else { return Ok(None) };
    if let Err(error) = look.table.checkpoint_if_due().await {
        tracing::warn!(report = report.name.as_str(), version, %error, "a checkpoint could not be written; the next one will do");
    }
    Ok(Some(Done { version, dates: dates.map(|dates| dates.len()), rows, files }))
}

fn plan(report: &Report, look: &Look, adds: Vec<NewFile>, removes: Vec<DataFile>) -> Plan {
    let maintenance = look.table.maintenance_app();
    let upkeep = look.shown.txn(&maintenance);
    let mut expect = BTreeMap::from([(maintenance.clone(), upkeep)]);
    let mut set = BTreeMap::from([(maintenance, upkeep.unwrap_or_default() + 1)]);
    for source in &look.sources {
        let app = app(report, source.table.name(), &look.plan);
        expect.insert(app.clone(), look.shown.txn(&app));
        set.insert(app, source.snapshot.version());
    }
    let mut properties = BTreeMap::from([(SQL.to_owned(), report.sql.clone())]);
    for source in &look.sources {
        properties.insert(made_of(source.table.name()), source.snapshot.id().to_owned());
    }
    // What it has already is not said again: a commit that changes properties makes every other writer look anew.
    properties.retain(|key, value| look.shown.property(key) != Some(value.as_str()));
    Plan {
        operation: Operation::Replace,
        expect,
        set,
        adds,
        removes,
        data_change: true,
        properties,
        on_snapshot: Some(Arc::clone(&look.shown)),
        ..Plan::default()
    }
}

/// Gives the report's table the columns that its answer has and it has not.
async fn widen(report: &Report, look: &Look, schema: SchemaRef) -> Result<Outcome, ReportError> {
    let maintenance = look.table.maintenance_app();
    let upkeep = look.shown.txn(&maintenance);
    let plan = Plan {
        operation: Operation::Schema,
        expect: BTreeMap::from([(maintenance.clone(), upkeep)]),
        set: BTreeMap::from([(maintenance, upkeep.unwrap_or_default() + 1)]),
        schema: Some(schema),
        // Until all rows are computed anew, they are of no known SQL.
        properties: BTreeMap::from([(SQL.to_owned(), String::new())]),
        on_snapshot: Some(Arc::clone(&look.shown)),
        ..Plan::default()
    };
    tracing::info!(report = report.name.as_str(), "the report gets new columns and is computed anew");
    Ok(look.table.commit(plan).await?)
}

/// The table's columns and those of the answer that it lacks; `None` if it lacks none.
fn grown(table: &SchemaRef, answer: &SchemaRef) -> Result<Option<SchemaRef>, ReportError> {
    let mut fields: Vec<_> = table.fields().iter().cloned().collect();
    for field in answer.fields() {
        match table.field_with_name(field.name()) {
            Ok(known) if known.data_type() == field.data_type() => {}
            Ok(known) => {
                return Err(ReportError::ColumnType {
                    column: field.name().clone(),
                    in_table: known.data_type().to_string(),
                    wanted: field.data_type().to_string(),
                });
            }
            Err(_) => fields.push(Arc::clone(field)),
        }
    }
    Ok((fields.len() > table.fields().len()).then(|| Arc::new(Schema::new(fields)) as SchemaRef))
}

/// Uploads an answer as it comes, so that only a part of it is in memory.
async fn write(
    works: &Works,
    table: &Table,
    mut answer: Answer,
    schema: SchemaRef,
) -> Result<Vec<NewFile>, ReportError> {
    let options = WriteOptions::default();
    let mut files = Vec::new();
    let mut chunk: Vec<RecordBatch> = Vec::new();
    let mut bytes = 0;
    loop {
        let batch = answer.next().await?;
        let ends = batch.is_none();
        if let Some(batch) = batch {
            bytes += batch.get_array_memory_size();
            chunk.push(batch);
        }
        if ends || bytes >= works.settings.chunk_bytes {
            let rows = concat_batches(&schema, &chunk)?;
            files.extend(table.write(rows, &options).await?);
            chunk.clear();
            bytes = 0;
        }
        if ends {
            return Ok(files);
        }
    }
}

impl Look {
    fn versions(&self) -> BTreeMap<String, i64> {
        let version = |source: &ReportSource| (source.table.name().to_owned(), source.snapshot.version());
        self.sources.iter().map(version).collect()
    }

    fn files_of(&self, dates: &[String]) -> Vec<DataFile> {
        let column = self.shown.partition_by().first();
        let value = |file: &DataFile| file.partition_values.get(column?)?.clone();
        let of_dates = |file: &&DataFile| value(file).is_some_and(|value| dates.contains(&value));
        self.shown.files().iter().filter(of_dates).cloned().collect()
    }
}

fn say_current(works: &Works, report: &Report, look: &Look, version: i64) {
    let sources = look.versions();
    let whole = match look.plan.recompute() {
        Recompute::ByDate { .. } => None,
        Recompute::Whole { reason } => Some(reason.clone()),
    };
    works.say(&report.name, |status| {
        status.phase = ReportPhase::Current;
        status.current_at = Some(Micros::from(Utc::now()));
        status.sources = sources;
        status.version = Some(version);
        status.whole = whole;
        status.last_error = None;
    });
}
