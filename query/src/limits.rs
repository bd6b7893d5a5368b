//! How much one session may use.

use crate::deadline::Deadline;
use crate::error::{Exceeded, QueryError};
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Bounds of a session. All of its queries share the memory and the disk; each has the time for itself.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of memory for sorting, grouping and joining. What does not fit spills to disk.
    pub memory_bytes: usize,
    /// Most bytes that may lie spilled on disk at a time.
    pub spill_bytes: u64,
    /// Where to spill; `None`: the system's directory for temporary files.
    pub spill_dir: Option<PathBuf>,
    /// How many partitions of a query run at a time; `None`: as many as there are cores, and as the memory has room for.
    pub parallelism: Option<usize>,
    /// How long one query may work. The time in which nobody asks for the next rows does not count.
    pub time: Duration,
    /// Bytes of files that one query may read: whole files as they lie in the bucket, those that are left out by their date or statistics not counted. What
    /// would read more is refused before it begins. `None`: as many as there are.
    pub scan_bytes: Option<u64>,
    /// Bytes of memory for what waits in the log and is not in files yet, of all streams together, and for what running queries still read of it. A
    /// question about more is refused.
    pub tail_bytes: usize,
    /// Rows that one call of `generate_series` or `range` in a FROM clause may make.
    pub generated_rows: u64,
}

impl Default for Limits {
    /// 1 GiB of memory: a gateway on a machine of 4 GiB goes on beside the largest query. 16 GiB of spill: enough to sort what fits in
    /// a small machine's bucket, and no full disk by a forgotten `order by`. 5 minutes: a join without a condition never ends, and what is meant to run longer
    /// than a person waits is a report. No limit of reading: the time is one. 256 MiB of what waits: a minute
    /// of some 20,000 readings a second. A billion generated rows: a second's grid over thirty years.
    fn default() -> Self {
        Self {
            memory_bytes: 1 << 30,
            spill_bytes: 16 << 30,
            spill_dir: None,
            parallelism: None,
            time: Duration::from_secs(5 * 60),
            scan_bytes: None,
            tail_bytes: 256 << 20,
            generated_rows: 1_000_000_000,
        }
    }
}

/// The time of one query. Dropping it ends the query's work.
#[derive(Debug)]
pub(crate) struct TimeLimit {
    limit: Duration,
    spent: Duration,
    /// For what works on without a pause, where no timer can end it. Only while the query is waited for.
    deadline: Deadline,
}

impl TimeLimit {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, spent: Duration::ZERO, deadline: Deadline::new() }
    }

    /// Passes when the time is over, and when nobody waits for the query any more.
    pub(crate) fn deadline(&self) -> Deadline {
        self.deadline.clone()
    }

    /// Does a part of the query's work, or ends it when the time is over.
    pub(crate) async fn spend<T>(
        &mut self,
        work: impl Future<Output = Result<T, QueryError>>,
    ) -> Result<T, QueryError> {
        let left = self.limit.saturating_sub(self.spent);
        if left.is_zero() {
            return Err(self.exceeded());
        }
        let began = Instant::now();
        self.deadline.set(left);
        let done = timeout(left, work).await;
        self.spent = self.spent.saturating_add(began.elapsed());
        match done {
            // What fails later than it may end was told to end.
            Ok(done) if done.is_ok() || self.spent < self.limit => {
                self.deadline.lift();
                done
            }
            _ => {
                self.deadline.pass();
                Err(self.exceeded())
            }
        }
    }

    fn exceeded(&self) -> QueryError {
        let message = format!("the query takes longer than the {:?} that it may take", self.limit);
        QueryError::limit(Exceeded::Time, message)
            .hint("ask for less: fewer dates (where date >= …), and no join without a condition")
            .hint("what is asked again and again is better kept as a report; what has to take longer needs a higher limit, sql.time")
    }
}

impl Drop for TimeLimit {
    fn drop(&mut self) {
        self.deadline.pass();
    }
}
