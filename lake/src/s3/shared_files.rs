//! The keys of the shared files, read again now and then: whoever rotates them (a tool that fetches session keys every hour) writes them there, and a program that runs for
//! months must follow.

use super::environment::Environment;
use async_trait::async_trait;
use object_store::aws::AwsCredential;
use object_store::{CredentialProvider, Result};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Keys that were read so long ago are read again before they are used. Much shorter than any keys live, much longer than a request.
const FRESH: Duration = Duration::from_secs(30);

/// The keys of a profile.
pub(super) struct SharedFiles {
    environment: Environment,
    /// The last keys that were found, and when they were looked for.
    last: Mutex<(Arc<AwsCredential>, Instant)>,
}

impl SharedFiles {
    pub(super) fn new(environment: Environment, credential: AwsCredential) -> Self {
        Self { environment, last: Mutex::new((Arc::new(credential), Instant::now())) }
    }

    /// What the files say now; none if they say nothing that can be used.
    async fn read(&self) -> Option<AwsCredential> {
        let environment = self.environment.clone();
        let profile = tokio::task::spawn_blocking(move || environment.profile()).await.ok()?;
        match profile {
            Ok(profile) => profile.credential(),
            Err((path, error)) => {
                tracing::warn!(path = %path.display(), %error, "keys could not be read again; the last ones are used");
                None
            }
        }
    }
}

#[async_trait]
impl CredentialProvider for SharedFiles {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> Result<Arc<AwsCredential>> {
        let mut last = self.last.lock().await;
        if last.1.elapsed() >= FRESH {
            // A file that is just being written may have no keys: then the last ones are as good as any.
            if let Some(found) = self.read().await.filter(|found| *found != *last.0) {
                tracing::info!(
                    profile = self.environment.profile_name(),
                    "the keys of the profile have changed"
                );
                last.0 = Arc::new(found);
            }
            last.1 = Instant::now();
        }
        Ok(last.0.clone())
    }
}

impl fmt::Debug for SharedFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedFiles")
            .field("profile", &self.environment.profile_name())
            .finish_non_exhaustive()
    }
}
