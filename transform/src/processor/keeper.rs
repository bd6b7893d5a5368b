//! Keeps one report: looks when something may have changed, and bears with failures.

use super::attempt::Attempts;
use super::error::{ReportError, TAKEN_BACK_AFTER};
use super::noted::Noted;
use super::refresh::{Refreshed, Thoroughness};
use super::status::ReportPhase;
use super::tables::Tables;
use super::{Report, Works, refresh_once};
use crate::backoff::{Backoff, chain};
use crate::patience::patiently;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// After it was recomputed a report rests so many times as long as that took. A whole computation may take minutes, and commits come each minute: it must leave the cores to
/// the others, the gateway of a small machine among them.
const RESTS: u32 = 3;

/// A look that takes longer is told of: it may be a large computation, or a store that gives no answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A shorter rest is not worth a timer.
const REST_MIN: Duration = Duration::from_millis(500);

/// One report and what it takes to keep it.
#[derive(Debug)]
pub(crate) struct Keeper {
    report: Report,
    works: Arc<Works>,
    bell: Arc<Notify>,
    shutdown: CancellationToken,
    memory: Memory,
}

/// All that can happen to a keeper.
#[derive(Debug)]
enum Event {
    /// Something may have changed, or it is time to look.
    Look,
    Shutdown,
}

impl Keeper {
    pub(crate) fn new(
        report: Report,
        works: Arc<Works>,
        bell: Arc<Notify>,
        shutdown: CancellationToken,
    ) -> Self {
        Self { report, works, bell, shutdown, memory: Memory::new() }
    }

    pub(crate) async fn run(mut self) {
        let mut event = Event::Look;
        while let Event::Look = event {
            let pause = tokio::select! {
                () = self.shutdown.cancelled() => break,
                pause = self.memory.look(&self.works, &self.report) => pause,
            };
            event = self.event(pause).await;
        }
        self.memory.attempts.settled().await;
    }

    async fn event(&self, pause: Option<Duration>) -> Event {
        // A notice does not shorten the wait after a failure, which would be a storm of failures, nor the rest.
        let rung = async {
            match pause {
                Some(_) => std::future::pending().await,
                None => self.bell.notified().await,
            }
        };
        tokio::select! {
            () = self.shutdown.cancelled() => Event::Shutdown,
            () = rung => Event::Look,
            () = tokio::time::sleep(pause.unwrap_or(self.works.settings.sweep)) => Event::Look,
        }
    }
}

/// What a keeper remembers between looks.
#[derive(Debug)]
struct Memory {
    attempts: Attempts,
    tables: Tables,
    backoff: Backoff,
    last_error: Option<String>,
    noted: Noted,
}

impl Memory {
    fn new() -> Self {
        Self {
            attempts: Attempts::new(),
            tables: Tables::default(),
            backoff: Backoff::new(),
            last_error: None,
            noted: Noted::default(),
        }
    }

    /// Brings the report up to date once; after a failure, or when that took long, says how long to wait. Dropping it midway leaves nothing that is seen.
    async fn look(&mut self, works: &Arc<Works>, report: &Report) -> Option<Duration> {
        // What was given up may still be at work, without a turn: it is not to be overtaken by another of its kind.
        self.attempts.settled().await;
        // Given back after success only: after a failure everything is opened anew.
        let tables = std::mem::take(&mut self.tables);
        let (refreshed, spent) = match works.turns.acquire().await {
            Ok(_turn) => {
                let began = Instant::now();
                let once = refresh_once(Arc::clone(works), report.clone(), tables, Thoroughness::Needed);
                let say = |waited: Duration| {
                    let (report, waited_s) = (report.name.as_str(), waited.as_secs());
                    tracing::info!(report, waited_s, "a report is still worked on");
                };
                let once = self.attempts.run(works.settings.compute_max, once);
                let refreshed = patiently(PATIENCE, once, say).await;
                (refreshed, began.elapsed())
            }
            Err(_) => return None,
        };
        works.say(&report.name, |status| status.spent += spent);
        match refreshed {
            Ok((refreshed, tables)) => {
                let mut rest = None;
                if let Refreshed::Replaced { .. } = refreshed {
                    works.say(&report.name, |status| status.recomputed += 1);
                    rest = Some(spent * RESTS).filter(|rest| *rest >= REST_MIN);
                }
                self.noted.well(works, &report.name).await;
                tell(report, refreshed);
                self.tables = tables;
                self.backoff = Backoff::new();
                self.last_error = None;
                rest
            }
            Err(error) => {
                let pause = self.failed(works, report, &error);
                self.noted.failing(works, &report.name, &chain(&error)).await;
                Some(pause)
            }
        }
    }

    fn failed(&mut self, works: &Works, report: &Report, error: &ReportError) -> Duration {
        let text = chain(error);
        // Said once; a report that goes on failing for the same reason says it in its status.
        if self.last_error.as_ref() != Some(&text) {
            tracing::warn!(report = report.name.as_str(), error = text, "a report failed and is tried again");
        }
        works.say(&report.name, |status| {
            (status.phase, status.last_error) = (ReportPhase::Retrying, Some(text.clone()));
            status.failures += 1;
        });
        self.last_error = Some(text);
        let pause = self.backoff.next();
        match error {
            // Most likely it will again: others get at least as much of the time.
            ReportError::TooLong { limit } => pause.max(*limit),
            ReportError::TakenOver => TAKEN_BACK_AFTER,
            _ => pause,
        }
    }
}

fn tell(report: &Report, refreshed: Refreshed) {
    match refreshed {
        Refreshed::Waiting { source } => {
            tracing::debug!(report = report.name.as_str(), source, "a report waits for its source")
        }
        Refreshed::Incomplete => {
            tracing::debug!(report = report.name.as_str(), "a report waits for the first complete hour")
        }
        Refreshed::Current => {}
        Refreshed::Replaced { version, dates, rows, files } => {
            tracing::info!(report = report.name.as_str(), version, dates, rows, files, "recomputed");
        }
    }
}
