//! How long to wait before the same thing is tried again, and the text of what failed.

use std::error::Error;
use std::fmt::Write;
use std::time::Duration;

/// The first wait: a store that hiccups is back within it.
const FIRST: Duration = Duration::from_millis(100);

/// The longest wait: whoever repairs a store sees the program go on within it.
const LONGEST: Duration = Duration::from_secs(30);

/// Waits that double up to a limit, each shortened by up to a half at random, so that those who failed together do not come back together.
#[derive(Debug)]
pub(crate) struct Backoff {
    attempts: u32,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { attempts: 0 }
    }

    /// How often it was asked so far.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The next wait.
    pub(crate) fn next(&mut self) -> Duration {
        let doubled = FIRST.saturating_mul(2_u32.saturating_pow(self.attempts.min(16))).min(LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        doubled.mul_f64(1.0 - fastrand::f64() / 2.0)
    }
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        // Writing to a String cannot fail.
        if write!(text, ": {source}").is_err() {
            break;
        }
        cause = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit() {
        let mut backoff = Backoff::new();
        let waits: Vec<Duration> = (0..40).map(|_| backoff.next()).collect();
        assert!(waits[0] <= FIRST && waits[0] >= FIRST / 2);
        assert!(waits[20..].iter().all(|wait| *wait <= LONGEST && *wait >= LONGEST / 2));
        assert_eq!(backoff.attempts(), 40);
    }
}
