//! What an answer cost, in one line.

use crate::answer::ScanMetrics;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What an answer cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footer {
    /// Rows written, and in a box those that were left out.
    pub rows: u64,
    /// From the statement to its last row.
    pub elapsed: Duration,
    /// What was read for it.
    pub scan: ScanMetrics,
    /// How long ago the log's end was looked up, where the answer has what waits in it: everything acknowledged before is in the answer.
    pub age: Option<Duration>,
}

impl Footer {
    /// Of an answer whose last row is there now.
    #[must_use]
    pub fn new(rows: u64, elapsed: Duration, scan: ScanMetrics) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let age = scan.tail.map(|tail| {
            now.saturating_sub(Duration::from_micros(u64::try_from(tail.as_of.0).unwrap_or_default()))
        });
        Self { rows, elapsed, scan, age }
    }
}

/// As in `3 rows in 12 ms, 1.2 MiB read from 3 files (27 files skipped), 2 rows from the tail, complete to 11 ms ago`.
impl fmt::Display for Footer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ScanMetrics { files_total, files_pruned, bytes_read, tail } = self.scan;
        write!(f, "{} {} in {}", grouped(self.rows), noun(self.rows, "row"), Elapsed(self.elapsed))?;
        if files_total > 0 {
            let read = files_total - files_pruned.min(files_total);
            write!(f, ", {} read from {} {}", Bytes(bytes_read), grouped(read), noun(read, "file"))?;
        }
        if files_pruned > 0 {
            write!(f, " ({} {} skipped)", grouped(files_pruned), noun(files_pruned, "file"))?;
        }
        if let Some(tail) = tail {
            write!(f, ", {} {} from the tail", grouped(tail.rows), noun(tail.rows, "row"))?;
        }
        if let Some(age) = self.age {
            write!(f, ", complete to {} ago", Elapsed(age))?;
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
    use crate::answer::TailMetrics;
    use millstream_model::time::Micros;

    #[test]
    fn the_footer_reads_as_a_sentence() {
        let check = |rows, millis, files_total, files_pruned, bytes_read, expected: &str| {
            let scan = ScanMetrics { files_total, files_pruned, bytes_read, tail: None };
            assert_eq!(Footer::new(rows, Duration::from_millis(millis), scan).to_string(), expected);
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

    #[test]
    fn it_says_what_came_from_the_tail_and_up_to_when_the_answer_is_complete() {
        let check = |rows, age, expected: &str| {
            let tail = Some(TailMetrics { rows, newest: None, as_of: Micros(0) });
            let scan = ScanMetrics { tail, ..ScanMetrics::default() };
            let footer = Footer { rows: 3, elapsed: Duration::from_millis(12), scan, age: Some(age) };
            assert_eq!(footer.to_string(), expected);
        };
        check(2, Duration::from_millis(11), "3 rows in 12 ms, 2 rows from the tail, complete to 11 ms ago");
        check(
            0,
            Duration::from_secs(72),
            "3 rows in 12 ms, 0 rows from the tail, complete to 1 min 12 s ago",
        );
    }
}
