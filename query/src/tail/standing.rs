//! What a version of a table says of the log: where its tail begins, and by which records the log is recognised.

use super::error::TailError;
use futures::future::try_join_all;
use millstream_lake::ledger::{self, App, Decision};
use millstream_lake::{LakeError, Snapshot, Table};
use millstream_model::name::{LogTopic, Offset, Partition};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::Mutex;

/// A table at one of its versions.
pub(super) type Seen = (Table, Arc<Snapshot>);

/// Where the partitions of a log topic stand in a version of their table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    /// Which table it is; `None`: there is none.
    pub(super) table: Option<String>,
    /// The epoch in which the offsets count.
    pub(super) epoch: i64,
    /// The last offset of each partition that has an outcome.
    pub(super) committed: BTreeMap<Partition, Offset>,
}

impl Standing {
    pub(super) fn of(name: &str, topic: &LogTopic, seen: Option<&Seen>) -> Result<Self, TailError> {
        let Some((_, snapshot)) = seen else {
            return Ok(Self { table: None, epoch: 0, committed: BTreeMap::new() });
        };
        let broken = || TailError::Epoch { table: name.to_owned() };
        let epoch = ledger::epoch(snapshot).ok_or_else(broken)?;
        let current = ledger::apps(snapshot, topic).filter(|app| app.epoch == epoch);
        let committed = current.filter_map(|app| Some((app.partition, Offset(snapshot.txn(app.name)?))));
        Ok(Self { table: Some(snapshot.id().to_owned()), epoch, committed: committed.collect() })
    }

    /// Whether offsets mean the same in both.
    pub(super) fn is_about_the_same(&self, other: &Self) -> bool {
        // A table that was made meanwhile begins where there was none.
        let same = self.table == other.table || self.table.is_none();
        same && self.epoch == other.epoch
    }
}

/// The last decisions about a topic's partitions, read once each: a version's commit never changes.
#[derive(Debug, Default)]
pub(super) struct Decisions(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// The table that the versions are of.
    table: String,
    by_version: BTreeMap<i64, Option<Arc<Decision>>>,
    /// By the name of a transaction: its value, and the version that moved it there.
    versions: BTreeMap<String, (i64, Option<i64>)>,
}

impl Decisions {
    /// The decision that was made last about each of these partitions, whatever its epoch; without those whose commit is gone from the table's log or says nothing of offsets.
    /// `None` if the table has moved on meanwhile: look at it again.
    pub(super) async fn last(
        &self,
        (table, snapshot): &Seen,
        topic: &LogTopic,
        partitions: &BTreeSet<Partition>,
    ) -> Result<Option<BTreeMap<Partition, Arc<Decision>>>, TailError> {
        let mut known = self.0.lock().await;
        if known.table != snapshot.id() {
            *known = Known { table: snapshot.id().to_owned(), ..Known::default() };
        }
        let mut newest: BTreeMap<Partition, App<'_>> = BTreeMap::new();
        for app in ledger::apps(snapshot, topic).filter(|app| partitions.contains(&app.partition)) {
            let last = newest.entry(app.partition).or_insert(app);
            if last.epoch < app.epoch {
                *last = app;
            }
        }
        if !known.find_versions(table, snapshot, newest.values()).await? {
            return Ok(None);
        }
        known.read(table).await?;
        let decision = |app: &App<'_>| {
            let version = known.versions.get(app.name)?.1?;
            known.by_version.get(&version).cloned().flatten()
        };
        let found = newest.iter().filter_map(|(partition, app)| Some((*partition, decision(app)?)));
        Ok(Some(found.collect()))
    }
}

impl Known {
    /// Learns which versions moved these transactions to where they stand; false if they stand somewhere else by now.
    async fn find_versions<'s>(
        &mut self,
        table: &Table,
        snapshot: &Snapshot,
        apps: impl Iterator<Item = &'s App<'s>>,
    ) -> Result<bool, TailError> {
        let standing = apps.filter_map(|app| Some((app.name, snapshot.txn(app.name)?)));
        let standing: BTreeMap<&str, i64> = standing.collect();
        let is_known =
            |(name, value): &(&str, i64)| self.versions.get(*name).is_some_and(|(known, _)| known == value);
        let missing: Vec<(&str, i64)> =
            standing.iter().map(|(name, value)| (*name, *value)).filter(|app| !is_known(app)).collect();
        if missing.is_empty() {
            return Ok(true);
        }
        let names: Vec<&str> = missing.iter().map(|(name, _)| *name).collect();
        let found = table.versions_of_txns(&names).await?;
        if found.values().any(|version| *version > snapshot.version()) {
            return Ok(false);
        }
        for (name, value) in missing {
            self.versions.insert(name.to_owned(), (value, found.get(name).copied()));
        }
        Ok(true)
    }

    /// Reads the commits that are named and not read yet, and forgets those that are not named any more.
    async fn read(&mut self, table: &Table) -> Result<(), TailError> {
        let named: BTreeSet<i64> = self.versions.values().filter_map(|(_, version)| *version).collect();
        self.by_version.retain(|version, _| named.contains(version));
        let missing = named.into_iter().filter(|version| !self.by_version.contains_key(version));
        let read = missing.map(|version| async move {
            match table.commit_info(version).await {
                // What is there and cannot be read as a decision is somebody else's: the firehose that needs it says so.
                Ok(commit) => Ok((version, Decision::from_info(&commit.info).ok().flatten().map(Arc::new))),
                Err(LakeError::Gone { .. }) => Ok((version, None)),
                Err(error) => Err(error),
            }
        });
        self.by_version.extend(try_join_all(read).await?);
        Ok(())
    }
}
