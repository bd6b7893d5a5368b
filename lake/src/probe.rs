//! The question that is put to a store before anything is entrusted to it: does a conditional create have exactly one winner?
//!
//! A store may pass one create after another and still let two concurrent ones win; two commits would then share a version, and one would be lost.

use crate::LakeError;
use futures::future::join_all;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode};
use std::sync::Arc;
use uuid::Uuid;

/// How many create the same key at the same time.
const CONTENDERS: usize = 8;

/// How often that is repeated: a race is not lost every time.
const ROUNDS: usize = 4;

/// How often a round is repeated that told nothing: when the answer to the winner was lost, and its request sent again, everybody is told that the key exists.
const REPEATS_MAX: usize = 4;

/// Where keys are tried. No table can have this name.
pub(crate) const FOLDER: &str = "_millstream_probe";

pub(crate) async fn run(bucket: &str, store: &Arc<dyn ObjectStore>) -> Result<(), LakeError> {
    let (mut told, mut repeats) = (0, 0);
    while told < ROUNDS {
        let key = Path::from(format!("{FOLDER}/{}", Uuid::new_v4()));
        let verdict = round(bucket, store, &key).await;
        // What stays behind after a failed delete is one small object that nothing reads.
        if let Err(error) = store.delete(&key).await {
            tracing::debug!(%key, %error, "left the key of a probe behind");
        }
        match verdict? {
            Verdict::One => told += 1,
            Verdict::Unheard if repeats < REPEATS_MAX => repeats += 1,
            Verdict::Unheard => return Err(broken(bucket, 0)),
        }
    }
    Ok(())
}

/// What a round came to, where nothing speaks against the store.
enum Verdict {
    One,
    /// Nobody was told that it won, though somebody may have: the store, or the way to it, failed meanwhile.
    Unheard,
}

fn broken(bucket: &str, won: usize) -> LakeError {
    LakeError::BrokenCreate { bucket: bucket.to_owned(), contenders: CONTENDERS, won }
}

async fn round(bucket: &str, store: &Arc<dyn ObjectStore>, key: &Path) -> Result<Verdict, LakeError> {
    let failed = |action, source| LakeError::Store { action, place: format!("bucket {bucket}"), source };
    let create = |contender: usize| async move {
        match store.put_opts(key, contender.to_string().into(), PutMode::Create.into()).await {
            Ok(_) => Ok(Some(contender)),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(None),
            Err(error) => Err(failed("create a key conditionally in", error)),
        }
    };
    let answers = join_all((0..CONTENDERS).map(create)).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    let winners: Vec<usize> = answers.into_iter().flatten().collect();
    if winners.len() > 1 {
        return Err(broken(bucket, winners.len()));
    }
    let kept = match async { store.get(key).await?.bytes().await }.await {
        Ok(kept) => kept,
        // Each was told of a conflict with the others: S3 may do that, and wants them to try again.
        Err(Error::NotFound { .. }) if winners.is_empty() => return Ok(Verdict::Unheard),
        Err(error) => return Err(failed("read back from", error)),
    };
    let is_ours = |contender: usize| kept == contender.to_string().as_bytes();
    let Some(&winner) = winners.first() else {
        return if (0..CONTENDERS).any(is_ours) { Ok(Verdict::Unheard) } else { Err(broken(bucket, 0)) };
    };
    // Another's bytes under the winner's key: somebody else won as well.
    if !is_ours(winner) || create(CONTENDERS).await?.is_some() {
        return Err(broken(bucket, 2));
    }
    Ok(Verdict::One)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Bucket;
    use crate::faults::FaultyStore;
    use object_store::memory::InMemory;
    use url::Url;

    #[tokio::test]
    async fn good_stores_pass_and_keep_nothing_of_the_probe() {
        let dir = tempfile::tempdir().unwrap();
        for bucket in [Bucket::memory("m"), Bucket::local(dir.path()).unwrap()] {
            bucket.probe().await.unwrap();
            let left = bucket.store().list_with_delimiter(Some(&Path::from(FOLDER))).await.unwrap();
            assert!(left.objects.is_empty());
        }
    }

    #[tokio::test]
    async fn a_winner_who_is_not_told_of_it_speaks_against_the_store_only_if_it_is_never_told() {
        let check = async |lost: u32, is_refused: bool| {
            let (store, bucket) = crate::fixture::faulty();
            store.lose_creates(lost);
            match bucket.probe().await {
                Ok(()) => assert!(!is_refused, "{lost}"),
                Err(error) => {
                    assert!(matches!(error, LakeError::BrokenCreate { won: 0, .. }), "{error}");
                    assert!(is_refused, "{lost}");
                }
            }
        };
        let most = u32::try_from(REPEATS_MAX).unwrap();
        check(1, false).await;
        check(most, false).await;
        check(most + 1, true).await;
    }

    #[tokio::test]
    async fn a_store_whose_conditional_create_overwrites_is_refused() {
        let store = Arc::new(FaultyStore::new(Arc::new(InMemory::new())).with_broken_create());
        let bucket = Bucket::with_store("b", Url::parse("memory:///").unwrap(), store);
        let error = bucket.probe().await.unwrap_err();
        assert!(matches!(error, LakeError::BrokenCreate { won: 8, .. }), "{error}");
    }
}
