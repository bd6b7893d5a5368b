//! What a bucket lets us do: each thing is tried, on keys that nobody else uses, and what is refused is named as the store's administrator knows it.
//!
//! For people who set a bucket up (`millstream doctor`). Nothing else depends on it: a pipeline notices by itself what it may not do.

use crate::{Bucket, LakeError, probe, s3};
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Error, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, Result};
use uuid::Uuid;

/// Something that Millstream does with a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Finds tables and the commits of their logs.
    List,
    /// Writes files of at most a part.
    Put,
    /// Reads commits and files.
    Get,
    /// Writes what must not exist yet: a commit.
    Create,
    /// Writes larger files, in parts.
    Multipart,
    /// Gives up a file of which some parts are written.
    Abort,
    /// Deletes what it wrote for a trial, and later what is merged.
    Delete,
}

/// What became of one trial.
#[derive(Debug)]
pub struct Trial {
    /// What was tried.
    pub permission: Permission,
    /// How it ended.
    pub verdict: Verdict,
}

/// How a trial ended.
#[derive(Debug)]
pub enum Verdict {
    /// It is allowed.
    Granted,
    /// The store knows us, and does not allow it.
    Missing(LakeError),
    /// The store does not even look at requests of this machine, whose clock is not its own.
    Skewed(LakeError),
    /// It failed in another way.
    Failed(LakeError),
    /// It could not be tried, because what it needs could not be written.
    Untried,
}

impl Permission {
    /// What IAM, and with it S3 and MinIO, calls the right.
    #[must_use]
    pub fn action(self) -> &'static str {
        match self {
            Self::List => "s3:ListBucket",
            Self::Get => "s3:GetObject",
            Self::Put | Self::Create | Self::Multipart => "s3:PutObject",
            Self::Abort => "s3:AbortMultipartUpload",
            Self::Delete => "s3:DeleteObject",
        }
    }

    /// What it is for, to complete "to …".
    #[must_use]
    pub fn purpose(self) -> &'static str {
        match self {
            Self::List => "find tables and their commits",
            Self::Put => "write files",
            Self::Get => "read commits and files",
            Self::Create => "write a commit only where there is none",
            Self::Multipart => "write large files in parts",
            Self::Abort => "give up a large file",
            Self::Delete => "delete what it no longer needs",
        }
    }
}

fn untried(permission: Permission) -> Trial {
    Trial { permission, verdict: Verdict::Untried }
}

impl Bucket {
    /// Tries all that Millstream does with a bucket, one after the other. What could not be deleted stays behind as a few small objects below
    /// `_millstream_probe/`.
    pub async fn permissions(&self) -> Vec<Trial> {
        let key = Path::from(format!("{}/{}", probe::FOLDER, Uuid::new_v4()));
        let large = Path::from(format!("{}/{}", probe::FOLDER, Uuid::new_v4()));
        let store = self.store();
        let mut trials = Vec::new();
        let mut tried = |permission, result| {
            let verdict = self.verdict(permission, result);
            let granted = matches!(verdict, Verdict::Granted);
            trials.push(Trial { permission, verdict });
            granted
        };
        tried(Permission::List, list(store.as_ref()).await);
        let put = tried(Permission::Put, store.put(&key, Bytes::from_static(b"x").into()).await.map(drop));
        if put {
            tried(Permission::Get, read(store.as_ref(), &key).await);
            tried(Permission::Create, create(store.as_ref(), &key).await);
            let whole = tried(Permission::Multipart, whole(store.as_ref(), &large).await);
            if whole {
                tried(Permission::Abort, abort(store.as_ref(), &large).await);
            }
            tried(Permission::Delete, store.delete(&key).await);
            if !whole {
                trials.push(untried(Permission::Abort));
            } else if let Err(error) = store.delete(&large).await {
                tracing::debug!(%large, %error, "left the key of a trial behind");
            }
        } else {
            // Whether a missing key may be read or deleted, a store tells nobody who may not list; and what may not be written matters little.
            trials.extend([Permission::Get, Permission::Create, Permission::Multipart].map(untried));
            trials.extend([Permission::Abort, Permission::Delete].map(untried));
        }
        trials
    }

