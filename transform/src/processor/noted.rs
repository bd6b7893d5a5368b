//! Says in the reporting bucket how a report fares, when that changes, for those who look at it from another process.

use super::Works;
use chrono::Utc;
use millstream_model::name::StreamName;
use millstream_query::report::shortened;
use millstream_query::{ReportNote, ReportState, SourceKind};

/// What was noted of a report, as far as it is known.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    /// Read before the first note is written: another process may have written one. `None` until then.
    known: Option<Option<ReportNote>>,
    /// Failures in a row.
    failures: u64,
    /// When the first of them was, in milliseconds since 1970.
    failing_since_ms: i64,
}

impl Noted {
    /// The report is right again, or still.
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
        let known = match self.known.take() {
            Some(known) => known,
            None => match ReportNote::read(bucket, report.as_str()).await {
                Ok(known) => known,
                Err(error) => return unsaid(report, &error.to_string()),
            },
        };
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
            self.known = Some(known);
            return;
        }
        match note.write(bucket).await {
            Ok(()) => self.known = Some(Some(note)),
            // What is there now is not known.
            Err(error) => unsaid(report, &error.to_string()),
        }
    }
}

fn unsaid(report: &StreamName, error: &str) {
    tracing::debug!(report = report.as_str(), error, "how a report fares could not be noted");
}
