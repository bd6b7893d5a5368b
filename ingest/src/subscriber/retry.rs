//! How long to wait before the next connection.

use std::time::Duration;

/// Doublings of the shortest pause; more would not be told apart.
const DOUBLINGS_MAX: u32 = 20;

/// Pauses that grow while connections fail.
#[derive(Debug)]
pub(crate) struct Retry {
    min: Duration,
    max: Duration,
    failures: u32,
}

impl Retry {
    pub(crate) fn new(min: Duration, max: Duration) -> Self {
        Self { min, max: max.max(min), failures: 0 }
    }

    /// A connection was of use.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// A connection failed: how long to wait, of which `random` in 0..1 takes up to half.
    pub(crate) fn pause(&mut self, random: f64) -> Duration {
        let longest = self.min.saturating_mul(1 << self.failures.min(DOUBLINGS_MAX)).min(self.max);
        self.failures = self.failures.saturating_add(1);
        longest.mul_f64(1.0 - random / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew_after_a_success() {
        let mut retry = Retry::new(Duration::from_secs(1), Duration::from_secs(5));
        let pauses = |retry: &mut Retry| [0.0; 4].map(|random| retry.pause(random).as_secs());
        assert_eq!(pauses(&mut retry), [1, 2, 4, 5]);
        for _ in 0..100 {
            assert!(retry.pause(0.999) >= Duration::from_millis(2500));
        }
        retry.reset();
        assert_eq!(pauses(&mut retry), [1, 2, 4, 5]);
    }
}
