//! The newest checkpoint of a log: all that was before it need not be replayed.

use crate::LakeError;
use crate::table::Table;
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The newest checkpoint of a log, and its files.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Checkpoint {
    pub(super) version: i64,
    pub(super) parts: Vec<Path>,
}

/// What Delta's writers leave beside the log when they have written a checkpoint. There is more in it.
#[derive(Debug, Deserialize)]
struct Hint {
    version: i64,
}

/// The newest checkpoint that is not beyond version `until`. Lists the log from the hinted one on; all of it only where the hint is missing or misleads.
pub(super) async fn newest_checkpoint(table: &Table, until: i64) -> Result<Option<Checkpoint>, LakeError> {
    if let Some(hinted) = hinted(table).await?.filter(|version| *version <= until) {
        // The names of everything of that version are longer than this, so they stand behind it.
        let begin = Path::from(format!("_delta_log/{hinted:020}"));
        if let Some(found) = choose_checkpoint(listed(table, Some(&begin)).await?.into_iter(), until) {
            return Ok(Some(found));
        }
    }
    Ok(choose_checkpoint(listed(table, None).await?.into_iter(), until))
}

/// Whether the log can be read at all.
///
/// # Errors
/// `Store`, with what the store said.
pub(super) async fn ask_store(table: &Table) -> Result<(), LakeError> {
    hinted(table).await.map(drop)
}

/// The version of the checkpoint that the hint names, if there is one.
///
/// # Errors
/// `Store`, with what the store said.
pub(crate) async fn hinted(table: &Table) -> Result<Option<i64>, LakeError> {
    let hint = async { table.store().get(&Path::from("_delta_log/_last_checkpoint")).await?.bytes().await };
    match hint.await {
        // It is a hint: one that cannot be read is none.
        Ok(bytes) => Ok(serde_json::from_slice::<Hint>(&bytes).ok().map(|hint| hint.version)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(source) => Err(table.log_unread(source)),
    }
}

async fn listed(table: &Table, behind: Option<&Path>) -> Result<Vec<Path>, LakeError> {
    let (store, folder) = (table.store(), Path::from("_delta_log"));
    let listed = match behind {
        Some(behind) => store.list_with_offset(Some(&folder), behind),
        None => store.list(Some(&folder)),
    };
    let listed = listed.map_ok(|meta| meta.location).try_collect().await;
    listed.map_err(|source| LakeError::Store {
        action: "list the log of",
        place: format!("table {}", table.name()),
        source,
    })
}

/// `<version>.checkpoint.parquet`, or `<version>.checkpoint.<part>.<parts>.parquet` with all its parts.
fn choose_checkpoint(paths: impl Iterator<Item = Path>, until: i64) -> Option<Checkpoint> {
    let mut complete: BTreeMap<i64, Vec<Path>> = BTreeMap::new();
    let mut split: BTreeMap<(i64, usize), Vec<Path>> = BTreeMap::new();
    for path in paths {
        let Some((version, rest)) = path.filename().and_then(|name| name.split_once(".checkpoint.")) else {
            continue;
        };
        let Some(version) = version.parse().ok().filter(|version| *version <= until) else { continue };
        let parts: Vec<&str> = rest.split('.').collect();
        match parts[..] {
            ["parquet"] => _ = complete.insert(version, vec![path.clone()]),
            [_, of, "parquet"] => {
                if let Ok(of) = of.parse() {
                    split.entry((version, of)).or_default().push(path.clone());
                }
            }
            _ => {}
        }
    }
    for ((version, of), parts) in split {
        if parts.len() == of {
            complete.entry(version).or_insert(parts);
        }
    }
    complete.pop_last().map(|(version, parts)| Checkpoint { version, parts })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{append, faulty, table};

    #[tokio::test]
    async fn the_hint_spares_the_list_and_never_misleads() {
        let (store, bucket) = faulty();
        let table = table(&bucket).await;
        table.commit(append("a", "app", None, 1)).await.unwrap();
        table.checkpoint().await.unwrap();
        table.commit(append("b", "app", Some(1), 2)).await.unwrap();
        let check = async |hint: Option<&str>, until: i64, expected: Option<i64>, requests: u64| {
            let place = Path::from("_delta_log/_last_checkpoint");
            match hint {
                Some(hint) => _ = table.store().put(&place, hint.to_owned().into()).await.unwrap(),
                None => table.store().delete(&place).await.unwrap(),
            }
            let before = store.requests();
            let found = newest_checkpoint(&table, until).await.unwrap().map(|checkpoint| checkpoint.version);
            assert_eq!((found, store.requests() - before), (expected, requests), "{hint:?} until {until}");
        };
        check(Some(r#"{"version":1,"size":9}"#), 2, Some(1), 2).await;
        check(Some(r#"{"version":1}"#), 0, None, 2).await;
        check(Some(r#"{"version":2}"#), 2, Some(1), 3).await;
        check(Some("{"), 2, Some(1), 2).await;
        check(None, 2, Some(1), 2).await;
    }

    #[test]
    fn the_newest_complete_checkpoint_is_chosen() {
        let check = |names: &[&str], until: i64, expected: Option<(i64, usize)>| {
            let paths = names.iter().map(|name| Path::from(format!("_delta_log/{name}")));
            let found = choose_checkpoint(paths, until)
                .map(|checkpoint| (checkpoint.version, checkpoint.parts.len()));
            assert_eq!(found, expected, "{names:?} until {until}");
        };
        let (one, two) =
            ("00000000000000000001.checkpoint.parquet", "00000000000000000002.checkpoint.parquet");
        let half = "00000000000000000003.checkpoint.0000000001.0000000002.parquet";
        let other_half = "00000000000000000003.checkpoint.0000000002.0000000002.parquet";
        check(&["00000000000000000001.json", "_last_checkpoint"], 9, None);
        check(&[one, two], 9, Some((2, 1)));
        check(&[one, two], 1, Some((1, 1)));
        check(&[one, half], 9, Some((1, 1)));
        check(&[one, half, other_half], 9, Some((3, 2)));
    }
}
