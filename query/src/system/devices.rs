//! `system.devices`: when each device was first and last heard of, how much it sent, what is missing, and how wrong its clock is.
//!
//! It is asked of the streams' own tables, with what waits in the log. Only the columns that the query reads are computed: gaps need all readings in their order,
//! the others one pass over two or three narrow columns.

use super::definition::Kind::{Count, Instant, Number, Text};
use super::definition::{Ask, Column, Contents, Definition, column};
use super::question::Question;
use super::surroundings::{LOOKS_AT_ONCE, Place, Surroundings, external};
use crate::error::QueryError;
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::TableType;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::future::{self, BoxFuture};
use futures::{FutureExt, StreamExt, stream};
use millstream_lake::ledger;
use millstream_model::column::reserved;
use std::sync::Arc;
use thiserror::Error;

const COLUMNS: [Column; 10] = [
    column("stream", Text, "the stream"),
    column("device_id", Text, "the device"),
    column("first_seen", Instant, "when its first reading came"),
    column("last_seen", Instant, "when its last reading came"),
    column("last_ts", Instant, "its latest event time"),
    column("readings", Count, "how many readings it sent"),
    column(
        "missing",
        Count,
        "how many numbers its sequence leaves out, as the stream's `sequence` counts: a number that is smaller than the one before is a restart, an equal one a repetition; null where the stream names no sequence",
    ),
    column(
        "restarts",
        Count,
        "how often its sequence began at a smaller number than the one before; null where the stream names no sequence",
    ),
    column(
        "clock_skew_seconds",
        Number,
        "how far its clock is behind, as far as one can tell from here: the least time between event and arrival within the last day, so that what it had kept for later does not count; readings that have no time of their own but that of their arrival are left out; below zero it is ahead, null if no others came",
    ),
    column(
        "bad_times",
        Count,
        "how many of its readings came with a time that is not believed, unreadable or too far off (`_extra` has it), and count by their arrival: of so wrong a clock clock_skew_seconds says nothing; null where the stream names no field for the time",
    ),
];

pub(super) const DEFINITION: Definition =
    Definition { name: "devices", columns: &COLUMNS, keys: 1, contents: Contents::Question(ask as Ask) };

/// The columns without which a table is not a stream's.
const NEEDED: [&str; 6] = [
    reserved::TS,
    reserved::DEVICE_ID,
    reserved::PARTITION,
    reserved::OFFSET,
    reserved::INDEX,
    reserved::RECEIVED_AT,
];

fn ask(surroundings: &Surroundings) -> BoxFuture<'_, Result<Question>> {
    async move {
        let names: Vec<String> = surroundings.reading_names().await?.into_iter().map(str::to_owned).collect();
        let asked = stream::iter(names).map(|name| async move {
            let part = of_stream(surroundings, &name).await;
            (name, part)
        });
        let mut asked = asked.buffered(LOOKS_AT_ONCE);
        let mut question = Question::default();
        while let Some((name, found)) = asked.next().await {
            match found {
                Ok(Some((part, table))) => {
                    question.parts.push(part);
                    question.tables.insert(name, table);
                }
                Ok(None) => {}
                // Devices that are not there would look like devices that are not: only who leaves this stream out has an answer.
                Err(problem) => {
                    question.parts.push(unasked(&name));
                    let unasked = Unasked { stream: name.clone(), problem: Arc::new(problem) };
                    question.tables.insert(name, Arc::new(unasked));
                }
            }
        }
        Ok(question)
    }
    .boxed()
}

/// The question about one stream, and its table; none where there is no table, or it is not a stream's.
async fn of_stream(
    surroundings: &Surroundings,
    name: &str,
) -> Result<Option<(String, Arc<dyn TableProvider>)>> {
    let Some(table) = surroundings.tables.table(name).await? else { return Ok(None) };
    let schema = table.schema();
    if !NEEDED.iter().all(|name| schema.field_with_name(name).is_ok()) {
        return Ok(None);
    }
    let stream = surroundings.stream(name);
    let sequence = stream.and_then(|stream| stream.sequence.as_deref());
    let counted = match sequence.filter(|name| is_numeric(&schema, name)) {
        Some(column) => Some(Sequence { column, order: order(surroundings, name).await? }),
        None => None,
    };
    let time = stream.and_then(|stream| stream.time.as_ref());
    let time = time.filter(|_| schema.field_with_name(reserved::EXTRA).is_ok());
    Ok(Some((part(name, counted, time.map(|time| time.field.as_str())), table)))
}

/// The question about a stream that cannot be asked: it fails, if it is asked.
fn unasked(stream: &str) -> String {
    let others: Vec<&str> =
        COLUMNS.iter().map(|column| column.name).filter(|name| *name != "stream").collect();
    format!("select '{stream}' as stream, {} from ingestion.{stream}", others.join(", "))
}

