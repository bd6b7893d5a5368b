//! Upkeep: what keeps a table small, quick to open, and free of what nobody needs, for years.
//!
//! In this order: what was kept long enough leaves ([`retire`]); small files become large ones ([`choose`] decides which, [`merge`] writes them, [`compact`] commits
//! them); a checkpoint is written; what nobody needs of the log goes ([`log`]), and so do files that no version has any more, or never had ([`vacuum`]).
//!
//! Every commit that takes files away moves the transaction `maint` and is made by [`land`], so that several who look after one table, a person among them, and
//! reports that replace their rows, never lose or double any; the [`lease`] only saves them work. Neighbours: `transform` does this on schedule, the program's
//! `maintain` at once. Nothing here looks at the log of messages, or touches a file that is not the table's own.

mod choose;
mod compact;
mod decisions;
mod land;
mod lease;
mod log;
mod merge;
mod retire;
pub mod tags;
#[cfg(test)]
pub(crate) mod tests;
mod vacuum;

pub use compact::Compacted;
pub use lease::{Others, lease_app, leased_until};
pub use log::Cleaned;
pub use retire::{Keep, Retired, retired_app, retired_before};
pub use vacuum::Vacuumed;

use crate::plan::UPLOAD_AGE_MAX;
use crate::table::Table;
use crate::{Bucket, LakeError, Snapshot};
use chrono::{DateTime, Utc};
use lease::Claimed;
use log::{LogFiles, TakenAway};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use vacuum::Mode;

/// The shortest safe age there may be: twice the age at which writers give up their uploads. Whoever shortens one must shorten the other.
pub const SAFE_AGE_MIN: Duration = Duration::from_secs(2 * UPLOAD_AGE_MAX.as_secs());

/// Merges of fewer bytes are done without a lease: they take less than a second.
const LEASED_FROM: u64 = 8 << 20;

/// How a table is looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// The size of a full file, in bytes; `None`: files stay as they were written.
    pub target_size: Option<u64>,
    /// For how long a version that was opened can be read to its end: at least [`SAFE_AGE_MIN`].
    pub safe_age: Duration,
    /// For how long past versions can be asked for: at least the safe age. It is far above the quarter of an hour for which an open handle trusts what it knows.
    pub log_keep: Duration,
    /// For how long rows are kept; `None`: for ever.
    pub keep: Option<Keep>,
}

/// How much is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// What the table's own commits cause: rows that leave, files that are merged, checkpoints. Costs the two small requests of a look when there is nothing to do.
    Rows,
    /// That, and what has to be looked for by listing the table's folder: the log, and files that nobody needs.
    Folder,
}

/// How large a table is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extent {
    /// Files of its latest version.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Extent {
    fn of(snapshot: &Snapshot) -> Self {
        let files = snapshot.files();
        Self { files: files.len() as u64, bytes: files.iter().map(|file| file.size).sum() }
    }
}

/// What was done, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tended {
    /// The table before.
    pub before: Extent,
    /// The table afterwards; of what was only foreseen, at most so large.
    pub after: Extent,
    /// Until when somebody else looks after it: then nothing was committed.
    pub leased_until: Option<DateTime<Utc>>,
    /// The rows that left.
    pub retired: Option<Retired>,
    /// The files that were merged.
    pub compacted: Compacted,
    /// Whether a checkpoint was written.
    pub checkpoint: bool,
    /// What of the log went; `None` where it was not looked at.
    pub cleaned: Option<Cleaned>,
    /// What files went; `None` where they were not looked at.
    pub vacuumed: Option<Vacuumed>,
}

/// What could not be done, and what was done all the same.
#[derive(Debug)]
pub struct Unfinished {
    /// `None` if the table could not even be looked at.
    pub done: Option<Tended>,
    /// The first that went wrong.
    pub error: LakeError,
}

impl From<LakeError> for Box<Unfinished> {
    fn from(error: LakeError) -> Self {
        Box::new(Unfinished { done: None, error })
    }
}

/// Somebody who looks after one table, now and then.
#[derive(Debug)]
pub struct Upkeep {
    table: Table,
    rules: Rules,
    /// What is known from the last time, so that no commit is read twice.
    taken_away: TakenAway,
}

impl Upkeep {
    /// Of a table; `None` if there is none of this name, or it is another program's.
    ///
    /// # Errors
    /// As [`Table::open`].
    pub async fn open(bucket: &Bucket, name: &str, rules: Rules) -> Result<Option<Self>, LakeError> {
        let Some(table) = Table::open(bucket, name).await? else { return Ok(None) };
        let is_ours = vacuum::is_ours_to_keep(table.snapshot().await?.as_ref());
        Ok(is_ours.then(|| Self { table, rules, taken_away: TakenAway::default() }))
    }

