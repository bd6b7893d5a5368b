//! What is configured, as far as a question needs it: the streams whose messages the log holds, and the reports.

use crate::report::ReportDefinition;
use millstream_model::stream::Stream;
use std::sync::Arc;

/// What is configured. Without it only what is in the tables is known, and nothing of the log can be read.
#[derive(Debug, Clone, Default)]
pub struct Definitions {
    /// Every stream that a firehose carries to a table, also Millstream's own (`lifecycle`).
    pub streams: Vec<Arc<Stream>>,
    /// What becomes of messages that no stream claims.
    pub unclaimed: Unclaimed,
    /// The reports.
    pub reports: Vec<ReportDefinition>,
}

/// What becomes of messages that no stream claims.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unclaimed {
    /// They are rows of the quarantine table.
    #[default]
    Quarantine,
    /// They are dropped.
    Drop,
}

impl Definitions {
    /// The stream of a name.
    pub(crate) fn stream(&self, name: &str) -> Option<&Arc<Stream>> {
        self.streams.iter().find(|stream| stream.name.as_str() == name)
    }
}
