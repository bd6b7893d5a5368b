//! Why a replay ended early.

use crate::replay::bad_line::{BadLine, Place};
use crate::replay::summary::Summary;
use crate::replay::tls::BadTls;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why a replay did not begin or ended early. What was published until then is in the summary of [`ReplayError::Ended`].
#[derive(Debug, Error)]
pub enum ReplayError {
    /// The settings contradict each other; nothing was published.
    #[error("the settings do not fit: {detail}")]
    Settings {
        /// What does not fit.
        detail: String,
    },
    /// TLS to the broker is not possible; nothing was published.
    #[error("cannot speak TLS with the broker")]
    Tls(#[from] BadTls),
    /// A file cannot be read (or not to its end).
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A CSV file's header does not have what is asked for, or has a name twice.
    #[error("the header of {} does not fit: {detail}", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// A line cannot be published, and the settings say that this is an error.
    #[error("{place}: the line cannot be published")]
    BadLine {
        /// File and line.
        place: Place,
        /// Why.
        source: BadLine,
    },
    /// The broker does not let us in; trying again would not help.
    #[error("the broker {broker} refused the client {client}: {reason}")]
    Refused {
        /// Who refused.
        broker: String,
        /// The client id.
        client: String,
        /// The broker's reason.
        reason: String,
    },
    /// The connection was lost and not regained within the limits.
    #[error(
        "the client {client} gave up on the broker {broker} after {attempts} attempts in {seconds} s: {reason}"
    )]
    GaveUp {
        /// The broker.
        broker: String,
        /// The client id.
        client: String,
        /// Attempts since the last acknowledgement.
        attempts: u32,
        /// Time since the last acknowledgement.
        seconds: u64,
        /// Why the last attempt failed.
        reason: String,
    },
    /// A task of the replay panicked or was aborted.
    #[error("a task of the replay failed")]
    Task(#[from] tokio::task::JoinError),
    /// It had begun to publish; the source says why it ended.
    #[error("the replay ended early, after {} acknowledged messages", summary.acknowledged)]
    Ended {
        /// What was published until then.
        summary: Box<Summary>,
        /// Why it ended.
        source: Box<ReplayError>,
    },
}

impl ReplayError {
    /// What was published before the error, if anything could be.
    #[must_use]
    pub fn summary(&self) -> Option<&Summary> {
        match self {
            Self::Ended { summary, .. } => Some(summary),
            _ => None,
        }
    }
}
