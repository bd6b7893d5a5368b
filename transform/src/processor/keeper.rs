//! Keeps one report: looks when something may have changed, and bears with failures.

use super::refresh::{Refreshed, refresh};
use super::status::ReportPhase;
use super::{Report, Works};
use crate::backoff::{Backoff, chain};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// One report and what it takes to keep it.
#[derive(Debug)]
pub(crate) struct Keeper {
    report: Report,
    works: Arc<Works>,
    bell: Arc<Notify>,
    shutdown: CancellationToken,
    backoff: Backoff,
    last_error: Option<String>,
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
        Self { report, works, bell, shutdown, backoff: Backoff::new(), last_error: None }
    }

    pub(crate) async fn run(mut self) {
        let mut event = Event::Look;
        while let Event::Look = event {
            let pause = tokio::select! {
                () = self.shutdown.cancelled() => return,
                pause = look(&self.works, &self.report, &mut self.backoff, &mut self.last_error) => pause,
            };
            event = self.event(pause).await;
        }
    }

    async fn event(&self, pause: Option<Duration>) -> Event {
        // After a failure a notice does not shorten the wait: it would be a storm of failures.
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

/// Brings the report up to date once; after a failure, says how long to wait. Dropping it midway leaves nothing that is seen.
async fn look(
    works: &Works,
    report: &Report,
    backoff: &mut Backoff,
    last_error: &mut Option<String>,
) -> Option<Duration> {
    let refreshed = match works.turns.acquire().await {
        Ok(_turn) => refresh(works, report).await,
        Err(_) => return None,
    };
    match refreshed {
        Ok(Refreshed::Waiting { source }) => {
            tracing::debug!(report = report.name.as_str(), source, "a report waits for its source")
        }
        Ok(Refreshed::Current) => {}
        Ok(Refreshed::Replaced { version, dates, rows, files }) => {
            tracing::info!(report = report.name.as_str(), version, dates, rows, files, "recomputed");
        }
        Err(error) => {
            let text = chain(&error);
            // Said once; a report that goes on failing for the same reason says it in its status.
            if last_error.as_ref() != Some(&text) {
                tracing::warn!(
                    report = report.name.as_str(),
                    error = text,
                    "a report failed and is tried again"
                );
            }
            works.say(&report.name, |status| {
                (status.phase, status.last_error) = (ReportPhase::Retrying, Some(text.clone()))
            });
            *last_error = Some(text);
            return Some(backoff.next());
        }
    }
    *backoff = Backoff::new();
    *last_error = None;
    None
}
