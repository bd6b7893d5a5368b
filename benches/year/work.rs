//! Who looks after the table, as the janitor does, and what that took.

use anyhow::Context;
use chrono::{DateTime, Utc};
use millstream_benches::Figures;
use millstream_lake::upkeep::{Depth, Others, Rules, Tended, Upkeep};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How often upkeep looks at the rows, and at the folder: as by default, in minutes.
pub(crate) const TENDED_EVERY: i64 = 10;
const FOLDER_EVERY: i64 = 6 * 60;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// As by default.
pub(crate) const RULES: Rules = Rules {
    target_size: Some(128 << 20),
    safe_age: DAY.saturating_mul(7),
    log_keep: DAY.saturating_mul(30),
    keep: None,
};

pub(crate) const WORK: [&str; 9] = [
    "minutes",
    "s",
    "commits/s",
    "a round p50 / p99 / max",
    "with the folder p50 / p99 / max",
    "merges",
    "MiB written",
    "largest round, KiB",
    "requests a day",
];

/// What upkeep did since the look before.
#[derive(Debug)]
pub(crate) struct Work {
    rounds: Figures,
    folders: Figures,
    merges: u64,
    written: u64,
    /// Bytes that one round merged, at most.
    largest: u64,
}

impl Work {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self { rounds: Figures::new()?, folders: Figures::new()?, merges: 0, written: 0, largest: 0 })
    }

    /// Counts a round; whoever did it is free for the next.
    pub(crate) fn add(&mut self, round: Round) -> anyhow::Result<Upkeep> {
        match round.depth {
            Depth::Rows => self.rounds.add(round.took)?,
            Depth::Folder => self.folders.add(round.took)?,
        }
        self.merges += round.tended.compacted.written;
        self.written += round.tended.compacted.bytes_written;
        self.largest = self.largest.max(round.tended.compacted.bytes_read);
        Ok(round.keeper)
    }

    pub(crate) fn in_words(&self) -> Vec<String> {
        vec![
            self.rounds.in_words(),
            self.folders.in_words(),
            self.merges.to_string(),
            format!("{:.1}", self.written as f64 / 1024.0 / 1024.0),
            self.largest.div_ceil(1024).to_string(),
        ]
    }
}

/// A round of upkeep that is over.
#[derive(Debug)]
pub(crate) struct Round {
    keeper: Upkeep,
    depth: Depth,
    took: Duration,
    tended: Tended,
}

/// As the janitor does it.
pub(crate) async fn tend(mut keeper: Upkeep, minute: i64, now: DateTime<Utc>) -> anyhow::Result<Round> {
    let began = Instant::now();
    let depth = if minute % FOLDER_EVERY == 0 { Depth::Folder } else { Depth::Rows };
    let stop = CancellationToken::new();
    let tended = keeper.tend(depth, Others::Respected, now, &stop, |_| {}).await;
    let tended = tended.map_err(|unfinished| unfinished.error).context("upkeep failed")?;
    Ok(Round { keeper, depth, took: began.elapsed(), tended })
}
