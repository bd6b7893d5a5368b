//! The files of a table's Delta log: which there are, and which nobody needs any more.
//!
//! A version can be read as long as there is a checkpoint at or before it and every commit from there on. What lies before the newest checkpoint that is old enough is
//! removed, the oldest first, so that whatever is left is whole at every moment. Of the checkpoints behind it one a day stays: each has the whole table in it, and a busy
//! table gets many. The last commits about partitions of the log stay, however old: they say by which
//! record the log is recognised, and what was decided and perhaps not finished.

use super::decisions;
use crate::refresh::hinted;
use crate::table::{READ_AHEAD, Table};
use crate::{LakeError, Snapshot};
use chrono::{DateTime, Utc};
use deltalake_core::kernel::Action;
use futures::TryStreamExt;
use futures::future::try_join_all;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Checkpoints that are younger stay, every one: whoever opens the table now may be about to read one of them. Of those that are older the last of each day stays,
/// so that whoever asks for an old version replays the commits of a day at most. With a file a minute a day has 17 of them.
const CHECKPOINTS_FULL: Duration = Duration::from_secs(24 * 60 * 60);

/// The folder of the log.
pub(super) const FOLDER: &str = "_delta_log";

/// The files of a checkpoint, and of how many each should be.
type Parts = Vec<(ObjectMeta, usize)>;

/// What the log consists of.
#[derive(Debug, Default)]
pub(super) struct LogFiles {
    /// Commits, by version.
    pub(super) commits: BTreeMap<i64, ObjectMeta>,
    /// Checkpoints, by version.
    checkpoints: BTreeMap<i64, Parts>,
    /// The version that the hint beside the log names.
    hinted: Option<i64>,
}

/// What of the log is needed no more.
#[derive(Debug, Default)]
pub(super) struct Needless {
    paths: Vec<Path>,
    pub(super) cleaned: Cleaned,
}

/// What was removed of the log, or is to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Commits.
    pub commits: u64,
    /// Files of checkpoints.
    pub checkpoints: u64,
    /// Bytes of both.
    pub bytes: u64,
}

impl LogFiles {
    /// Lists the log.
    ///
    /// # Errors
    /// `Store` when it cannot be listed.
    pub(super) async fn list(table: &Table) -> Result<Self, LakeError> {
        let mut found = Self { hinted: hinted(table).await?, ..Self::default() };
        let store = table.store();
        let mut listed = store.list(Some(&Path::from(FOLDER)));
        while let Some(meta) = listed.try_next().await.map_err(|source| table.log_unread(source))? {
            let Some(name) = meta.location.filename() else { continue };
            if let Some(version) = name.strip_suffix(".json").and_then(version) {
                found.commits.insert(version, meta);
            } else if let Some((version, of)) = checkpoint(name) {
                found.checkpoints.entry(version).or_default().push((meta, of));
            }
        }
        Ok(found)
    }

    /// The first commit that is not older than this, or else the one that would come next; `None` if there may have been others that are gone.
    fn since(&self, since: DateTime<Utc>) -> Option<i64> {
        let (&last, _) = self.commits.last_key_value()?;
        let first = self.commits.iter().find(|(_, meta)| meta.last_modified >= since);
        let first = first.map_or(last + 1, |(&version, _)| version);
        (first == 0 || self.commits.contains_key(&(first - 1))).then_some(first)
    }

    /// What nobody needs at `now` who asks for a version that is younger than `before`.
    pub(super) fn needless(
        &self,
        before: DateTime<Utc>,
        now: DateTime<Utc>,
        held: &BTreeSet<i64>,
    ) -> Needless {
        // Ages count in the order of versions, as Delta's do: a commit that was dated by a clock which stood far back says nothing of those before it.
        let in_force = self.commits.iter().take_while(|(_, meta)| meta.last_modified < before).last();
        let mut whole =
            self.checkpoints.iter().filter(|(_, parts)| is_complete(parts)).map(|(version, _)| *version);
        let first = whole.clone().next();
        let base = in_force.and_then(|(in_force, _)| whole.rfind(|version| version <= in_force));
        // A reader that begins at the hint must find it.
        let base = base.map(|base| self.hinted.map_or(base, |hinted| hinted.min(base)));
        let mut needless = Needless::default();
        let mut files: Vec<(i64, &ObjectMeta)> = Vec::new();
        let end = base.unwrap_or(0);
        for (version, meta) in self.commits.range(..end).filter(|(version, _)| !held.contains(*version)) {
            needless.cleaned.commits += 1;
            files.push((*version, meta));
        }
        // Where all commits are there, nothing is needed to begin at.
        let whole_log = self.commits.contains_key(&0).then_some(-1);
        let kept = base.or(whole_log).or(first);
        let superseded = kept.map(|kept| self.superseded(kept, now)).unwrap_or_default();
        for (version, parts) in self.checkpoints.range(..end).chain(superseded) {
            needless.cleaned.checkpoints += parts.len() as u64;
            files.extend(parts.iter().map(|(meta, _)| (*version, meta)));
        }
        files.sort_by_key(|(version, _)| *version);
        needless.cleaned.bytes = files.iter().map(|(_, meta)| meta.size).sum();
        needless.paths = files.into_iter().map(|(_, meta)| meta.location.clone()).collect();
        needless
    }

