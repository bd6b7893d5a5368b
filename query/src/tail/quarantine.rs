//! The tail of the table of bad input. It waits in every topic: a stream's messages go there by the stream's own decision, and quarantine's commit only repeats it.
//!
//! So quarantine is its committed files, the files of decisions that quarantine's commit has not repeated yet, and the quarantined messages of every topic that neither
//! the stream's table nor quarantine has an outcome of. The streams' tables are looked at before quarantine: what was decided in between is in quarantine then, or
//! waits, or is still in the log.

use super::error::{TailError, TailFailure};
use super::exec::Looked;
use super::follower::Follower;
use super::provider::TailProvider;
use super::standing::Seen;
use super::view::{Rows, View};
use super::{Tailed, Tails};
use arrow::array::{AsArray, RecordBatch};
use arrow::compute::max;
use arrow::datatypes::TimestampMicrosecondType;
use futures::future::try_join_all;
use millstream_lake::ledger::{Decision, app};
use millstream_lake::{NewFile, Snapshot};
use millstream_model::name::{LogTopic, Offset, Partition, QUARANTINE};
use millstream_model::time::Micros;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// So often it begins anew because a stream's table has moved on while its last commits were read.
const LOOKS_MAX: usize = 5;

/// What a stream adds to quarantine's committed files.
#[derive(Debug)]
struct Waiting {
    /// Files of decisions that quarantine has not repeated.
    files: Vec<NewFile>,
    /// Messages that are in the log only.
    rows: Rows,
}

impl Tails {
    /// Quarantine as it is now, with what waits for it.
    pub(super) async fn quarantine(&self) -> Result<Tailed, TailFailure> {
        let views =
            self.streams.values().map(|follower| async move { Ok((follower, follower.look().await?)) });
        let mut views: Vec<(&Arc<Follower>, Arc<View>)> = try_join_all(views).await?;
        for _ in 0..LOOKS_MAX {
            // Behind all of them.
            let quarantine = self.unclaimed.look().await?;
            let snapshot = quarantine.snapshot().map(|snapshot| &**snapshot);
            let found = views.iter().map(|(follower, view)| waiting(follower, view, snapshot));
            let found = try_join_all(found).await.map_err(|error| TailFailure(Arc::new(error)))?;
            let mut all = Waiting { files: Vec::new(), rows: quarantine.quarantined(|_| None) };
            let mut moved = false;
            for ((follower, view), found) in views.iter_mut().zip(found) {
                match found {
                    Some(waiting) => {
                        all.files.extend(waiting.files);
                        all.rows.append(waiting.rows);
                    }
                    None => {
                        *view = follower.look().await?;
                        moved = true;
                    }
                }
            }
            if !moved {
                return self.table(&quarantine, all, &views);
            }
        }
        Err(TailFailure(Arc::new(TailError::Moving { table: QUARANTINE.to_owned(), looks: LOOKS_MAX })))
    }

    fn table(
        &self,
        quarantine: &View,
        Waiting { files, rows }: Waiting,
        views: &[(&Arc<Follower>, Arc<View>)],
    ) -> Result<Tailed, TailFailure> {
        let newest = rows.batches.iter().filter_map(newest).max();
        let as_of = views.iter().fold(quarantine.as_of, |oldest, (_, view)| oldest.min(view.as_of));
        TailProvider::of(quarantine, Looked::new(rows, newest, as_of), files, self.tables.bucket())
    }
}

/// When the newest of these messages was received.
fn newest(rows: &RecordBatch) -> Option<Micros> {
    let received = rows.column_by_name("received_at")?;
    max(received.as_primitive_opt::<TimestampMicrosecondType>()?).map(Micros)
}

/// What a stream's table and its topic have beyond quarantine's version; `None` if the stream's table has moved on: look at it again.
async fn waiting(
    follower: &Follower,
    view: &View,
    quarantine: Option<&Snapshot>,
) -> Result<Option<Waiting>, TailError> {
    let (topic, epoch) = (follower.topic(), view.standing.epoch);
    let repeated = |partition: Partition| repeated(quarantine, topic, epoch, partition);
    let mut waiting = Waiting { files: Vec::new(), rows: view.quarantined(repeated) };
    if let Some(seen) = &view.seen {
        let behind = view.standing.committed.iter();
        let behind = behind.filter(|(partition, committed)| repeated(**partition) < Some(**committed));
        let behind: BTreeSet<Partition> = behind.map(|(partition, _)| *partition).collect();
        match undone(follower, seen, &behind, quarantine).await? {
            Some(files) => waiting.files = files,
            None => return Ok(None),
        }
    }
    Ok(Some(waiting))
}

/// How far quarantine has repeated what was decided about a partition.
fn repeated(
    quarantine: Option<&Snapshot>,
    topic: &LogTopic,
    epoch: i64,
    partition: Partition,
) -> Option<Offset> {
    quarantine?.txn(&app(QUARANTINE, topic, epoch, partition)).map(Offset)
}

/// The files of the last decisions about these partitions that quarantine has not repeated. Of each partition at most one waits, the last.
async fn undone(
    follower: &Follower,
    seen: &Seen,
    behind: &BTreeSet<Partition>,
    quarantine: Option<&Snapshot>,
) -> Result<Option<Vec<NewFile>>, TailError> {
    if behind.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let Some(last) = follower.decisions().last(seen, follower.topic(), behind).await? else {
        return Ok(None);
    };
    // One decision may be the last about several partitions.
    let last: BTreeMap<String, Arc<Decision>> =
        last.into_values().map(|decision| (decision.flush.clone(), decision)).collect();
    let undone = last.into_values().filter(|decision| {
        let mut ranges = decision.ranges.iter();
        !ranges.all(|range| {
            repeated(quarantine, follower.topic(), decision.epoch, range.partition) >= Some(range.last)
        })
    });
    Ok(Some(undone.flat_map(|decision| decision.quarantine.clone()).collect()))
}
