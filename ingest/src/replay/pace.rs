//! When the next message may go. Pure: takes the time as an argument.

use crate::replay::settings::Pace;
use millstream_model::time::Micros;
use std::time::Duration;
use tokio::time::Instant;

/// How far a replay that was held up may fall behind and catch up in one go.
const CATCH_UP_MAX: Duration = Duration::from_secs(1);

/// Event times that go back by more than this begin a new measure.
const STEP_BACK_MAX_MICROS: i64 = 3_600_000_000;

/// Gives every message its earliest moment.
#[derive(Debug)]
pub(crate) struct Pacer {
    pace: Pace,
    /// When the next one may go by rate.
    next_by_rate: Option<Instant>,
    by_speed: Option<Measure>,
}

/// From here the event times are measured.
#[derive(Debug, Clone, Copy)]
struct Measure {
    at: Instant,
    time: Micros,
    newest: Micros,
}

impl Pacer {
    pub(crate) fn new(pace: Pace) -> Self {
        Self { pace, next_by_rate: None, by_speed: None }
    }

    /// The moment before which the message must not go; in the past for "at once".
    pub(crate) fn due(&mut self, time: Option<Micros>, now: Instant) -> Instant {
        let by_rate = self.pace.rate.map(|rate| self.by_rate(rate, now));
        let by_speed = self.pace.speed.zip(time).map(|(speed, time)| self.by_speed(speed, time, now));
        by_rate.max(by_speed).unwrap_or(now)
    }

    fn by_rate(&mut self, rate: f64, now: Instant) -> Instant {
        let due = self.next_by_rate.unwrap_or(now).max(now.checked_sub(CATCH_UP_MAX).unwrap_or(now));
        self.next_by_rate = Some(later(due, 1.0 / rate));
        due
    }

    fn by_speed(&mut self, speed: f64, time: Micros, now: Instant) -> Instant {
        let begin = Measure { at: now, time, newest: time };
        let mut measure = self.by_speed.unwrap_or(begin);
        if measure.newest.0.saturating_sub(time.0) > STEP_BACK_MAX_MICROS {
            measure = begin;
        }
        measure.newest = measure.newest.max(time);
        self.by_speed = Some(measure);
        let ahead = time.0.saturating_sub(measure.time.0).max(0);
        later(measure.at, ahead as f64 / 1e6 / speed)
    }
}

/// So many seconds later; a wait beyond what can be counted is a very long one.
fn later(instant: Instant, seconds: f64) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    let wait = Duration::try_from_secs_f64(seconds).unwrap_or(YEAR).min(YEAR);
    instant + wait
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Milliseconds after the start at which messages go that are offered as soon as their predecessor went, each held up for so long first.
    fn times(pace: Pace, messages: &[(i64, u64)]) -> Vec<u64> {
        let start = Instant::now() + Duration::from_secs(10);
        let mut now = start;
        let mut pacer = Pacer::new(pace);
        let gone = messages.iter().map(|(seconds, held_up_millis)| {
            now += Duration::from_millis(*held_up_millis);
            now = now.max(pacer.due(Some(Micros(seconds * 1_000_000)), now));
            u64::try_from((now - start).as_millis()).unwrap()
        });
        gone.collect()
    }

    #[test]
    fn a_rate_spaces_messages_and_catches_up_for_a_second_only() {
        let pace = Pace { rate: Some(10.0), speed: None };
        assert_eq!(times(pace, &[(0, 0); 4]), [0, 100, 200, 300]);
        assert_eq!(times(pace, &[(0, 0), (0, 150), (0, 0), (0, 0)]), [0, 150, 200, 300]);
        let held_up: Vec<_> = [(0, 0), (0, 60_000)].into_iter().chain([(0, 0); 12]).collect();
        let gone = times(pace, &held_up);
        assert_eq!(gone.iter().filter(|at| **at == 60_000).count(), 11);
        assert_eq!(gone.last(), Some(&60_200));
    }

    #[test]
    fn a_speed_follows_the_event_times() {
        let pace = Pace { rate: None, speed: Some(60.0) };
        assert_eq!(times(pace, &[(0, 0), (60, 0), (30, 0), (120, 0)]), [0, 1000, 1000, 2000]);
        let two_devices = [(0, 0), (7200, 0), (0, 0), (7200, 0)];
        assert_eq!(times(pace, &two_devices), [0, 120_000, 120_000, 240_000]);
    }

    #[test]
    fn of_both_the_slower_one_holds() {
        let pace = Pace { rate: Some(1.0), speed: Some(1.0) };
        assert_eq!(times(pace, &[(0, 0), (0, 0), (5, 0), (5, 0)]), [0, 1000, 5000, 5000]);
        assert_eq!(times(Pace::default(), &[(0, 0), (9, 0)]), [0, 0]);
    }
}
