//! How far a replay is, and three ways to show it: a bar, a line now and then, nothing.

use crate::replay::summary::grouped;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fmt::{self, Debug};
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often the progress is shown.
pub(crate) const SHOW_EVERY: Duration = Duration::from_millis(200);

/// How often a line is written where a bar cannot be drawn.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// How far a replay is.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// What it is doing.
    pub phase: Phase,
    /// Messages that there are in all, if a first pass has counted them.
    pub total: Option<u64>,
    /// Messages read.
    pub read: u64,
    /// Messages sent at least once.
    pub published: u64,
    /// Messages acknowledged.
    pub acknowledged: u64,
    /// Messages acknowledged; at QoS 0, where nothing is, messages sent.
    pub done: u64,
    /// Messages sent and not acknowledged yet.
    pub in_flight: u64,
    /// How often a message was sent again.
    pub resent: u64,
    /// How often a connection was made anew.
    pub reconnects: u64,
    /// Lines that cannot be published.
    pub bad_lines: u64,
    /// Since the phase began.
    pub elapsed: Duration,
    /// Messages done per second, lately.
    pub rate: f64,
}

/// What a replay is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The first pass over the files: the newest event time is looked for. Nothing is published yet.
    Surveying,
    /// Messages are published.
    Publishing,
}

/// Is shown how far a replay is, several times a second.
pub trait Progress: Send + Sync + Debug {
    /// The state now. Called by the replay's own task, so it must not block.
    fn show(&self, snapshot: &Snapshot);

    /// The last state; nothing is shown after it.
    fn finish(&self, snapshot: &Snapshot);
}

/// What is shown where standard error is no terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithoutTerminal {
    /// A line every few seconds.
    Lines,
    /// Nothing.
    Nothing,
}

/// The progress on standard error: a bar on a terminal.
#[must_use]
pub fn on_stderr(without_terminal: WithoutTerminal) -> Arc<dyn Progress> {
    match without_terminal {
        _ if io::stderr().is_terminal() => Arc::new(Bar::new(ProgressDrawTarget::stderr())),
        WithoutTerminal::Lines => Arc::new(Lines::new(io::stderr())),
        WithoutTerminal::Nothing => Arc::new(Silent),
    }
}

/// Shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn show(&self, _: &Snapshot) {}

    fn finish(&self, _: &Snapshot) {}
}

/// A bar on a terminal.
#[derive(Debug)]
pub struct Bar(ProgressBar);

impl Bar {
    /// A bar that is drawn there.
    #[must_use]
    pub fn new(target: ProgressDrawTarget) -> Self {
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(style("{spinner} {wide_msg}"));
        Self(bar)
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Progress for Bar {
    fn show(&self, snapshot: &Snapshot) {
        if let (Phase::Publishing, Some(total), None) = (snapshot.phase, snapshot.total, self.0.length()) {
            self.0.set_style(style("{bar:30} {percent:>3} % {wide_msg}"));
            self.0.set_length(total);
        }
        self.0.set_position(snapshot.done);
        self.0.set_message(line(snapshot));
        self.0.tick();
    }

    fn finish(&self, snapshot: &Snapshot) {
        self.show(snapshot);
        self.0.finish();
    }
}

/// A line every few seconds, for logs.
pub struct Lines<W> {
    out: Mutex<W>,
    /// When the next line is due, measured as [`Snapshot::elapsed`], and of which phase.
    due: Mutex<(Phase, Duration)>,
}

impl<W: Write> Lines<W> {
    /// Lines that are written there.
    #[must_use]
    pub fn new(out: W) -> Self {
        Self { out: Mutex::new(out), due: Mutex::new((Phase::Surveying, LINE_EVERY)) }
    }

    fn write(&self, snapshot: &Snapshot) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        // A progress that cannot be shown is no reason to end what it is about.
        writeln!(out, "{}", line(snapshot)).ok();
    }

    fn is_due(&self, snapshot: &Snapshot) -> bool {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        if due.0 != snapshot.phase {
            *due = (snapshot.phase, LINE_EVERY);
        }
        let is_due = snapshot.elapsed >= due.1;
        if is_due {
            due.1 = snapshot.elapsed + LINE_EVERY;
        }
        is_due
    }
}

impl<W> Debug for Lines<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").finish_non_exhaustive()
    }
}

