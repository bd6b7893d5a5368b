//! Brings one report to the latest version of its sources, in one commit.

use super::error::ReportError;
use super::look::{Look, Looked, look};
use super::replace::{Replaced, outdate, replace};
use super::scope::{Scope, scope};
use super::status::ReportPhase;
use super::tables::Tables;
use super::{Report, Works};
use crate::backoff::Backoff;
use chrono::Utc;
use millstream_model::time::Micros;
use millstream_query::SourceKind;

/// How often a report is planned anew because somebody else changed its table meanwhile, before that is called a failure.
const PLANS_MAX: u32 = 8;

/// What came of a look at a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refreshed {
    /// A table that it reads does not exist yet.
    Waiting {
        /// The table.
        source: String,
    },
    /// It waits for completeness, and nothing that it reads is complete yet.
    Incomplete,
    /// It shows the latest version already.
    Current,
    /// Its rows were replaced.
    Replaced {
        /// The version of its table that this made.
        version: i64,
        /// How many dates were computed; `None`: all of them.
        dates: Option<usize>,
        /// How many rows they have now.
        rows: u64,
        /// In so many files.
        files: usize,
    },
}

/// How much is computed at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thoroughness {
    /// What is not up to date.
    Needed,
    /// Everything, but for dates that were retired in the source; and the completeness mark, which moves back by nothing else.
    Everything,
}

/// Looks once, and recomputes what is not up to date.
pub(crate) async fn refresh(
    works: &Works,
    report: &Report,
    tables: &mut Tables,
    thoroughness: Thoroughness,
) -> Result<Refreshed, ReportError> {
    let mut backoff = Backoff::new();
    let mut outdated = false;
    loop {
        let look = match look(works, report, tables, thoroughness).await? {
            Looked::Found(look) => look,
            Looked::Missing(source) => {
                say_waiting(works, report);
                return Ok(Refreshed::Waiting { source: source.name });
            }
        };
        // Tables that were given back after a success say so; after this failure they are opened anew, and the next try takes the report back.
        if tables.are_ours && look.is_of_another(report) {
            return Err(ReportError::TakenOver);
        }
        tables.are_ours = look.is_of(report);
        works.say(&report.name, |status| status.latest = look.versions());
        if look.mark == Some(None) {
            say_waiting(works, report);
            return Ok(Refreshed::Incomplete);
        }
        // Nothing but all of it makes it of this definition again: whoever did that has done what was to be done.
        if outdated && look.is_of(report) && look.has_its_mark(report) {
            return Ok(replaced_by_another(works, report, &look));
        }
        let scope = match thoroughness {
            Thoroughness::Needed => scope(report, &look).await?,
            Thoroughness::Everything => Scope::Whole,
        };
        if scope == Scope::Nothing {
            say_current(works, report, &look, look.shown.version());
            return Ok(Refreshed::Current);
        }
        works.say(&report.name, |status| status.phase = ReportPhase::Computing);
        if let Some(Replaced { version, dates, rows, files }) = replace(works, report, &look, &scope).await? {
            say_current(works, report, &look, version);
            tables.are_ours = true;
            works.wake.tell(works.bucket(SourceKind::Report), report.name.as_str(), version).await;
            return Ok(Refreshed::Replaced { version, dates, rows, files });
        }
        let pause = backoff.next();
        if backoff.attempts() == PLANS_MAX {
            return Err(ReportError::Contended { attempts: PLANS_MAX });
        }
        // Whoever keeps it replaces few dates in less time than all of it takes, again and again: from here on he, too, computes all of it, and either may come first.
        if thoroughness == Thoroughness::Everything && !outdated {
            outdated = outdate(&look.table).await?;
        }
        tokio::time::sleep(pause).await;
    }
}

fn replaced_by_another(works: &Works, report: &Report, look: &Look) -> Refreshed {
    say_current(works, report, look, look.shown.version());
    let files = look.shown.files();
    let rows = files.iter().filter_map(|file| file.rows).sum();
    Refreshed::Replaced { version: look.shown.version(), dates: None, rows, files: files.len() }
}

fn say_waiting(works: &Works, report: &Report) {
    works.say(&report.name, |status| (status.phase, status.last_error) = (ReportPhase::Waiting, None));
}

fn say_current(works: &Works, report: &Report, look: &Look, version: i64) {
    let sources = look.versions();
    let whole = look.whole();
    works.say(&report.name, |status| {
        status.phase = ReportPhase::Current;
        status.current_at = Some(Micros::from(Utc::now()));
        status.sources = sources;
        status.version = Some(version);
        status.whole = whole;
        status.mark = look.mark.flatten();
        status.kept_before = look.kept_before();
        status.last_error = None;
    });
}
