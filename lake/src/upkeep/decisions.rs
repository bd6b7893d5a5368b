//! What ledgers have decided about quarantine and perhaps not finished: files of quarantine that no version of it has yet, and that will be part of it nevertheless.

use crate::ledger::{Decision, app};
use crate::table::Table;
use crate::{Bucket, LakeError, Snapshot};
use millstream_model::name::{LogTopic, Partition, QUARANTINE};
use std::collections::{BTreeSet, HashSet};

/// The transaction of a log topic's partition in a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LedgerApp<'s> {
    topic: LogTopic,
    epoch: i64,
    partition: Partition,
    /// The last offset with an outcome.
    last: i64,
    pub(super) name: &'s str,
}

/// The transactions of a table that say what became of offsets, of whatever topic: of each partition the one of its last epoch. Those of former epochs never move
/// again, and whoever raised it has finished what they waited for; to look for where they came from would be to read the whole log each time.
pub(super) fn ledger_apps(snapshot: &Snapshot) -> Vec<LedgerApp<'_>> {
    let prefix = format!("millstream/{}/", snapshot.table());
    let parse = |(name, last)| {
        let mut parts = str::strip_prefix(name, &prefix)?.split('/');
        let (topic, epoch, partition) = (parts.next()?, parts.next()?, parts.next()?);
        let app = LedgerApp {
            topic: topic.parse().ok()?,
            epoch: epoch.parse().ok()?,
            partition: Partition(partition.parse().ok()?),
            last,
            name,
        };
        parts.next().is_none().then_some(app)
    };
    let mut newest: Vec<LedgerApp<'_>> = Vec::new();
    for app in snapshot.txns().filter_map(parse) {
        match newest.iter_mut().find(|known| (&known.topic, known.partition) == (&app.topic, app.partition)) {
            Some(known) if known.epoch < app.epoch => *known = app,
            Some(_) => {}
            None => newest.push(app),
        }
    }
    newest
}

/// The paths of quarantine's files that a table of the bucket has decided on, and that may wait for quarantine's own commit.
///
/// # Errors
/// As [`Table::snapshot`], [`Table::versions_of_txns`] and [`Table::commit_info`]; `Json` for a decision that cannot be read. Then nobody knows what waits.
pub(super) async fn waiting(bucket: &Bucket, quarantine: &Snapshot) -> Result<HashSet<String>, LakeError> {
    let mut waiting = HashSet::new();
    for name in bucket.table_names().await? {
        if name == QUARANTINE {
            continue;
        }
        let Some(table) = Table::open(bucket, &name).await? else { continue };
        let snapshot = table.snapshot().await?;
        let apps = ledger_apps(&snapshot);
        let unfinished = |ledger: &&LedgerApp<'_>| {
            let done = quarantine.txn(&app(QUARANTINE, &ledger.topic, ledger.epoch, ledger.partition));
            done < Some(ledger.last)
        };
        let names: Vec<&str> = apps.iter().filter(unfinished).map(|app| app.name).collect();
        let versions: BTreeSet<i64> = table.versions_of_txns(&names).await?.into_values().collect();
        for version in versions {
            let decision = Decision::from_info(&table.commit_info(version).await?.info)
                .map_err(|source| LakeError::Json { table: name.clone(), source })?;
            waiting
                .extend(decision.into_iter().flat_map(|decision| decision.quarantine).map(|file| file.path));
        }
    }
    Ok(waiting)
}
