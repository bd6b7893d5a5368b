//! The files of a table's Delta log: which there are, and which nobody needs any more.
//!
//! A version can be read as long as there is a checkpoint at or before it and every commit from there on. What lies before the newest checkpoint that is old enough is
//! removed, the oldest first, so that whatever is left is whole at every moment. The last commits about partitions of the log stay, however old: they say by which
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

/// The folder of the log.
pub(super) const FOLDER: &str = "_delta_log";

/// What the log consists of.
#[derive(Debug, Default)]
pub(super) struct LogFiles {
    /// Commits, by version.
    pub(super) commits: BTreeMap<i64, ObjectMeta>,
    /// Files of checkpoints, by version, and of how many each should be.
    checkpoints: BTreeMap<i64, Vec<(ObjectMeta, usize)>>,
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

    /// What nobody needs who asks for a version that is younger than `before`.
    pub(super) fn needless(&self, before: DateTime<Utc>, held: &BTreeSet<i64>) -> Needless {
        // Ages count in the order of versions, as Delta's do: a commit that was dated by a clock which stood far back says nothing of those before it.
        let in_force = self.commits.iter().take_while(|(_, meta)| meta.last_modified < before).last();
        let mut needless = Needless::default();
        let Some((&in_force, _)) = in_force else { return needless };
        let complete = |(_, parts): &(&i64, &Vec<(ObjectMeta, usize)>)| {
            parts.iter().any(|(_, of)| parts.iter().filter(|(_, other)| other == of).count() >= *of)
        };
        let Some((&base, _)) = self.checkpoints.range(..=in_force).rev().find(complete) else {
            return needless;
        };
        // A reader that begins at the hint must find it.
        let base = self.hinted.map_or(base, |hinted| hinted.min(base));
        let mut files: Vec<(i64, &ObjectMeta)> = Vec::new();
        for (version, meta) in self.commits.range(..base).filter(|(version, _)| !held.contains(*version)) {
            needless.cleaned.commits += 1;
            files.push((*version, meta));
        }
        for (version, parts) in self.checkpoints.range(..base) {
            needless.cleaned.checkpoints += parts.len() as u64;
            files.extend(parts.iter().map(|(meta, _)| (*version, meta)));
        }
        files.sort_by_key(|(version, _)| *version);
        needless.cleaned.bytes = files.iter().map(|(_, meta)| meta.size).sum();
        needless.paths = files.into_iter().map(|(_, meta)| meta.location.clone()).collect();
        needless
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
