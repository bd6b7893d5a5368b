//! What processors say of a report beside its table: that it fails, and why. It stands in an object of the reporting bucket, so that other processes see it.

use futures::TryFutureExt;
use millstream_lake::Bucket;
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt};
use serde::{Deserialize, Serialize};

/// So much of an error is kept, in bytes.
const ERROR_BYTES_MAX: usize = 4096;

/// How a report fares, as the processor that wrote last saw it. It is written when that changes, not at each success, so its table may be newer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportNote {
    /// The report.
    pub report: String,
    /// How it fares.
    pub state: ReportState,
    /// Why it fails, with causes.
    pub error: Option<String>,
    /// Since when it fares so, in milliseconds since 1970.
    pub since_ms: i64,
    /// How often it had failed in a row when this was written.
    pub failures: u64,
    /// Why it cannot be recomputed a date at a time, if so.
    pub whole: Option<String>,
    /// When this was written, in milliseconds since 1970.
    pub written_ms: i64,
}

/// How a report fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReportState {
    /// It is tried again and again.
    Failing,
    /// Nothing is wrong with it.
    Well,
}

impl ReportNote {
    /// The note about a report; `None` if there is none, or one that another release wrote and this one does not understand.
    ///
    /// # Errors
    /// When the bucket cannot be read.
    pub async fn read(bucket: &Bucket, report: &str) -> Result<Option<Self>, Error> {
        let got = bucket.store().get(&path(report)).and_then(object_store::GetResult::bytes).await;
        match got {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts it into the bucket, in the place of the one before.
    ///
    /// # Errors
    /// When the bucket cannot be written to.
    pub async fn write(&self, bucket: &Bucket) -> Result<(), Error> {
        // A struct of texts and numbers always serialises.
        let json = serde_json::to_vec_pretty(self).unwrap_or_default();
        bucket.store().put(&path(&self.report), json.into()).await.map(drop)
    }

    /// Whether another note says the same of how the report fares, whenever it was written.
    #[must_use]
    pub fn says_as(&self, other: &Self) -> bool {
        (self.state, &self.error, &self.whole) == (other.state, &other.error, &other.whole)
    }
}

/// An error as a note has it: the beginning of one that is very long.
#[must_use]
pub fn shortened(error: &str) -> String {
    let mut end = ERROR_BYTES_MAX.min(error.len());
    while !error.is_char_boundary(end) {
        end -= 1;
    }
    error[..end].to_owned()
}

/// No table is called so: no listing of tables finds it.
fn path(report: &str) -> Path {
    Path::from(format!("_millstream/reports/{report}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(error: &str) -> ReportNote {
        ReportNote {
            report: "daily".to_owned(),
            state: ReportState::Failing,
            error: Some(error.to_owned()),
            since_ms: 1,
            failures: 2,
            whole: None,
            written_ms: 3,
        }
    }

    #[tokio::test]
    async fn a_note_is_read_back_by_another_process_and_is_no_table() {
        let bucket = Bucket::memory("reporting");
        assert_eq!(ReportNote::read(&bucket, "daily").await.unwrap(), None);
        failing("a").write(&bucket).await.unwrap();
        failing("b").write(&bucket).await.unwrap();
        assert_eq!(ReportNote::read(&bucket, "daily").await.unwrap(), Some(failing("b")));
        assert_eq!(bucket.table_names().await.unwrap(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_note_that_is_not_understood_is_none() {
        let bucket = Bucket::memory("reporting");
        bucket.store().put(&path("daily"), "{\"state\":\"odd\"}".into()).await.unwrap();
        assert_eq!(ReportNote::read(&bucket, "daily").await.unwrap(), None);
    }

    #[test]
    fn a_very_long_error_is_cut_between_characters() {
        assert_eq!(shortened("short"), "short");
        let long = "ü".repeat(3000) + "x";
        assert_eq!(shortened(&long).len(), ERROR_BYTES_MAX);
        assert!(shortened(&format!("x{long}")).len() < ERROR_BYTES_MAX);
    }
}
