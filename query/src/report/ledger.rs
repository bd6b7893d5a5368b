//! What a report's table says of itself: the names of its transactions and properties. The processor writes them; whoever shows where a report stands reads them.

/// Table property: the SQL that the rows come from. Empty while they come from no SQL that is known.
pub const SQL: &str = "millstream.report_sql";

/// Table property: which readings the rows go by, in the configuration's words. Absent is "always".
pub const WHEN: &str = "millstream.report_when";

/// So many versions of a source may go by that change nothing in a report of complete hours before it says that it shows them: a commit for each would be noise, and
/// each further look reads their commits again.
pub const UNSAID_MAX: i64 = 60;

/// Table property: which table of this name the rows come from. One that was made anew in its place has versions of the same numbers.
#[must_use]
pub fn made_of(source: &str) -> String {
    format!("millstream.report_source.{source}")
}

/// The transaction that says which version of a source the rows show. `alone`: it is the report's only source.
#[must_use]
pub fn shown_app(report: &str, source: &str, alone: bool) -> String {
    if alone { format!("report/{report}") } else { format!("report/{report}/{source}") }
}

/// The transaction that says when the commit was made of the version of a source that the rows show, in milliseconds since 1970; 0 where that is not known. A source that was
/// put back to an earlier state, and went on from there, has another commit of that number.
#[must_use]
pub fn commit_app(report: &str, source: &str) -> String {
    format!("report/{report}/{source}/commit")
}

/// The transaction of a report that asks for the time: when its rows were last computed, in milliseconds since 1970.
#[must_use]
pub fn computed_app(report: &str) -> String {
    format!("report/{report}/computed/at")
}

/// The transaction that holds the completeness mark, in microseconds since 1970: the rows go by the readings whose event time lies before it.
#[must_use]
pub fn mark_app(report: &str) -> String {
    format!("report/{report}/mark")
}

/// The transaction that says which dates are kept as they are, because they were retired in the source: those before it, in days since 1970.
#[must_use]
pub fn kept_app(report: &str, source: &str) -> String {
    format!("report/{report}/{source}/kept")
}
