//! A file that says that a broker has given us a session: what one run leaves for the next.
//!
//! Without it, a process that starts cannot tell a broker that has lost its session from one that it never had one with. It is a help and no promise: where it
//! cannot be read or written, or lies in a directory that goes with the container, a loss is told as what it looks like, a new session.

use super::settings::SubscriberSettings;
use std::io;
use std::path::{Path, PathBuf};
use tracing::warn;

/// Whether the broker has given this client a session.
#[derive(Debug)]
pub(super) struct Mark {
    path: Option<PathBuf>,
    /// What stands in it: with another broker, or under another client id, there is another session.
    text: String,
    is_made: bool,
}

impl Mark {
    /// As a former run has left it.
    pub(super) async fn find(settings: &SubscriberSettings) -> Self {
        let SubscriberSettings { broker, client_id, session_mark, .. } = settings;
        let text = format!("{broker} {client_id:?}\n");
        let found = match session_mark {
            Some(path) => tokio::fs::read(path).await.is_ok_and(|found| found == text.as_bytes()),
            None => false,
        };
        Self { path: session_mark.clone(), text, is_made: found }
    }

    /// Whether there was a session before.
    pub(super) fn is_made(&self) -> bool {
        self.is_made
    }

    /// The broker has given us one.
    pub(super) async fn make(&mut self) {
        if std::mem::replace(&mut self.is_made, true) {
            return;
        }
        if let Some(path) = &self.path
            && let Err(error) = write(path, &self.text).await
        {
            warn!(%error, path = %path.display(), "the session is not remembered: if the broker loses it while this process does not run, that will not be told");
        }
    }
}

/// Not forced to the disk: a machine that dies costs a warning.
async fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        tokio::fs::create_dir_all(folder).await?;
    }
    tokio::fs::write(path, text).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_session_is_remembered_for_its_broker_and_its_client() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("subscribers/plant");
        let settings = |broker: &str, client_id: &str| SubscriberSettings {
            client_id: client_id.to_owned(),
            session_mark: Some(path.clone()),
            ..SubscriberSettings::new("plant", broker.parse().unwrap(), Vec::new())
        };
        let found = async |broker, client_id| Mark::find(&settings(broker, client_id)).await.is_made();
        assert!(!found("mqtt://a", "m").await);
        Mark::find(&settings("mqtt://a", "m")).await.make().await;
        assert!(found("mqtt://a", "m").await);
        assert!(!found("mqtt://b", "m").await && !found("mqtt://a", "n").await);
        Mark::find(&settings("mqtt://a", "n")).await.make().await;
        assert!(found("mqtt://a", "n").await && !found("mqtt://a", "m").await);
        // Where it cannot be written, it holds for this run.
        let mut lost = Mark { path: Some(directory.path().to_owned()), text: "x".to_owned(), is_made: false };
        lost.make().await;
        assert!(lost.is_made());
    }
}
