//! What a reader finds who comes by: how large everything is, whether every answer is right, and what it costs, in time and in requests.

use super::feed::{DEVICES, Feed, OF_A_DAY, TABLE, readings, settled_days, sum_of_offsets};
use anyhow::{Context, ensure};
use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int64Type};
use futures::TryStreamExt;
use millstream_benches::Figures;
use millstream_lake::faults::FaultyStore;
use millstream_lake::{Bucket, Table};
use millstream_query::{Lakehouse, Limits, Session};
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::Value;
use std::sync::Arc;
use std::time::Instant;

/// How often each time is taken.
pub(crate) const ROUNDS: usize = 5;

/// However old the table is, opening it takes no more requests than this: three for each commit since the last checkpoint, and a few.
const OPENING_MAX: u64 = 400;

/// Nor does the last reading of a device: the newest files or two, of each of the engine's readers, and what has come since.
const LAST_MAX: u64 = 100;

/// Somebody who reads, and whose requests are counted.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) counted: Arc<FaultyStore>,
    pub(crate) bucket: Bucket,
}

/// What one thing cost, each time it was done.
#[derive(Debug)]
struct Cost {
    times: Figures,
    requests: u64,
    bytes: u64,
}

impl Cost {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { times: Figures::new()?, requests: 0, bytes: 0 })
    }

    fn in_words(&self) -> String {
        format!("{}, {}, {}", self.times.below(0.5), self.requests, self.bytes.div_ceil(1024))
    }
}

pub(crate) const QUESTIONS: [&str; 7] = [
    "open",
    "last reading, first",
    "again",
    "count of a day",
    "count of all",
    "count and sums of all",
    "system.devices",
];

impl Reader {
    /// What there is: files, objects, commits in the log, checkpoints, KiB and actions of the newest.
    pub(crate) async fn sizes(&self) -> anyhow::Result<Vec<String>> {
        let table = Table::open(&self.bucket, TABLE).await?.context("the table is gone")?;
        let snapshot = table.snapshot().await?;
        let bytes = snapshot.files().iter().map(|file| file.size).sum::<u64>();
        let stored: Vec<_> = table.store().list(None).try_collect().await?;
        let named = |end: &'static str| {
            stored.iter().filter(move |meta| {
                meta.location.as_ref().starts_with("_delta_log/") && meta.location.as_ref().ends_with(end)
            })
        };
        let (commits, checkpoints) = (named(".json").count(), named(".parquet").count());
        let newest = named(".parquet").max_by_key(|meta| meta.location.clone()).map_or(0, |meta| meta.size);
        let hint = table.store().get(&"_delta_log/_last_checkpoint".into()).await?.bytes().await?;
        let actions = serde_json::from_slice::<Value>(&hint)?["size"].clone();
        Ok(vec![
            snapshot.version().to_string(),
            snapshot.files().len().to_string(),
            format!("{:.1}", bytes as f64 / 1024.0 / 1024.0),
            stored.iter().filter(|meta| !meta.location.as_ref().starts_with('_')).count().to_string(),
            commits.to_string(),
            checkpoints.to_string(),
            newest.div_ceil(1024).to_string(),
            actions.to_string(),
        ])
    }

    /// Opens the table and asks, each as if for the first time, and checks every answer after this minute.
    pub(crate) async fn costs(&self, feed: &Feed, minute: i64) -> anyhow::Result<Vec<String>> {
        let mut costs = QUESTIONS.iter().map(|_| Cost::new()).collect::<anyhow::Result<Vec<_>>>()?;
        let [open, first, again, day, count, sums, devices] = costs.as_mut_slice() else {
            anyhow::bail!("there is a cost for each question");
        };
        let last = "select seq from telemetry where device_id = 'd3' order by ts desc limit 1";
        let date = feed.date(settled_days(minute) / 2);
        let of_day = format!("select count(*) from telemetry where date = '{date}'");
        let all = "select count(*), sum(_offset), count(distinct _offset) from telemetry";
        for _ in 0..ROUNDS {
            let opening = async || {
                let table = Table::open(&self.bucket, TABLE).await?.context("the table is gone")?;
                Ok(table.snapshot().await?)
            };
            self.measure(open, opening).await?;
            let lakehouse = Lakehouse::new(self.bucket.clone(), self.bucket.clone());
            let session = Session::open(&lakehouse, Limits::default()).await?;
            for cost in [&mut *first, &mut *again] {
                let found = self.measure(cost, async || number(&session, last).await).await?;
                ensure!(found == [minute - 1], "the last reading is number {}, found {found:?}", minute - 1);
            }
            if settled_days(minute) > 0 {
                let found = self.measure(day, async || number(&session, &of_day).await).await?;
                ensure!(found == [OF_A_DAY], "{date} has {OF_A_DAY} readings, found {found:?}");
            }
            let whole = "select count(*) from telemetry";
            let found = self.measure(count, async || number(&session, whole).await).await?;
            ensure!(found == [readings(minute)], "{} readings came, found {found:?}", readings(minute));
            let found = self.measure(sums, async || number(&session, all).await).await?;
            let expected = [readings(minute), sum_of_offsets(minute), readings(minute)];
            ensure!(found == expected, "count and sum are {expected:?}, found {found:?}");
            let listed = "select count(*), sum(readings) from system.devices";
            let star = "select * from system.devices";
            self.measure(devices, async || Ok(session.query(star).await?.collect().await?)).await?;
            let found = number(&session, listed).await?;
            ensure!(found == [DEVICES, readings(minute)], "the devices are {found:?}");
        }
        ensure!(open.requests <= OPENING_MAX, "it took {} requests to open the table", open.requests);
        ensure!(again.requests <= LAST_MAX, "it took {} requests to find the last reading", again.requests);
        Ok(costs.iter().map(Cost::in_words).collect())
    }

    async fn measure<T>(
        &self,
        cost: &mut Cost,
        doing: impl AsyncFnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let (requests, bytes, began) = (self.counted.requests(), self.counted.bytes_read(), Instant::now());
        let done = doing().await?;
        cost.times.add(began.elapsed())?;
        cost.requests = self.counted.requests() - requests;
        cost.bytes = self.counted.bytes_read() - bytes;
        Ok(done)
    }
}

/// The one row of an answer, as whole numbers.
async fn number(session: &Session, sql: &str) -> anyhow::Result<Vec<i64>> {
    let batches = session.query(sql).await?.collect().await?;
    let batch = batches.iter().find(|batch| batch.num_rows() > 0).context("an answer has no row")?;
    let numbers = batch.columns().iter().map(|column| {
        let whole = column.as_primitive_opt::<Int64Type>().map(|numbers| numbers.value(0));
        let float = column.as_primitive_opt::<Float64Type>().map(|numbers| numbers.value(0) as i64);
        whole.or(float).with_context(|| format!("{sql}: a column is {}", column.data_type()))
    });
    numbers.collect()
}
