//! Why the files of a commit closed.

use std::fmt;

/// Why the files of a commit closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Closed {
    /// The buffer reached the size at which files close, or the memory bound.
    Size,
    /// The first record waited as long as it may.
    Age,
    /// Nothing came for a while.
    Idle,
    /// Other partitions are to be owned.
    Rebalance,
    /// The program stops.
    Shutdown,
    /// Nothing closed: a gap was accepted, and the commit says where the partitions stand.
    Gap,
}

impl Closed {
    /// The word in commits, tags and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Age => "age",
            Self::Idle => "idle",
            Self::Rebalance => "rebalance",
            Self::Shutdown => "shutdown",
            Self::Gap => "gap",
        }
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
