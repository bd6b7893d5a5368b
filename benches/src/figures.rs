//! Figures, and how they are printed.

use anyhow::Context;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use hdrhistogram::Histogram;
use std::io::Write;
use std::time::Duration;

/// Times of one kind, in microseconds, to three digits.
#[derive(Debug)]
pub struct Figures(Histogram<u64>);

impl Figures {
    /// None yet.
    ///
    /// # Errors
    /// Never with these bounds.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self(Histogram::new(3).context("three digits can be kept")?))
    }

    /// Takes one.
    ///
    /// # Errors
    /// If it is too long to be counted.
    pub fn add(&mut self, time: Duration) -> anyhow::Result<()> {
        Ok(self.0.record(u64::try_from(time.as_micros())?)?)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// Below which time this part of them is, in words.
    #[must_use]
    pub fn below(&self, part: f64) -> String {
        milliseconds(Duration::from_micros(self.0.value_at_quantile(part)))
    }

    /// The longest, in words.
    #[must_use]
    pub fn longest(&self) -> String {
        milliseconds(Duration::from_micros(self.0.max()))
    }

    /// Half of them, all but one in a hundred, all of them.
    #[must_use]
    pub fn in_words(&self) -> String {
        format!("{} / {} / {}", self.below(0.5), self.below(0.99), self.longest())
    }
}

/// Milliseconds to three digits, as in `8.21 ms`.
fn milliseconds(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    let digits = if ms < 10.0 { 2 } else { usize::from(ms < 100.0) };
    format!("{ms:.digits$} ms")
}

/// Prints rows below a head; columns of figures stand at the right.
///
/// # Errors
/// If standard output is gone.
pub fn print(head: &[&str], rows: &[Vec<String>]) -> anyhow::Result<()> {
    let mut table = Table::new();
    table.load_preset(NOTHING);
    table.set_header(head);
    table.add_rows(rows);
    for (number, column) in table.column_iter_mut().enumerate() {
        let cell = rows.first().and_then(|row| row.get(number));
        if cell.is_some_and(|cell| cell.starts_with(|first: char| first.is_ascii_digit())) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    writeln!(std::io::stdout(), "{table}")?;
    Ok(())
}

/// What it ran on, in words.
#[must_use]
pub fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "Millstream {} for {}, {cores} cores, {}",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::ARCH,
        if cfg!(debug_assertions) { "a debug build: the figures say nothing" } else { "a release build" }
    )
}
