//! Says in the reporting bucket how a report fares, when that changes, for those who look at it from another process.

use super::Works;
use chrono::Utc;
use millstream_model::name::StreamName;
use millstream_query::report::shortened;
use millstream_query::{ReportNote, ReportState, SourceKind};
use std::time::Duration;
use tokio::time::Instant;

/// For so long is believed what was read or written last. Then it is read again: another processor, or a person, may have said something else meanwhile, and if that one
/// is gone, nobody but us takes it back.
const BELIEVED: Duration = Duration::from_secs(5 * 60);

/// What was noted of a report, as far as it is known.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    /// What stands in the bucket, if anything does, and since when that is known.
    known: Option<(Option<ReportNote>, Instant)>,
    /// Failures in a row.
    failures: u64,
    /// When the first of them was, in milliseconds since 1970.
    failing_since_ms: i64,
}

impl Noted {
    /// Nothing is wrong with the report, or no longer. Of one that never failed nothing is said.
    pub(crate) async fn well(&mut self, works: &Works, report: &StreamName) {
        self.failures = 0;
        self.say(works, report, ReportState::Well, None).await;
    }

    /// The report failed.
    pub(crate) async fn failing(&mut self, works: &Works, report: &StreamName, error: &str) {
        self.failures += 1;
        if self.failures == 1 {
            self.failing_since_ms = Utc::now().timestamp_millis();
        }
        self.say(works, report, ReportState::Failing, Some(shortened(error))).await;
    }

    /// A note that cannot be written, or compared with the one before, is tried again after the next look: the report itself does not depend on it.
    async fn say(&mut self, works: &Works, report: &StreamName, state: ReportState, error: Option<String>) {
        let bucket = works.bucket(SourceKind::Report);
        let believed = self.known.take().filter(|(_, since)| since.elapsed() < BELIEVED);
        let (known, since) = match believed {
            Some(known) => known,
            None => match ReportNote::read(bucket, report.as_str()).await {
                Ok(known) => (known, Instant::now()),
                Err(error) => return unsaid(report, &error.to_string()),
            },
        };
        if known.is_none() && state == ReportState::Well {
            self.known = Some((None, since));
            return;
        }
        let now = Utc::now().timestamp_millis();
        let whole = works.status.borrow().reports.get(report).and_then(|status| status.whole.clone());
        let since_ms = match (state, &known) {
            (ReportState::Failing, _) => self.failing_since_ms,
            (ReportState::Well, Some(known)) if known.state == state => known.since_ms,
            (ReportState::Well, _) => now,
        };
        let (report_name, failures) = (report.to_string(), self.failures);
        let note =
            ReportNote { report: report_name, state, error, since_ms, failures, whole, written_ms: now };
        if known.as_ref().is_some_and(|known| known.says_as(&note)) {
            self.known = Some((known, since));
            return;
        }
        match note.write(bucket).await {
            Ok(()) => self.known = Some((Some(note), Instant::now())),
            // What is there now is not known.
            Err(error) => unsaid(report, &error.to_string()),
        }
    }
}

fn unsaid(report: &StreamName, error: &str) {
    tracing::debug!(report = report.as_str(), error, "how a report fares could not be noted");
}
