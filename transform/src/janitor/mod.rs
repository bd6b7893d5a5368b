//! Looks after the tables of a bucket on schedule, so that they stay small, quick to open, and free of what nobody needs, without anyone's care.
//!
//! One runs beside the firehoses, for the ingestion bucket, and one beside the processor, for the reporting bucket. Several of a kind, in as many processes, do no
//! harm: each commit is fenced by itself, and a lease saves them most of the work. What is done to a table, and in what order, stands in `lake::upkeep`.
//!
//! It never ends by a failure: a table that cannot be looked after now is looked after later, and the others meanwhile. It never looks at the log of messages.

mod status;

pub use status::{Status, TableStatus, Totals};

use crate::backoff::chain;
use chrono::{DateTime, Utc};
use futures::FutureExt;
use millstream_lake::Bucket;
use millstream_lake::upkeep::{Depth, Others, Rules, Tended, Unfinished, Upkeep};
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often a table's folder is listed for what nobody needs: what is looked for is older than a day at least, and a listing costs a request a thousand files.
const FOLDER_EVERY: Duration = Duration::from_secs(6 * 60 * 60);

/// How long after the start a folder is first listed: a process that starts again and again must not list each time.
const FOLDER_AFTER: Duration = Duration::from_secs(10 * 60);

/// How long something that is being done may go on after the shutdown: a merge takes back what it has uploaded.
const STOPS_WITHIN: Duration = Duration::from_secs(5);

/// How a janitor works.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How often it looks after each table.
    pub every: Duration,
}

/// How a table of this name is looked after.
pub type RulesOf = dyn Fn(&str) -> Rules + Send + Sync;

/// Looks after all tables of the bucket, one after the other, until `shutdown` is cancelled. A table that is made later is found, too. What it does is in `status`.
pub async fn run(
    settings: Settings,
    bucket: Bucket,
    rules: Arc<RulesOf>,
    shutdown: CancellationToken,
    status: watch::Sender<Status>,
) {
    let mut janitor = Janitor {
        bucket,
        rules,
        status,
        known: BTreeMap::new(),
        next_folder: Instant::now() + FOLDER_AFTER.mul_f64(fastrand::f64().max(0.1)),
    };
    // Not all of a kind at once, after a power cut.
    let mut pause = settings.every.mul_f64(fastrand::f64());
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        janitor.round(&shutdown).await;
        pause = settings.every;
    }
}

struct Janitor {
    bucket: Bucket,
    rules: Arc<RulesOf>,
    status: watch::Sender<Status>,
    /// What is known of each table from the last time.
    known: BTreeMap<String, Upkeep>,
    next_folder: Instant,
}

impl Janitor {
    async fn round(&mut self, shutdown: &CancellationToken) {
        let depth = match Instant::now() >= self.next_folder {
            true => Depth::Folder,
            false => Depth::Rows,
        };
        let names = match self.bucket.table_names().await {
            Ok(names) => names,
            Err(error) => {
                let bucket = self.bucket.name();
                tracing::warn!(
                    bucket,
                    error = chain(&error),
                    "the tables could not be listed to look after them"
                );
                self.status.send_modify(|status| status.failed_to_list(chain(&error)));
                return;
            }
        };
        for name in &names {
            if shutdown.is_cancelled() {
                return;
            }
            self.look_after(name, depth, shutdown).await;
        }
        if depth == Depth::Folder {
            self.next_folder = Instant::now() + FOLDER_EVERY;
        }
        self.known.retain(|name, _| names.contains(name));
        self.status.send_modify(|status| status.ended_round(&names, Utc::now()));
    }

    async fn look_after(&mut self, name: &str, depth: Depth, shutdown: &CancellationToken) {
        let now = Utc::now();
        // A defect in it must not be the end of the other tables, nor of the program.
        let tended = AssertUnwindSafe(self.tend(name, depth, now, shutdown)).catch_unwind();
        let tended = tokio::select! {
            tended = tended => tended,
            // Whatever is given up here, the next one does: nothing is ever half done.
            () = overdue(shutdown) => return,
        };
        let (done, error) = match tended {
            Ok(Ok(None)) => return,
            Ok(Ok(Some(tended))) => (Some(tended), None),
            Ok(Err(unfinished)) => (unfinished.done, Some(chain(&unfinished.error))),
            Err(_) => {
                // What is half known is not to be relied on.
                self.known.remove(name);
                (None, Some("a defect ended it".to_owned()))
            }
        };
        if let Some(done) = &done {
            say(name, done);
        }
        if let Some(error) = &error {
            tracing::warn!(table = name, error, "a table could not be looked after; it is tried again");
        }
        self.status.send_modify(|status| status.looked_after(name, done.as_ref(), error, now));
    }

    async fn tend(
        &mut self,
        name: &str,
        depth: Depth,
        now: DateTime<Utc>,
        shutdown: &CancellationToken,
    ) -> Result<Option<Tended>, Box<Unfinished>> {
        if !self.known.contains_key(name) {
            let Some(opened) = Upkeep::open(&self.bucket, name, (self.rules)(name)).await? else {
                return Ok(None);
            };
            self.known.insert(name.to_owned(), opened);
        }
        let Some(upkeep) = self.known.get_mut(name) else { return Ok(None) };
        upkeep.tend(depth, Others::Respected, now, shutdown, |_| {}).await.map(Some)
    }
}

/// Returns when it is time to give up what should have ended at the shutdown.
async fn overdue(shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    tokio::time::sleep(STOPS_WITHIN).await;
}

/// A line where something was done.
fn say(table: &str, tended: &Tended) {
    let (compacted, vacuumed) = (&tended.compacted, tended.vacuumed.as_ref());
    let cleaned = tended.cleaned.unwrap_or_default();
    let removed = vacuumed.map_or(0, |vacuumed| vacuumed.files);
    if compacted.written > 0 || tended.retired.is_some() || cleaned.commits > 0 || removed > 0 {
        tracing::info!(
            table,
            merged = compacted.merged,
            into = compacted.written,
            bytes = compacted.bytes_written,
            retired_before = tended.retired.as_ref().map(|retired| retired.before.to_string()),
            retired_rows = tended.retired.as_ref().and_then(|retired| retired.rows),
            commits_removed = cleaned.commits,
            files_removed = removed,
            files = tended.after.files,
            "looked after"
        );
    }
    if let Some(vacuumed) = vacuumed.filter(|vacuumed| vacuumed.strangers > 0) {
        tracing::debug!(
            table,
            strangers = vacuumed.strangers,
            named = ?vacuumed.named,
            "files that are not ours are left alone"
        );
    }
    if let Some(why) = vacuumed.and_then(|vacuumed| vacuumed.skipped) {
        tracing::warn!(table, why, "files that nobody needs were not looked for");
    }
}

#[cfg(test)]
mod tests;