/// Stands for the table of a stream that cannot be asked, and is the error of who asks it.
#[derive(Debug, Clone, Error)]
#[error("the devices of stream {stream} are not known")]
pub(crate) struct Unasked {
    stream: String,
    #[source]
    problem: Arc<DataFusionError>,
}

impl Unasked {
    /// What is wrong with the stream, and the way round it.
    pub(crate) fn to_query_error(&self) -> QueryError {
        let problem = DataFusionError::Shared(Arc::clone(&self.problem));
        let Self { stream, .. } = self;
        let hint = format!(
            "the devices of {stream} are not known now; leave them out with: where stream <> '{stream}'"
        );
        QueryError::from_datafusion(problem, "").hint(hint)
    }
}

#[async_trait]
impl TableProvider for Unasked {
    fn schema(&self) -> SchemaRef {
        DEFINITION.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let refused: Arc<dyn PartitionStream> =
            Arc::new(Refused { schema: self.schema(), unasked: self.clone() });
        Ok(Arc::new(StreamingTableExec::try_new(self.schema(), vec![refused], projection, [], false, None)?))
    }
}

/// No rows, but an error.
#[derive(Debug)]
struct Refused {
    schema: SchemaRef,
    unasked: Unasked,
}

impl PartitionStream for Refused {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let unasked = DataFusionError::External(Box::new(self.unasked.clone()));
        let refused = stream::once(future::ready(Err(unasked)));
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), refused))
    }
}

/// A column in which devices count, and the order in which their readings came.
struct Sequence<'a> {
    column: &'a str,
    order: &'static str,
}

/// The order of the log. A table that went on with another log has offsets of both: there the time of arrival says which came first.
async fn order(surroundings: &Surroundings, stream: &str) -> Result<&'static str> {
    let found = surroundings.look(Place::Ingestion, stream).await.map_err(external)?;
    let is_first_log = found.is_none_or(|(_, snapshot)| ledger::epoch(&snapshot) == Some(0));
    Ok(if is_first_log { "_partition, _offset, _index" } else { "_received_at, _partition, _offset, _index" })
}

/// A field that was learned as text counts nothing.
fn is_numeric(schema: &Schema, column: &str) -> bool {
    schema.field_with_name(column).is_ok_and(|field| field.data_type().is_numeric())
}

/// True of a reading whose own time was not believed: that is in `_extra`, as it came. Of nested objects its key is the last of the path's.
fn is_bad_time(field: &str) -> String {
    let has = |key: &str| {
        let key = serde_json::Value::from(key).to_string().replace('\'', "''");
        format!("strpos(_extra, '{key}:') > 0")
    };
    let nested = field.rsplit_once('.').map(|(_, key)| format!(" or {}", has(key)));
    format!("ts = _received_at and ({}{})", has(field), nested.unwrap_or_default())
}

/// The devices of one stream. Its name is one that needs no quotes.
fn part(stream: &str, sequence: Option<Sequence<'_>>, time: Option<&str>) -> String {
    let bad_times = match time {
        None => "cast(null as bigint)".to_owned(),
        Some(field) => format!("count(case when {} then 1 end)", is_bad_time(field)),
    };
    let (missing, restarts, source) = match sequence {
        None => ("cast(null as bigint)", "cast(null as bigint)", format!("ingestion.{stream}")),
        Some(sequence) => (
            "try_cast(coalesce(sum(case when _number > _before + 1 then _number - _before - 1 end), 0) as bigint)",
            "count(case when _number < _before then 1 end)",
            numbered(stream, &sequence, time.is_some()),
        ),
    };
    format!(
        "select '{stream}' as stream, device_id, \
         min(_received_at) as first_seen, max(_received_at) as last_seen, max(ts) as last_ts, \
         count(*) as readings, {missing} as missing, {restarts} as restarts, \
         min(case when _received_at >= now() - interval '1 day' and ts <> _received_at \
             then cast(cast(_received_at as bigint) - cast(ts as bigint) as double) / 1000000 end) as clock_skew_seconds, \
         {bad_times} as bad_times \
         from {source} group by device_id"
    )
}

/// The readings in the order of the log, each with its number and that of the device's reading before it. No column of a stream's own begins with `_`.
///
/// Numbers count as doubles, in which all up to 2^53 are exact: so no number that a device may send makes the question fail.
fn numbered(stream: &str, sequence: &Sequence<'_>, with_extra: bool) -> String {
    let extra = if with_extra { "_extra, " } else { "" };
    let (column, order) = (sequence.column.replace('"', "\"\""), sequence.order);
    format!(
        "(select {extra}_received_at, ts, device_id, cast(\"{column}\" as double) as _number, \
         lag(cast(\"{column}\" as double)) ignore nulls over (partition by device_id order by {order}) as _before \
         from ingestion.{stream})"
    )
}
