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
use log::{LogFiles, TakenAway};
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
    /// What the table's own commits cause: rows that leave, files that are merged, checkpoints. Costs two small requests when there is nothing to do.
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
    /// As [`Table::commit`], and when a file cannot be read, written, listed or removed. What was done before stays, and the next time goes on from there.
    pub async fn tend(
        &mut self,
        depth: Depth,
        others: Others,
        now: DateTime<Utc>,
        stop: &CancellationToken,
        tell: impl FnMut(Compacted) + Send,
    ) -> Result<Tended, LakeError> {
        let snapshot = self.table.snapshot().await?;
        let mut tended = Tended { before: Extent::of(&snapshot), ..Tended::default() };
        if let Some(keep) = self.rules.keep {
            tended.retired = retire::retire(&self.table, keep, now).await?;
        }
        if let Some(size) = self.rules.target_size {
            tended.leased_until = self.claim_merges(size, others, now).await?;
            if tended.leased_until.is_none() {
                tended.compacted = compact::compact(&self.table, size, now, stop, tell).await?;
            }
        }
        tended.checkpoint = self.table.checkpoint_if_due().await?;
        if depth == Depth::Folder && !stop.is_cancelled() {
            self.clear_folder(&mut tended, now, Mode::Do).await?;
        }
        tended.after = Extent::of(self.table.snapshot().await?.as_ref());
        Ok(tended)
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
        let after = Extent {
            files: before.files - gone - compacted.merged + compacted.written,
            bytes: before.bytes - freed,
        };
        let checkpoint = self.table.checkpoint_is_due().await?;
        let mut tended = Tended { before, after, retired, compacted, checkpoint, ..Tended::default() };
        self.clear_folder(&mut tended, now, Mode::Tell).await?;
        Ok(tended)
    }

    /// Takes the lease if the merges that are due are more than what is done sooner than a lease is committed; until when somebody else has it, if so.
    async fn claim_merges(
        &self,
        target_size: u64,
        others: Others,
        now: DateTime<Utc>,
    ) -> Result<Option<DateTime<Utc>>, LakeError> {
        let snapshot = self.table.snapshot().await?;
        let due = choose::choose(snapshot.files(), snapshot.partition_by(), target_size, now);
        if let Some(theirs) =
            leased_until(&snapshot, now).filter(|_| others == Others::Respected && !due.is_empty())
        {
            return Ok(Some(theirs));
        }
        // An idle table gets no commit by being looked after, and a busy one not two for each.
        if due.iter().map(choose::Group::bytes).sum::<u64>() < LEASED_FROM {
            return Ok(None);
        }
        lease::take(&self.table, others, now).await
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
        let needless = log.needless(now - self.rules.log_keep.max(self.rules.safe_age), &held);
        tended.cleaned = Some(match mode {
            Mode::Do => log::remove(table, needless).await?,
            Mode::Tell => needless.cleaned,
        });
        Ok(())
    }
}
