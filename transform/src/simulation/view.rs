//! What a query sees of a stream and its quarantine: committed files and the log's tail.

use super::book::{Book, Ends, Found, Side};
use arrow::array::AsArray;
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use millstream_lake::Bucket;
use millstream_log::Log;
use millstream_model::name::{Offset, Partition};
use millstream_model::stream::Stream;
use millstream_model::time::Micros;
use millstream_query::{Ask, Definitions, Lakehouse, Limits, QueryError, ScanMetrics, Session, TailUse};
use std::sync::Arc;

/// A session, as a process has it.
#[derive(Debug)]
pub(crate) struct View {
    session: Session,
    stream: String,
}

/// What one statement said of both tables.
#[derive(Debug, Default)]
pub(crate) struct Both {
    pub(crate) readings: Found,
    pub(crate) quarantine: Found,
}

impl View {
    /// Over the tables of this bucket and the log; `parallelism` is that of one query.
    pub(crate) async fn open(
        stream: &Arc<Stream>,
        log: Arc<dyn Log>,
        ingestion: &Bucket,
        parallelism: usize,
    ) -> Self {
        let definitions = Definitions { streams: vec![Arc::clone(stream)], ..Definitions::default() };
        let lakehouse = Lakehouse::new(ingestion.clone(), Bucket::memory("reporting"))
            .with_definitions(Arc::new(definitions))
            .with_log(log);
        let limits = Limits { parallelism: Some(parallelism), ..Limits::default() };
        let session = Session::open(&lakehouse, limits).await.unwrap();
        Self { session, stream: stream.name.to_string() }
    }

    /// The rows of an answer, and what it cost.
    pub(crate) async fn ask(
        &self,
        sql: &str,
        tail: TailUse,
    ) -> Result<(Vec<RecordBatch>, ScanMetrics), QueryError> {
        let mut answer = self.session.ask(sql, Ask { tail }).await?;
        let mut batches = Vec::new();
        while let Some(batch) = answer.next().await? {
            batches.push(batch);
        }
        Ok((batches, answer.metrics()))
    }

    /// The one number that an answer is.
    pub(crate) async fn number(&self, sql: &str, tail: TailUse) -> Result<i64, QueryError> {
        let (batches, _) = self.ask(sql, tail).await?;
        let [batch] = batches.as_slice() else { panic!("not one batch: {batches:?}") };
        Ok(batch.column(0).as_primitive::<Int64Type>().value(0))
    }

    /// Every row of one table that meets the condition.
    pub(crate) async fn rows(&self, side: Side, condition: &str, tail: TailUse) -> Result<Found, QueryError> {
        let sql = format!("{} and {condition}", self.select(side));
        let Both { readings, quarantine } = both(&self.ask(&sql, tail).await?.0);
        Ok(match side {
            Side::Readings => readings,
            Side::Quarantine => quarantine,
        })
    }

    /// Every row of both tables, by one statement.
    pub(crate) async fn both(&self, tail: TailUse) -> Result<Both, QueryError> {
        let sql = format!("{} union all {}", self.select(Side::Readings), self.select(Side::Quarantine));
        Ok(both(&self.ask(&sql, tail).await?.0))
    }

    fn select(&self, side: Side) -> String {
        let stream = &self.stream;
        match side {
            Side::Readings => format!(
                "select cast(0 as bigint) as side, _partition, _offset, _index, _received_at as at from {stream} where true"
            ),
            Side::Quarantine => format!(
                "select cast(1 as bigint) as side, _partition, _offset, cast(0 as int) as _index, received_at as at \
                 from quarantine where stream = '{stream}'"
            ),
        }
    }

    /// Asks for both tables and says what is wrong with the answer, when nobody appends meanwhile: then it must have everything.
    pub(crate) async fn flaw(&self, book: &Book) -> Option<String> {
        let ends = book.ends();
        let seen = match self.both(TailUse::Follow).await {
            Ok(seen) => seen,
            Err(error) => return Some(format!("the query failed: {error}")),
        };
        let sides = [(Side::Readings, &seen.readings), (Side::Quarantine, &seen.quarantine)];
        for (side, found) in sides {
            match book.judge(side, &ends, found).await {
                Ok(reached) if reached == ends => {}
                Ok(reached) => return Some(format!("{side:?} reach {reached:?}, and {ends:?} were sent")),
                Err(flaw) => return Some(flaw),
            }
        }
        None
    }
}

/// How far both sides reach, if they are right.
impl Both {
    pub(crate) async fn judge(&self, book: &Book, from: &Ends) -> Result<Ends, String> {
        let mut ends = book.judge(Side::Readings, from, &self.readings).await?;
        for (partition, end) in book.judge(Side::Quarantine, from, &self.quarantine).await? {
            let known = ends.entry(partition).or_default();
            *known = (*known).max(end);
        }
        Ok(ends)
    }
}

fn both(batches: &[RecordBatch]) -> Both {
    let mut both = Both::default();
    for batch in batches {
        let sides = batch.column(0).as_primitive::<Int64Type>();
        let partitions = batch.column(1).as_primitive::<Int32Type>();
        let offsets = batch.column(2).as_primitive::<Int64Type>();
        let indexes = batch.column(3).as_primitive::<Int32Type>();
        let times = batch.column(4).as_primitive::<TimestampMicrosecondType>();
        for row in 0..batch.num_rows() {
            let found = if sides.value(row) == 0 { &mut both.readings } else { &mut both.quarantine };
            let place = (Partition(partitions.value(row)), Offset(offsets.value(row)));
            found.entry(place).or_default().push((indexes.value(row), Micros(times.value(row))));
        }
    }
    both
}