impl<W: Write + Send> Progress for Lines<W> {
    fn show(&self, snapshot: &Snapshot) {
        if self.is_due(snapshot) {
            self.write(snapshot);
        }
    }

    fn finish(&self, snapshot: &Snapshot) {
        self.write(snapshot);
    }
}

fn line(snapshot: &Snapshot) -> String {
    if snapshot.phase == Phase::Surveying {
        return format!("{} messages looked through", grouped(snapshot.read));
    }
    let total = snapshot.total.map(|total| format!(" of {}", grouped(total))).unwrap_or_default();
    let what = if snapshot.acknowledged == snapshot.done { "acknowledged" } else { "sent" };
    let (done, rate, in_flight) =
        (grouped(snapshot.done), grouped(snapshot.rate.round() as u64), grouped(snapshot.in_flight));
    let mut text = format!("{done}{total} {what}, {rate}/s, {in_flight} in flight");
    for (count, name) in [
        (snapshot.resent, "sent again"),
        (snapshot.reconnects, "reconnects"),
        (snapshot.bad_lines, "lines skipped"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {} {name}", grouped(count)));
        }
    }
    text
}

/// The rate over the last few snapshots.
#[derive(Debug, Default)]
pub(crate) struct RecentRate {
    seen: std::collections::VecDeque<(Duration, u64)>,
}

/// How far back a rate looks: smooth enough to read, quick enough to follow.
const RATE_OVER: Duration = Duration::from_secs(2);

impl RecentRate {
    /// The rate, messages per second, with this count now.
    pub(crate) fn update(&mut self, elapsed: Duration, done: u64) -> f64 {
        self.seen.push_back((elapsed, done));
        while self.seen.get(1).is_some_and(|(at, _)| *at + RATE_OVER <= elapsed) {
            self.seen.pop_front();
        }
        let (since, count) = self.seen.front().copied().unwrap_or_default();
        crate::replay::tally::per_second(done.saturating_sub(count), elapsed.saturating_sub(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(phase: Phase, seconds: u64) -> Snapshot {
        Snapshot {
            phase,
            total: Some(26_115),
            read: 1200,
            published: 1100,
            acknowledged: 1000,
            done: 1000,
            in_flight: 100,
            resent: 0,
            reconnects: 0,
            bad_lines: 0,
            elapsed: Duration::from_secs(seconds),
            rate: 5000.4,
        }
    }

    #[test]
    fn lines_are_written_every_few_seconds_and_at_the_end() {
        let lines = Lines::new(Vec::new());
        for seconds in 0..12 {
            lines.show(&snapshot(Phase::Publishing, seconds));
        }
        lines.finish(&Snapshot { resent: 3, bad_lines: 1, ..snapshot(Phase::Publishing, 12) });
        let text = String::from_utf8(lines.out.into_inner().unwrap()).unwrap();
        let line = "1,000 of 26,115 acknowledged, 5,000/s, 100 in flight";
        assert_eq!(text, format!("{line}\n{line}\n{line}, 3 sent again, 1 lines skipped\n"));
    }

    #[test]
    fn other_phases_and_qos_0_read_well() {
        assert_eq!(line(&snapshot(Phase::Surveying, 1)), "1,200 messages looked through");
        let unacknowledged = Snapshot {
            acknowledged: 0,
            done: 1100,
            in_flight: 0,
            total: None,
            ..snapshot(Phase::Publishing, 1)
        };
        assert_eq!(line(&unacknowledged), "1,100 sent, 5,000/s, 0 in flight");
    }

    #[test]
    fn a_rate_is_that_of_the_last_seconds() {
        let mut rate = RecentRate::default();
        assert_eq!(rate.update(Duration::ZERO, 0), 0.0);
        assert_eq!(rate.update(Duration::from_secs(1), 100), 100.0);
        for second in 2..10 {
            rate.update(Duration::from_secs(second), 100);
        }
        assert_eq!(rate.update(Duration::from_secs(10), 500), 200.0);
    }

    #[test]
    fn a_bar_takes_every_phase() {
        let bar = Bar::new(ProgressDrawTarget::hidden());
        bar.show(&snapshot(Phase::Surveying, 1));
        assert_eq!(bar.0.length(), None);
        bar.show(&snapshot(Phase::Publishing, 2));
        assert_eq!((bar.0.length(), bar.0.position()), (Some(26_115), 1000));
        bar.finish(&snapshot(Phase::Publishing, 3));
        assert!(bar.0.is_finished());
    }
}
