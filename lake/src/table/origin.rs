//! Where a fence came from that stands in a checkpoint: the log, read backward.

use super::{READ_AHEAD, Table};
use crate::LakeError;
use deltalake_core::kernel::Action;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStore;
use object_store::path::Path;
use std::collections::{BTreeMap, HashMap};

/// Moves from `wanted`, fence to value, to `found`, fence to version, what a commit up to `newest` has moved there last.
pub(super) async fn find(
    table: &Table,
    newest: i64,
    mut wanted: HashMap<&str, i64>,
    found: &mut BTreeMap<String, i64>,
) -> Result<(), LakeError> {
    let Some(missing) = search(table, (0..=newest).rev(), &mut wanted, found).await? else { return Ok(()) };
    // Upkeep has cleaned the log, and has left single commits for just this.
    let left = listed_below(table, missing).await?;
    search(table, left.into_iter(), &mut wanted, found).await.map(drop)
}

/// Reads these versions until nothing is wanted any more, or one is missing: then which.
async fn search(
    table: &Table,
    versions: impl Iterator<Item = i64>,
    wanted: &mut HashMap<&str, i64>,
    found: &mut BTreeMap<String, i64>,
) -> Result<Option<i64>, LakeError> {
    let mut earlier = stream::iter(versions)
        .map(|version| async move { table.actions(version).await.map(|actions| (version, actions)) })
        .buffered(READ_AHEAD);
    while let Some((version, actions)) = earlier.try_next().await? {
        let Some(actions) = actions else { return Ok(Some(version)) };
        for action in &actions {
            if let Action::Txn(txn) = action
                && wanted.get(txn.app_id.as_str()) == Some(&txn.version)
            {
                wanted.remove(txn.app_id.as_str());
                found.insert(txn.app_id.clone(), version);
            }
        }
        if wanted.is_empty() {
            break;
        }
    }
    Ok(None)
}

/// The commits below a version that are in the log, the newest first.
async fn listed_below(table: &Table, version: i64) -> Result<Vec<i64>, LakeError> {
    let (store, folder) = (table.store(), Path::from("_delta_log"));
    let mut listed = store.list(Some(&folder));
    let mut versions = Vec::new();
    while let Some(meta) = listed.try_next().await.map_err(|source| table.log_unread(source))? {
        let name = meta.location.filename().and_then(|name| name.strip_suffix(".json"));
        versions.extend(name.and_then(|name| name.parse::<i64>().ok()).filter(|found| *found < version));
    }
    versions.sort_unstable_by_key(|version| std::cmp::Reverse(*version));
    Ok(versions)
}
