//! A bucket: one object store, and the tables in it by name.

use crate::durable::Durable;
use crate::s3::{self, S3Settings};
use crate::{LakeError, probe};
use futures::StreamExt;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, memory::InMemory, prefix::PrefixStore};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use url::Url;

/// One bucket, a folder in one, or a local directory that stands for it. Cheap to clone.
#[derive(Clone)]
pub struct Bucket {
    name: Arc<str>,
    /// The folder of the store's bucket that is taken for the whole; empty where it is the whole.
    prefix: ObjectPath,
    url: Url,
    store: Arc<dyn ObjectStore>,
}

impl Bucket {
    /// The bucket that `place` names: `s3://bucket`, `s3://bucket/prefix`, `file:///directory`, or the path of a directory, which is made if it does not exist.
    /// A store is not asked anything yet.
    ///
    /// # Errors
    /// `Place` for what names no bucket or cannot be reached as the settings say, `Connect`, `File` and `Directory` when it cannot be prepared.
    pub fn open(place: &str, s3: &S3Settings) -> Result<Self, LakeError> {
        let refused =
            |reason: &str| LakeError::Place { place: s3::without_user(place), reason: reason.to_owned() };
        let forms = "write s3://bucket, s3://bucket/prefix, or the path of a directory";
        if !place.contains("://") {
            // A slash that is missing must not end in a directory of that name.
            return if place.starts_with("s3:") {
                Err(refused(forms))
            } else {
                Self::local(Path::new(place))
            };
        }
        let url = Url::parse(place).map_err(|error| refused(&format!("it is no URL: {error}")))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refused("there must be no user or password in it"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refused("it must end with its path"));
        }
        match (url.scheme(), url.host_str()) {
            ("file", _) => match url.to_file_path() {
                Ok(path) => Self::local(&path),
                Err(()) => Err(refused("it names no directory of this machine")),
            },
            ("s3", Some(name)) if !name.is_empty() => Self::within(url.clone(), s3::connect(name, s3)?)
                .map_err(|error| refused(&format!("its path is no key: {error}"))),
            _ => Err(refused(forms)),
        }
    }

    /// The folder that the path of `url` names, of the bucket that its host names and that `store` is.
    fn within(mut url: Url, store: Arc<dyn ObjectStore>) -> Result<Self, object_store::path::Error> {
        let name = url.host_str().unwrap_or_default().to_owned();
        let prefix = ObjectPath::from_url_path(url.path())?;
        if prefix.as_ref().is_empty() {
            url.set_path("/");
            return Ok(Self::with_store(&name, url, store));
        }
        // With a slash at its end, or what is joined to it would stand in its place.
        url.set_path(&format!("{prefix}/"));
        let store = Arc::new(PrefixStore::new(store, prefix.clone()));
        Ok(Self { prefix, ..Self::with_store(&name, url, store) })
    }

    /// The directory `dir`, which is made if it does not exist. What is written there survives the loss of power.
    ///
    /// # Errors
    /// `Directory` when it cannot be made, synced or named by a URL.
    pub fn local(dir: &Path) -> Result<Self, LakeError> {
        let directory = |source| LakeError::Directory { path: dir.to_owned(), source };
        let store = Durable::open(dir).map_err(directory)?;
        let name = store.root().file_name().map(|name| name.to_string_lossy().into_owned());
        let url = Url::from_directory_path(store.root())
            .map_err(|()| directory(std::io::Error::other("its path cannot be a URL")))?;
        Ok(Self::with_store(name.as_deref().unwrap_or("bucket"), url, Arc::new(store)))
    }

    /// Any object store. `name` is what notices call the bucket, `url` what readers find it by.
    #[must_use]
    pub fn with_store(name: &str, url: Url, store: Arc<dyn ObjectStore>) -> Self {
        Self { name: name.into(), prefix: ObjectPath::default(), url, store }
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

    /// What notices call the object that is `key` here: in a folder of a store's bucket it has the folder before it.
    #[must_use]
    pub fn noticed_key(&self, key: &str) -> String {
        if self.prefix.as_ref().is_empty() { key.to_owned() } else { format!("{}/{key}", self.prefix) }
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

    #[test]
    fn only_names_without_any_path_meaning_are_tables() {
        for bad in ["", "..", "a/b", "a.b", "A", "_a", "a\\b", "a%2fb", &"a".repeat(65)] {
            assert!(!is_table_name(bad), "{bad}");
        }
        assert!(is_table_name("hourly_climate2"));
    }

    #[test]
    fn a_bucket_is_opened_by_url_or_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap();
        let check = |place: &str, name: &str, url: &str, key: &str| {
            let bucket = Bucket::open(place, &S3Settings::default()).unwrap();
            let found = (bucket.name().to_owned(), bucket.url().to_string(), bucket.noticed_key("t/x"));
            assert_eq!(found, (name.to_owned(), url.to_owned(), key.to_owned()), "{place}");
            assert_eq!(bucket.url().join("t").unwrap().as_str(), format!("{url}t"), "{place}");
        };
        check("s3://readings", "readings", "s3://readings/", "t/x");
        check("s3://readings/", "readings", "s3://readings/", "t/x");
        check("s3://readings/plant/a%20b/", "readings", "s3://readings/plant/a%20b/", "plant/a b/t/x");
        check(&format!("{path}/in"), "in", &format!("file://{path}/in/"), "t/x");
        check(&format!("file://{path}/in2"), "in2", &format!("file://{path}/in2/"), "t/x");
    }

    #[test]
    fn what_names_no_bucket_is_refused_and_a_password_in_it_is_not_repeated() {
        for bad in [
            "s3://",
            "s3:///x",
            "s3:readings",
            "s3://readings/a//b",
            "gs://readings",
            "s3://me:open-sesame@readings",
            "s3://readings?open-sesame",
            "https://me:open-sesame@host/readings",
        ] {
            let error = Bucket::open(bad, &S3Settings::default()).unwrap_err();
            assert!(matches!(error, LakeError::Place { .. }), "{bad}: {error}");
            assert!(!format!("{error} {error:?}").contains("sesame"), "{bad}: {error}");
        }
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
