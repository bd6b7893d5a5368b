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

/// Where keys are tried. No table can have this name.
pub(crate) const FOLDER: &str = "_millstream_probe";

pub(crate) async fn run(bucket: &str, store: &Arc<dyn ObjectStore>) -> Result<(), LakeError> {
    for _ in 0..ROUNDS {
        let key = Path::from(format!("{FOLDER}/{}", Uuid::new_v4()));
        let verdict = round(bucket, store, &key).await;
        // What stays behind after a failed delete is one small object that nothing reads.
        if let Err(error) = store.delete(&key).await {
            tracing::debug!(%key, %error, "left the key of a probe behind");
        }
        verdict?;
    }
    Ok(())
}

async fn round(bucket: &str, store: &Arc<dyn ObjectStore>, key: &Path) -> Result<(), LakeError> {
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
    let broken =
        |won| Err(LakeError::BrokenCreate { bucket: bucket.to_owned(), contenders: CONTENDERS, won });
    let [winner] = winners[..] else { return broken(winners.len()) };
    let kept = async { store.get(key).await?.bytes().await }
        .await
        .map_err(|error| failed("read back from", error))?;
    // Another's bytes under the winner's key: somebody else won as well.
    if kept != winner.to_string().as_bytes() || create(CONTENDERS).await?.is_some() {
        return broken(2);
    }
    Ok(())
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
    async fn a_store_whose_conditional_create_overwrites_is_refused() {
        let store = Arc::new(FaultyStore::new(Arc::new(InMemory::new())).with_broken_create());
        let bucket = Bucket::with_store("b", Url::parse("memory:///").unwrap(), store);
        let error = bucket.probe().await.unwrap_err();
        assert!(matches!(error, LakeError::BrokenCreate { won: 8, .. }), "{error}");
    }
}
