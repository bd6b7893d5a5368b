//! Replaces rows of a report by newly computed ones, in one commit on exactly the version that was looked at.

use super::error::ReportError;
use super::look::{Look, day_of};
use super::scope::{Scope, commit_at};
use super::{Report, Rigor, Works};
use arrow::compute::concat_batches;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use chrono::Utc;
use millstream_lake::{DataFile, NewFile, Operation, Outcome, Plan, Table, WriteOptions};
use millstream_query::report::ledger::{SQL, WHEN, commit_app, computed_app, kept_app, made_of, mark_app};
use millstream_query::{Answer, Portion};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a replacement did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Replaced {
    /// The version of the report's table that it made.
    pub(crate) version: i64,
    /// How many dates it computed; `None`: all of them.
    pub(crate) dates: Option<usize>,
    pub(crate) rows: u64,
    pub(crate) files: usize,
}

/// Recomputes the scope over exactly the versions of the look, and replaces it on exactly the shown version; `None` if that is no longer the latest.
pub(crate) async fn replace(
    works: &Works,
    report: &Report,
    look: &Look,
    scope: &Scope,
) -> Result<Option<Replaced>, ReportError> {
    if let Some(schema) = grown(&look.shown.schema(), &look.plan.schema())? {
        // Whatever came of it, the version that was looked at is no longer the latest.
        widen(report, look, schema).await?;
        return Ok(None);
    }
    let (portion, removes) = portion(look, scope);
    let adds = if portion.dates.as_ref().is_some_and(Vec::is_empty) {
        Vec::new()
    } else {
        let answer = works.session.compute(&look.plan, &look.sources, &portion).await?;
        write(works, &look.table, answer, look.plan.schema()).await?
    };
    let rows = adds.iter().map(|file| file.rows).sum();
    let files = adds.len();
    let mut made_by = Vec::with_capacity(look.sources.len());
    for source in &look.sources {
        made_by.push(commit_at(&source.table, source.snapshot.version()).await?);
    }
    let plan = rigorous(works, report, look, plan(report, look, scope, &made_by, adds, removes)).await?;
    let outcome = look.table.commit(plan).await?;
    let Outcome::Applied { version } = outcome else { return Ok(None) };
    if let Err(error) = look.table.checkpoint_if_due().await {
        tracing::warn!(report = report.name.as_str(), version, %error, "a checkpoint could not be written; the next one will do");
    }
    let dates = match scope {
        Scope::Dates(dates) => Some(dates.len()),
        Scope::Nothing | Scope::Whole => None,
    };
    Ok(Some(Replaced { version, dates, rows, files }))
}

/// Which rows of the sources are computed, and the files whose rows they replace.
fn portion(look: &Look, scope: &Scope) -> (Portion, Vec<DataFile>) {
    let before = look.mark.flatten();
    let (dates, removes) = match scope {
        Scope::Nothing => (Some(Vec::new()), Vec::new()),
        Scope::Dates(dates) => {
            let dates: Vec<i32> = dates.iter().copied().collect();
            let removes = look.files_of(&dates);
            (Some(dates), removes)
        }
        Scope::Whole if look.kept.is_some() => {
            let goes = |day: Option<i32>| day.is_none_or(|day| !look.keeps(day));
            let files = look.shown.files().iter();
            let removes = files.filter(|file| goes(day_of(file))).cloned().collect();
            let there = look.sources.iter().flat_map(|source| source.snapshot.files()).filter_map(day_of);
            let dates: BTreeSet<i32> = there.filter(|day| goes(Some(*day))).collect();
            (Some(dates.into_iter().collect()), removes)
        }
        Scope::Whole => (None, look.shown.files().to_vec()),
    };
    (Portion { dates, before }, removes)
}

fn plan(
    report: &Report,
    look: &Look,
    scope: &Scope,
    made_by: &[i64],
    adds: Vec<NewFile>,
    removes: Vec<DataFile>,
) -> Plan {
    let name = report.name.as_str();
    let mut moves = Moves::of_maintenance(look);
    for (source, commit) in look.sources.iter().zip(made_by) {
        moves.to(look, look.app(report, source), source.snapshot.version());
        moves.to(look, commit_app(name, source.table.name()), *commit);
    }
    if look.plan.asks_for_time() && *scope == Scope::Whole {
        moves.to(look, computed_app(name), Utc::now().timestamp_millis());
    }
    if let Some(Some(mark)) = look.mark {
        moves.to(look, mark_app(name), mark.0);
    }
    if let ([source], Some(kept)) = (look.sources.as_slice(), look.kept) {
        moves.to(look, kept_app(name, source.table.name()), kept.into());
    }
    let mut properties = BTreeMap::from([
        (SQL.to_owned(), report.sql.clone()),
        (WHEN.to_owned(), report.when.as_str().to_owned()),
    ]);
    for source in &look.sources {
        properties.insert(made_of(source.table.name()), source.snapshot.id().to_owned());
    }
    // What it has already is not said again: a commit that changes properties makes every other writer look anew.
    properties.retain(|key, value| look.shown.property(key) != Some(value.as_str()));
    Plan {
        operation: Operation::Replace,
        expect: moves.expect,
        set: moves.set,
        adds,
        removes,
        data_change: true,
        properties,
        on_snapshot: Some(Arc::clone(&look.shown)),
        ..Plan::default()
    }
}

