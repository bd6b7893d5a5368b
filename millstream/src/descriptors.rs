//! File descriptors: connections must leave enough of them for the log and the lake.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are kept for files: segments, sessions, Parquet files of several flushes and queries.
const FILES: usize = 512;

/// Raises the process's limit as far as it may, and returns how many of the wanted connections it has room for.
///
/// The usual soft limit of 1,024 is a relic of `select`; without this, a thousand devices would leave the log none for its next segment.
pub(crate) fn room_for(connections: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let descriptors = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::debug!(%error, "the limit of file descriptors cannot be raised");
            limit.current
        }
    };
    let room = descriptors
        .map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX))
        .saturating_sub(FILES)
        .max(1);
    if room < connections {
        tracing::warn!(
            wanted = connections,
            room,
            "fewer connections than configured: the process may not open more files (see ulimit -n)"
        );
    }
    connections.min(room)
}