    /// Looks after the table now. `tell` hears of each merge. When `stop` is cancelled, it ends soon; what is committed by then stays.
    ///
    /// # Errors
    /// As [`Table::commit`], and when a file cannot be read, written, listed or removed: the first of them, when all else that can be done is done. What was done
    /// stays, and the next time goes on from there.
    pub async fn tend(
        &mut self,
        depth: Depth,
        others: Others,
        now: DateTime<Utc>,
        stop: &CancellationToken,
        tell: impl FnMut(Compacted) + Send,
    ) -> Result<Tended, Box<Unfinished>> {
        let snapshot = self.table.snapshot().await?;
        let before = Extent::of(&snapshot);
        let mut tended = Tended { before, after: before, ..Tended::default() };
        // A file that cannot be read must not leave the table untidy for ever.
        let rows = self.tend_rows(&mut tended, snapshot, others, now, stop, tell).await;
        let folder = self.tend_folder(&mut tended, depth, now, stop).await;
        let mut outcome = rows.and(folder);
        if tended.retired.is_some() || tended.compacted.written > 0 {
            match self.table.snapshot().await {
                Ok(snapshot) => tended.after = Extent::of(&snapshot),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        match outcome {
            Ok(()) => Ok(tended),
            Err(error) => Err(Box::new(Unfinished { done: Some(tended), error })),
        }
    }

    async fn tend_rows(
        &self,
        tended: &mut Tended,
        mut snapshot: Arc<Snapshot>,
        others: Others,
        now: DateTime<Utc>,
        stop: &CancellationToken,
        tell: impl FnMut(Compacted) + Send,
    ) -> Result<(), LakeError> {
        if let Some(keep) = self.rules.keep
            && retire::due(&snapshot, keep, now, 1).is_some()
        {
            tended.retired = retire::retire(&self.table, keep, now).await?;
            snapshot = self.table.snapshot().await?;
        }
        let Some(size) = self.rules.target_size else { return Ok(()) };
        let due = choose::choose(snapshot.files(), snapshot.partition_by(), size, now);
        if due.is_empty() {
            return Ok(());
        }
        let bytes = due.iter().map(choose::Group::bytes).sum();
        match self.claim_merges(&snapshot, bytes, others, now).await? {
            Some(Claimed::Theirs(until)) => tended.leased_until = Some(until),
            claimed => {
                let lease = claimed.and_then(Claimed::ours);
                let (compacted, failure) =
                    compact::compact(&self.table, size, now, lease, stop, tell).await?;
                tended.compacted = compacted;
                failure.map_or(Ok(()), Err)?;
            }
        }
        Ok(())
    }

    async fn tend_folder(
        &mut self,
        tended: &mut Tended,
        depth: Depth,
        now: DateTime<Utc>,
        stop: &CancellationToken,
    ) -> Result<(), LakeError> {
        tended.checkpoint = self.table.checkpoint_if_due().await?;
        if depth == Depth::Folder && !stop.is_cancelled() {
            self.clear_folder(tended, now, Mode::Do).await?;
        }
        Ok(())
    }

    /// What [`Upkeep::tend`] would do now, if nobody came between. Changes nothing.
    ///
    /// # Errors
    /// As [`Upkeep::tend`].
    pub async fn foresee(&mut self, now: DateTime<Utc>) -> Result<Tended, LakeError> {
        let snapshot = self.table.snapshot().await?;
        let before = Extent::of(&snapshot);
        let retired = self.rules.keep.and_then(|keep| retire::due(&snapshot, keep, now, usize::MAX));
        let retired = retired.map(|due| due.retired);
        let kept = |date: Option<&str>| match (&retired, date.and_then(|date| date.parse().ok())) {
            (Some(retired), Some(date)) => chrono::NaiveDate::ge(&date, &retired.before),
            _ => true,
        };
        let compacted = self.rules.target_size.map(|size| compact::foresee(&snapshot, size, now, kept));
        let compacted = compacted.unwrap_or_default();
        let (gone, freed) = retired.as_ref().map_or((0, 0), |retired| (retired.files, retired.bytes));
        // What is merged again had been written.
        let files = before.files + compacted.written - gone - compacted.merged;
        let after = Extent { files, bytes: before.bytes - freed };
        let commits = compacted.written + u64::from(retired.is_some());
        let checkpoint = self.table.checkpoint_is_due(i64::try_from(commits).unwrap_or(i64::MAX)).await?;
        let mut tended = Tended { before, after, retired, compacted, checkpoint, ..Tended::default() };
        self.clear_folder(&mut tended, now, Mode::Tell).await?;
        Ok(tended)
    }

    /// Who has the lease, if it is respected or the merges that are due are more than what is done sooner than a lease is committed.
    async fn claim_merges(
        &self,
        snapshot: &Snapshot,
        bytes: u64,
        others: Others,
        now: DateTime<Utc>,
    ) -> Result<Option<Claimed>, LakeError> {
        if let Some(theirs) = leased_until(snapshot, now).filter(|_| others == Others::Respected) {
            return Ok(Some(Claimed::Theirs(theirs)));
        }
        // An idle table gets no commit by being looked after, and a busy one not two for each.
        match bytes < LEASED_FROM {
            true => Ok(None),
            false => lease::take(&self.table, others, now).await.map(Some),
        }
    }

    async fn clear_folder(
        &mut self,
        tended: &mut Tended,
        now: DateTime<Utc>,
        mode: Mode,
    ) -> Result<(), LakeError> {
        let table = &self.table;
        let log = LogFiles::list(table).await?;
        let vacuumed =
            vacuum::vacuum(table, &mut self.taken_away, &log, self.rules.safe_age, now, mode).await?;
        tended.vacuumed = Some(vacuumed);
        let snapshot = table.snapshot().await?;
        let held = log::held(table, &snapshot).await?;
        // Vacuum looks back over the safe age and what clocks may differ by, and must find all of it.
        let kept = self.rules.log_keep.max(self.rules.safe_age + vacuum::CLOCKS_DIFFER);
        let needless = log.needless(now - kept, now, &held);
        tended.cleaned = Some(match mode {
            Mode::Do => log::remove(table, needless).await?,
            Mode::Tell => needless.cleaned,
        });
        Ok(())
    }
}