    /// The checkpoints behind `kept` in whose place a later one of the same day is. Each version that one of them has can be made of the one before that stays: every
    /// commit between the two is there.
    fn superseded(&self, mut kept: i64, now: DateTime<Utc>) -> Vec<(&i64, &Parts)> {
        let young = now - CHECKPOINTS_FULL;
        let mut old = Vec::new();
        for (version, parts) in self.checkpoints.range(kept + 1..).filter(|(_, parts)| is_complete(parts)) {
            let Some(at) = parts.iter().map(|(meta, _)| meta.last_modified).max() else { continue };
            if at < young && self.hinted != Some(*version) {
                old.push((at.date_naive(), version, parts));
            }
        }
        let mut superseded = Vec::new();
        for of_day in old.chunk_by(|(day, ..), (next, ..)| day == next) {
            for (place, (_, version, parts)) in of_day.iter().enumerate() {
                let commits = self.commits.range(kept + 1..=**version).count();
                let is_reached = i64::try_from(commits).is_ok_and(|commits| commits == **version - kept);
                match is_reached && place + 1 < of_day.len() {
                    true => superseded.push((*version, *parts)),
                    false => kept = **version,
                }
            }
        }
        superseded
    }
}

/// The versions of the commits that must stay for what they say of the log's partitions.
///
/// # Errors
/// As [`Table::versions_of_txns`].
pub(super) async fn held(table: &Table, snapshot: &Snapshot) -> Result<BTreeSet<i64>, LakeError> {
    let apps = decisions::ledger_apps(snapshot);
    let names: Vec<&str> = apps.iter().map(|app| app.name).collect();
    Ok(table.versions_of_txns(&names).await?.into_values().collect())
}

/// Removes it, the oldest first.
///
/// # Errors
/// `Store` at the first file that cannot be removed; those before it are.
pub(super) async fn remove(table: &Table, needless: Needless) -> Result<Cleaned, LakeError> {
    super::vacuum::delete(table, needless.paths).await?;
    Ok(needless.cleaned)
}

/// Whether all parts of a checkpoint are there.
fn is_complete(parts: &Parts) -> bool {
    parts.iter().any(|(_, of)| parts.iter().filter(|(_, other)| other == of).count() >= *of)
}

fn version(text: &str) -> Option<i64> {
    (text.len() == 20 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

/// The version of a checkpoint's file, and of how many files it is one.
fn checkpoint(name: &str) -> Option<(i64, usize)> {
    let (number, rest) = name.split_once(".checkpoint.")?;
    let parts: Vec<&str> = rest.split('.').collect();
    match parts[..] {
        ["parquet"] => Some((version(number)?, 1)),
        [_, of, "parquet"] => Some((version(number)?, of.parse().ok()?)),
        _ => None,
    }
}

/// What commits have taken away of a table, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct TakenAway {
    /// Which table.
    id: String,
    /// All commits up to this version are taken into account.
    until: Option<i64>,
    /// When the last of them was made, or one before it, whichever is later.
    at: DateTime<Utc>,
    /// Path to when it was taken away.
    pub(super) paths: BTreeMap<String, DateTime<Utc>>,
}

impl TakenAway {
    /// Takes into account what was committed since the last time, at first from `since` on, up to the snapshot. False if the log does not reach back so far: then
    /// nobody knows.
    ///
    /// `log` was listed before the snapshot was taken: what came between is read, too, so that a table is not left untidy because it is busy.
    ///
    /// # Errors
    /// `Store`, `Log` when a commit cannot be read.
    pub(super) async fn update(
        &mut self,
        table: &Table,
        snapshot: &Snapshot,
        log: &LogFiles,
        since: DateTime<Utc>,
    ) -> Result<bool, LakeError> {
        if self.id != snapshot.id() {
            *self = Self { id: snapshot.id().to_owned(), ..Self::default() };
        }
        let first = match self.until {
            Some(until) => until + 1,
            None => match log.since(since) {
                Some(first) => first,
                None => return Ok(false),
            },
        };
        let versions: Vec<i64> = (first..=snapshot.version()).collect();
        for some in versions.chunks(READ_AHEAD) {
            let reads = some.iter().map(|version| table.commit_file(*version));
            for (version, read) in some.iter().zip(try_join_all(reads).await?) {
                let Some((meta, actions)) = read else { return Ok(false) };
                // As in `needless`: whoever dates a commit before an earlier one is wrong.
                self.at = self.at.max(meta.last_modified);
                self.until = Some(*version);
                for action in actions {
                    if let Action::Remove(remove) = action {
                        self.paths.insert(remove.path, self.at);
                    }
                }
            }
        }
        self.until = self.until.max(Some(snapshot.version()));
        self.paths.retain(|_, at| *at >= since);
        Ok(true)
    }
}
