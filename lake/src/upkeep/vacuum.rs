//! Files that no version has whose readers may still be at work, and files that were never committed, are removed.
//!
//! A file goes when the latest version does not have it, no commit of the safe age has taken it away, it was written before that, and no decision that waits for
//! quarantine's commit names it. Whoever opened any version within the safe age can therefore read it to its end; and no writer commits a file that is half as old.

use super::decisions;
use super::log::{FOLDER, LogFiles, TakenAway};
use crate::plan::UPLOAD_AGE_MAX;
use crate::table::Table;
use crate::write::is_ours;
use crate::{LakeError, Operation, Outcome, Plan, Snapshot};
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use millstream_model::name::QUARANTINE;
use object_store::ObjectStore;
use object_store::path::Path;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// Files are removed so many at a time: as many as S3 takes in one request.
const BATCH: usize = 1_000;

/// So many files of others are named.
const NAMED_MAX: usize = 8;

/// How far the store's clock and ours may differ.
pub(super) const CLOCKS_DIFFER: Duration = Duration::from_secs(60 * 60);

/// What vacuum found, and has removed or would remove.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vacuumed {
    /// Files that nobody needs.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files in the table's folder that are neither the table's nor ours. They stay.
    pub strangers: u64,
    /// Some of those, by their paths.
    pub named: Vec<String>,
    /// Why nothing was looked for, if so.
    pub skipped: Option<&'static str>,
}

/// Whether something is done, or only told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Do,
    Tell,
}

/// Looks for files that nobody needs.
///
/// # Errors
/// As [`Table::snapshot`]; `Store` when the table's folder cannot be listed, or a file not be removed. Those before it are.
pub(super) async fn vacuum(
    table: &Table,
    taken_away: &mut TakenAway,
    log: &LogFiles,
    safe_age: Duration,
    now: DateTime<Utc>,
    mode: Mode,
) -> Result<Vacuumed, LakeError> {
    let before = now - safe_age;
    let waiting = match table.name() {
        QUARANTINE => decisions::waiting(table.bucket(), table.snapshot().await?.as_ref()).await?,
        _ => HashSet::new(),
    };
    // Only now: what was finished while the ledgers were asked, and what they do not name any more, is part of this version.
    let latest = table.snapshot().await?;
    let mut found = Vacuumed::default();
    if !taken_away.update(table, &latest, log, before - CLOCKS_DIFFER).await? {
        found.skipped = Some("its log does not reach back over the safe age");
        return Ok(found);
    }
    let live: HashSet<&str> = latest.files().iter().map(|file| file.path.as_str()).collect();
    let store = table.store();
    let mut listed = store.list(None);
    let mut batch = Vec::new();
    while let Some(meta) = listed.try_next().await.map_err(|source| unlisted(table, source))? {
        let path = meta.location.as_ref();
        if is_hidden(path) || live.contains(path) {
            continue;
        }
        if !is_ours(path, latest.partition_by()) {
            found.strangers += 1;
            if found.named.len() < NAMED_MAX {
                found.named.push(path.to_owned());
            }
            continue;
        }
        let is_needed = meta.last_modified >= before
            || taken_away.paths.get(path).is_some_and(|at| *at >= before - CLOCKS_DIFFER)
            || waiting.contains(path);
        if is_needed {
            continue;
        }
        if mode == Mode::Do && found.files == 0 && !forestall(table, &latest, log, before).await? {
            found.skipped = Some("others had begun to use it again, after a long time");
            return Ok(found);
        }
        found.files += 1;
        found.bytes += meta.size;
        batch.push(meta.location);
        if mode == Mode::Do && batch.len() == BATCH {
            delete(table, std::mem::take(&mut batch)).await?;
        }
    }
    if mode == Mode::Do {
        delete(table, batch).await?;
    }
    Ok(found)
}

/// Makes sure that nobody commits a file that goes, not even a writer that was stopped between its last look, when that was young, and its commit, until now. The
/// version that it would make was made by others since then, or else is made here, of nothing: it has to look again, and finds its upload too old. False if that
/// was not to be had, because somebody came between.
async fn forestall(
    table: &Table,
    latest: &Arc<Snapshot>,
    log: &LogFiles,
    before: DateTime<Utc>,
) -> Result<bool, LakeError> {
    let last_look = before + UPLOAD_AGE_MAX + CLOCKS_DIFFER;
    // What came after the log was listed has just come.
    if log.commits.get(&latest.version()).is_none_or(|meta| meta.last_modified > last_look) {
        return Ok(true);
    }
    let app = format!("millstream/{}/vacuum", table.name());
    let count = latest.txn(&app);
    let plan = Plan {
        operation: Operation::Lease,
        expect: BTreeMap::from([(app.clone(), count)]),
        set: BTreeMap::from([(app, count.unwrap_or_default() + 1)]),
        on_snapshot: Some(Arc::clone(latest)),
        ..Plan::default()
    };
    Ok(matches!(table.commit(plan).await?, Outcome::Applied { .. }))
}

/// The log, and what other programs keep beside a table's files: by Delta's word, what begins with `_` or `.`; a partition's folder does not.
fn is_hidden(path: &str) -> bool {
    path.starts_with(FOLDER)
        || path.split('/').any(|part| part.starts_with(['_', '.']) && !part.contains('='))
}

/// Removes these files, a batch after the other in their order: a store may take the files of one batch in any. One that is gone already is gone.
pub(super) async fn delete(table: &Table, paths: Vec<Path>) -> Result<(), LakeError> {
    let store = table.store();
    for batch in paths.chunks(BATCH) {
        let batch: Vec<_> = batch.iter().cloned().map(Ok).collect();
        let mut deleted = store.delete_stream(stream::iter(batch).boxed());
        while let Some(one) = deleted.next().await {
            match one {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(source) => {
                    let place = format!("table {}", table.name());
                    return Err(LakeError::Store { action: "remove a file of", place, source });
                }
            }
        }
    }
    Ok(())
}

fn unlisted(table: &Table, source: object_store::Error) -> LakeError {
    LakeError::Store { action: "list the files of", place: format!("table {}", table.name()), source }
}

/// Whether a table is ours to look after: one of another program in the same bucket is not.
pub(super) fn is_ours_to_keep(snapshot: &Snapshot) -> bool {
    snapshot.properties().keys().any(|key| key.starts_with("millstream."))
}