/// The plan, unless a test wants a worse one.
#[cfg(not(test))]
async fn rigorous(works: &Works, _: &Report, _: &Look, plan: Plan) -> Result<Plan, ReportError> {
    match works.rigor {
        Rigor::Full => Ok(plan),
    }
}

#[cfg(test)]
async fn rigorous(works: &Works, report: &Report, look: &Look, mut plan: Plan) -> Result<Plan, ReportError> {
    match works.rigor {
        Rigor::Full => {}
        Rigor::Overtaken => overtake(works, report, look).await?,
        Rigor::Unfenced => {
            plan.expect.clear();
            plan.on_snapshot = Some(look.table.snapshot().await?);
        }
        Rigor::NewestVersions => {
            for source in &look.sources {
                let newest = source.table.snapshot().await?.version();
                plan.set.insert(look.app(report, source), newest);
            }
        }
    }
    Ok(plan)
}

/// Somebody else commits before us: the report, where there is something to do of it, else something else.
#[cfg(test)]
async fn overtake(works: &Works, report: &Report, look: &Look) -> Result<(), ReportError> {
    use super::refresh::{Refreshed, Thoroughness, refresh};
    let (status, _) = tokio::sync::watch::channel(super::Status::default());
    let (settings, log) = (works.settings.clone(), works.log.clone());
    let buckets = works.lakehouse.clone();
    let other = Works::open(settings, &works.reports, log, buckets.ingestion, buckets.reporting, status);
    let other = other.await.unwrap();
    let mut tables = super::tables::Tables::default();
    let refreshed = Box::pin(refresh(&other, report, &mut tables, Thoroughness::Needed)).await?;
    if refreshed == Refreshed::Current {
        let plan = Plan {
            set: BTreeMap::from([(look.table.maintenance_app(), i64::from(u32::MAX))]),
            on_snapshot: Some(look.table.snapshot().await?),
            ..Plan::default()
        };
        look.table.commit(plan).await?;
    }
    Ok(())
}

/// Gives the report's table the columns that its answer has and it has not.
async fn widen(report: &Report, look: &Look, schema: SchemaRef) -> Result<Outcome, ReportError> {
    let moves = Moves::of_maintenance(look);
    let plan = Plan {
        operation: Operation::Schema,
        expect: moves.expect,
        set: moves.set,
        schema: Some(schema),
        // Until all rows are computed anew, they are of no known SQL.
        properties: BTreeMap::from([(SQL.to_owned(), String::new())]),
        on_snapshot: Some(Arc::clone(&look.shown)),
        ..Plan::default()
    };
    tracing::info!(report = report.name.as_str(), "the report gets new columns and is computed anew");
    Ok(look.table.commit(plan).await?)
}

/// Says that the report's rows are of no known SQL, so that whoever keeps it computes all of them anew; whether that was said. What others have planned before is refused.
pub(crate) async fn outdate(table: &Table) -> Result<bool, ReportError> {
    let shown = table.snapshot().await?;
    if shown.property(SQL) == Some("") {
        return Ok(true);
    }
    let app = table.maintenance_app();
    let before = shown.txn(&app);
    let plan = Plan {
        operation: Operation::Schema,
        expect: BTreeMap::from([(app.clone(), before)]),
        set: BTreeMap::from([(app, before.unwrap_or_default() + 1)]),
        properties: BTreeMap::from([(SQL.to_owned(), String::new())]),
        on_snapshot: Some(shown),
        ..Plan::default()
    };
    Ok(matches!(table.commit(plan).await?, Outcome::Applied { .. }))
}

/// Transactions that a commit expects as they were seen, and moves.
struct Moves {
    expect: BTreeMap<String, Option<i64>>,
    set: BTreeMap<String, i64>,
}

impl Moves {
    /// The one that every commit with removes moves: of two that were planned on the same version, one is refused.
    fn of_maintenance(look: &Look) -> Self {
        let mut moves = Self { expect: BTreeMap::new(), set: BTreeMap::new() };
        let app = look.table.maintenance_app();
        let raised = look.shown.txn(&app).unwrap_or_default() + 1;
        moves.to(look, app, raised);
        moves
    }

    fn to(&mut self, look: &Look, app: String, value: i64) {
        self.expect.insert(app.clone(), look.shown.txn(&app));
        self.set.insert(app, value);
    }
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
