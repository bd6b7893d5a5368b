//! A bucket: one object store, and the tables in it by name.

use crate::durable::Durable;
use crate::{LakeError, probe};
use futures::StreamExt;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, memory::InMemory, prefix::PrefixStore};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use url::Url;

/// One bucket, or a local directory that stands for it. Cheap to clone.
#[derive(Clone)]
pub struct Bucket {
    name: Arc<str>,
    url: Url,
    store: Arc<dyn ObjectStore>,
}

impl Bucket {
    /// The directory `dir`, which is made if it does not exist. What is written there survives the loss of power.
    ///
    /// # Errors
    /// `Directory` when it cannot be made, synced or named by a URL.
    pub fn local(dir: &Path) -> Result<Self, LakeError> {
        let directory = |source| LakeError::Directory { path: dir.to_owned(), source };
        let store = Durable::open(dir).map_err(directory)?;
        let name = store.root().file_name().map_or_else(|| "bucket".into(), |name| name.to_string_lossy());
        let url = Url::from_directory_path(store.root())
            .map_err(|()| directory(std::io::Error::other("its path cannot be a URL")))?;
        Ok(Self { name: name.into(), url, store: Arc::new(store) })
    }

    /// Any object store. `name` is what notices call the bucket, `url` what readers find it by.
    #[must_use]
    pub fn with_store(name: &str, url: Url, store: Arc<dyn ObjectStore>) -> Self {
        Self { name: name.into(), url, store }
    }

    /// A bucket that is gone when the last clone of it is dropped.
    ///
    /// # Panics
    /// Never: the URL is a constant.
    #[must_use]
    pub fn memory(name: &str) -> Self {
        let url = Url::parse("memory:///").expect("a constant URL parses");
        Self::with_store(name, url, Arc::new(InMemory::new()))
    }

    /// Tries whether commits are safe on this store: of several concurrent conditional creates of one key exactly one must win.
    ///
    /// # Errors
    /// `BrokenCreate` when they are not, `Store` when it does not answer.
    pub async fn probe(&self) -> Result<(), LakeError> {
        probe::run(&self.name, &self.store).await
    }

    /// What notices call this bucket.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where other readers find it.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The store, rooted at the bucket.
    #[must_use]
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        self.store.clone()
    }

    /// The store, rooted at the folder of one table.
    pub(crate) fn table_store(&self, table: &str) -> Arc<dyn ObjectStore> {
        Arc::new(PrefixStore::new(self.store.clone(), ObjectPath::from(table)))
    }

    /// The tables in this bucket, sorted by name.
    ///
    /// # Errors
    /// `Store` when it cannot be listed.
    pub async fn table_names(&self) -> Result<Vec<String>, LakeError> {
        let failed =
            |source| LakeError::Store { action: "list", place: format!("bucket {}", self.name), source };
        let listed = self.store.list_with_delimiter(None).await.map_err(failed)?;
        let mut names = Vec::new();
        for folder in listed.common_prefixes {
            let Some(name) = folder.filename().filter(|name| is_table_name(name)) else { continue };
            let log = folder.clone().join("_delta_log");
            if self.store.list(Some(&log)).next().await.transpose().map_err(failed)?.is_some() {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket")
            .field("name", &self.name)
            .field("url", &self.url.as_str())
            .finish_non_exhaustive()
    }
}

/// `[a-z][a-z0-9_]*`, 1 to 64 characters: the names that streams and reports can have. So a folder is never chosen by what a device sent.
pub(crate) fn is_table_name(name: &str) -> bool {
    name.parse::<millstream_model::name::StreamName>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::ObjectStoreExt;

    #[tokio::test]
    async fn table_names_are_the_folders_that_have_a_delta_log() {
        let bucket = Bucket::memory("b");
        for key in [
            "telemetry/_delta_log/0.json",
            "quarantine/_delta_log/0.json",
            "notes/readme",
            "_staging/x",
            "Bad/_delta_log/0.json",
        ] {
            bucket.store().put(&ObjectPath::from(key), "x".into()).await.unwrap();
        }
        assert_eq!(bucket.table_names().await.unwrap(), ["quarantine", "telemetry"]);
    }

    #[test]
    fn only_names_without_any_path_meaning_are_tables() {
        for bad in ["", "..", "a/b", "a.b", "A", "_a", "a\\b", "a%2fb", &"a".repeat(65)] {
            assert!(!is_table_name(bad), "{bad}");
        }
        assert!(is_table_name("hourly_climate2"));
    }

    #[test]
    fn a_local_bucket_is_named_by_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        let bucket = Bucket::local(&dir.path().join("deep/ingestion")).unwrap();
        assert_eq!(bucket.name(), "ingestion");
        assert!(
            bucket.url().as_str().starts_with("file:///") && bucket.url().as_str().ends_with("/ingestion/")
        );
    }
}