    fn verdict(&self, permission: Permission, result: Result<()>) -> Verdict {
        let Err(source) = result else { return Verdict::Granted };
        let verdict = match &source {
            Error::PermissionDenied { .. } => Verdict::Missing,
            source if s3::code_of(source) == Some(s3::SKEWED) => Verdict::Skewed,
            _ => Verdict::Failed,
        };
        let place = format!("bucket {}", self.name());
        verdict(LakeError::Store { action: permission.trial(), place, source })
    }
}

impl Permission {
    /// What was tried, to complete "failed to …".
    fn trial(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Put => "write to",
            Self::Get => "read from",
            Self::Create => "create a key conditionally in",
            Self::Multipart => "write in parts to",
            Self::Abort => "abort an upload to",
            Self::Delete => "delete from",
        }
    }
}

async fn list(store: &dyn ObjectStore) -> Result<()> {
    let folder = Path::from(probe::FOLDER);
    store.list(Some(&folder)).try_next().await.map(drop)
}

async fn read(store: &dyn ObjectStore, key: &Path) -> Result<()> {
    store.get(key).await?.bytes().await.map(drop)
}

/// The key exists: a store that knows the condition says so.
async fn create(store: &dyn ObjectStore, key: &Path) -> Result<()> {
    match store.put_opts(key, Bytes::from_static(b"y").into(), PutMode::Create.into()).await {
        Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(Error::NotSupported { source: "it overwrote what it must not".into() }),
    }
}

async fn whole(store: &dyn ObjectStore, key: &Path) -> Result<()> {
    let mut upload = begin(store, key).await?;
    match upload.complete().await {
        Ok(_) => Ok(()),
        Err(error) => Err(given_up(upload, error).await),
    }
}

async fn abort(store: &dyn ObjectStore, key: &Path) -> Result<()> {
    begin(store, key).await?.abort().await
}

async fn begin(store: &dyn ObjectStore, key: &Path) -> Result<Box<dyn MultipartUpload>> {
    let mut upload = store.put_multipart(key).await?;
    match upload.put_part(Bytes::from_static(b"x").into()).await {
        Ok(()) => Ok(upload),
        Err(error) => Err(given_up(upload, error).await),
    }
}

/// The error for which an upload is given up, so that its parts do not stay.
async fn given_up(mut upload: Box<dyn MultipartUpload>, error: Error) -> Error {
    if let Err(left) = upload.abort().await {
        tracing::debug!(%left, "left the parts of a trial behind");
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn where_everything_is_allowed_everything_is_granted_and_nothing_stays_behind() {
        let dir = tempfile::tempdir().unwrap();
        for bucket in [Bucket::memory("m"), Bucket::local(dir.path()).unwrap()] {
            let trials = bucket.permissions().await;
            assert_eq!(trials.len(), 7);
            assert!(trials.iter().all(|trial| matches!(trial.verdict, Verdict::Granted)), "{trials:?}");
            let left: Vec<_> = bucket.store().list(None).try_collect().await.unwrap();
            assert!(left.is_empty(), "{left:?}");
        }
    }

    #[tokio::test]
    async fn what_is_written_in_parts_and_fails_is_given_up_and_what_could_not_be_tried_is_said() {
        let check = async |fail: fn(&crate::faults::FaultyStore)| {
            let (store, bucket) = crate::fixture::faulty();
            fail(&store);
            let trials = bucket.permissions().await;
            let not_granted: Vec<_> = trials
                .iter()
                .filter(|trial| !matches!(trial.verdict, Verdict::Granted))
                .map(|trial| (trial.permission, matches!(trial.verdict, Verdict::Untried)))
                .collect();
            assert_eq!(not_granted, [(Permission::Multipart, false), (Permission::Abort, true)]);
            assert_eq!((trials.len(), store.uploads_open()), (7, 0));
        };
        check(|store| store.fail_part_after(0)).await;
        check(|store| store.fail_completions(1)).await;
    }

    #[tokio::test]
    async fn a_store_that_does_not_know_the_condition_is_told() {
        let (store, bucket) = crate::fixture::faulty();
        drop(store);
        let broken =
            std::sync::Arc::new(crate::faults::FaultyStore::new(bucket.store()).with_broken_create());
        let bucket = Bucket::with_store("b", bucket.url().clone(), broken);
        let trials = bucket.permissions().await;
        let failed: Vec<_> = trials
            .iter()
            .filter(|trial| !matches!(trial.verdict, Verdict::Granted))
            .map(|trial| trial.permission)
            .collect();
        assert_eq!(failed, [Permission::Create], "{trials:?}");
    }
}
