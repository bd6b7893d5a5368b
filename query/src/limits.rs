//! How much one session may use.

use std::path::PathBuf;

/// Bounds of a session. All of its queries share them.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of memory for sorting, grouping and joining. What does not fit spills to disk.
    pub memory_bytes: usize,
    /// Most bytes that may lie spilled on disk at a time.
    pub spill_bytes: u64,
    /// Where to spill; `None`: the system's directory for temporary files.
    pub spill_dir: Option<PathBuf>,
    /// How many partitions of a query run at a time; `None`: as many as there are cores.
    pub parallelism: Option<usize>,
}

impl Default for Limits {
    /// 1 GiB of memory: a gateway on a machine of 4 GiB goes on beside the largest query. 16 GiB of spill: enough to sort what fits in
    /// a small machine's bucket, and no full disk by a forgotten `order by`.
    fn default() -> Self {
        Self { memory_bytes: 1 << 30, spill_bytes: 16 << 30, spill_dir: None, parallelism: None }
    }
}
