//! What an answer cost, in one line.

use crate::answer::{Answer, ScanMetrics};
use std::fmt;
use std::time::Duration;

/// What an answer cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footer {
    /// Rows written, and in a box those that were left out.
    pub rows: u64,
    /// From the statement to its last row.
    pub elapsed: Duration,
    /// What was read for it.
    pub scan: ScanMetrics,
}

impl Footer {
    pub(super) fn new(answer: &Answer, rows: u64) -> Self {
        Self { rows, elapsed: answer.elapsed(), scan: answer.metrics() }
    }
}

/// As in `3 rows in 12 ms, 1.2 MiB read from 3 files (27 files skipped)`.
impl fmt::Display for Footer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ScanMetrics { files_total, files_pruned, bytes_read } = self.scan;
        write!(f, "{} {} in {}", grouped(self.rows), noun(self.rows, "row"), Elapsed(self.elapsed))?;
        if files_total > 0 {
            let read = files_total - files_pruned.min(files_total);
            write!(f, ", {} read from {} {}", Bytes(bytes_read), grouped(read), noun(read, "file"))?;
        }
        if files_pruned > 0 {
            write!(f, " ({} {} skipped)", grouped(files_pruned), noun(files_pruned, "file"))?;
        }
        Ok(())
    }
}

fn noun(count: u64, one: &str) -> String {
    if count == 1 { one.to_owned() } else { format!("{one}s") }
}

/// With commas between thousands.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

struct Elapsed(Duration);

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            0 => write!(f, "{} ms", self.0.as_millis().max(1)),
            1..60 => write!(f, "{:.1} s", self.0.as_secs_f64()),
            seconds => write!(f, "{} min {} s", seconds / 60, seconds % 60),
        }
    }
}

struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let mut amount = self.0 as f64 / 1024.0;
        let mut unit = 0;
        while amount >= 1024.0 && unit + 1 < UNITS.len() {
            amount /= 1024.0;
            unit += 1;
        }
        write!(f, "{amount:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_footer_reads_as_a_sentence() {
        let check = |rows, millis, files_total, files_pruned, bytes_read, expected: &str| {
            let scan = ScanMetrics { files_total, files_pruned, bytes_read };
            assert_eq!(Footer { rows, elapsed: Duration::from_millis(millis), scan }.to_string(), expected);
        };
        check(1, 0, 0, 0, 0, "1 row in 1 ms");
        check(
            26_115,
            1_240,
            30,
            27,
            1_258_291,
            "26,115 rows in 1.2 s, 1.2 MiB read from 3 files (27 files skipped)",
        );
        check(0, 61_000, 1, 1, 0, "0 rows in 1 min 1 s, 0 B read from 0 files (1 file skipped)");
        check(1_000, 12, 1, 0, 1_000, "1,000 rows in 12 ms, 1000 B read from 1 file");
    }
}
