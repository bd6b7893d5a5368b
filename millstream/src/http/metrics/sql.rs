//! Queries over HTTP.

use super::family::{Family, label};
use crate::pipeline::Observed;

pub(super) fn families(observed: &Observed) -> Vec<Family> {
    if !observed.serves {
        return Vec::new();
    }
    let counts = observed.sql.read();
    let mut ended = Family::counter(
        "millstream_sql_requests",
        "Requests by what became of them; one that its client gave up is none of these",
    );
    ended.count([label("outcome", "answered")], counts.answered);
    ended.count([label("outcome", "failed")], counts.failed);
    vec![
        Family::counter("millstream_sql_received_requests", "Requests that came").with([], counts.total),
        ended,
        Family::gauge("millstream_sql_running_requests", "Queries that run").with([], counts.running),
        Family::gauge("millstream_sql_waiting_requests", "Queries that wait for their turn")
            .with([], counts.waiting),
        Family::counter("millstream_sql_sent_rows", "Rows handed to clients").with([], counts.rows),
        Family::counter("millstream_sql_sent_bytes", "Bytes handed to clients").with([], counts.bytes),
    ]
}
