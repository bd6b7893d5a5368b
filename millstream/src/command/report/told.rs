//! What came of a report, in words.

use crate::telemetry::chain;
use millstream_model::name::StreamName;
use millstream_transform::processor::Refreshed;
use serde::Deserialize;

/// One line.
pub(super) fn told(name: &StreamName, outcome: &anyhow::Result<Refreshed>) -> String {
    let words = match outcome {
        Ok(Refreshed::Waiting { source }) => format!("waits for {source}, which has no table yet"),
        Ok(Refreshed::Incomplete) => "waits: nothing that it reads is complete yet".to_owned(),
        Ok(Refreshed::Current) => "is up to date".to_owned(),
        Ok(Refreshed::Replaced { version, dates: Some(0), .. }) => {
            format!("is up to date: what is new changes none of its rows; version {version}")
        }
        Ok(Refreshed::Replaced { version, dates, rows, files }) => {
            let dates = match dates {
                Some(1) => "1 date".to_owned(),
                Some(dates) => format!("{dates} dates"),
                None => "all of it".to_owned(),
            };
            format!(
                "recomputed {dates}: {}, {}; version {version}",
                count(*rows, "row"),
                count(*files as u64, "file")
            )
        }
        Err(error) => format!("failed, {}", chain(error)),
    };
    format!("{name}: {words}\n")
}

/// A report that something is wrong with, as it is listed.
#[derive(Debug, Deserialize)]
pub(super) struct Wrong {
    report: String,
    since: Option<String>,
    error: String,
}

/// One line.
pub(super) fn wrong(Wrong { report, since, error }: Wrong) -> String {
    let since = since.map(|since| format!(" since {since}")).unwrap_or_default();
    format!("{report} fails{since}: {error}\n")
}

fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(outcome: anyhow::Result<Refreshed>, expected: &str) {
        assert_eq!(told(&"daily".parse().unwrap(), &outcome), format!("daily: {expected}\n"));
    }

    #[test]
    fn what_came_of_a_report_is_one_line() {
        check(Ok(Refreshed::Current), "is up to date");
        check(
            Ok(Refreshed::Waiting { source: "telemetry".to_owned() }),
            "waits for telemetry, which has no table yet",
        );
        let replaced = |dates, rows, files| Ok(Refreshed::Replaced { version: 7, dates, rows, files });
        check(replaced(Some(1), 1, 1), "recomputed 1 date: 1 row, 1 file; version 7");
        check(replaced(None, 12, 3), "recomputed all of it: 12 rows, 3 files; version 7");
        check(replaced(Some(0), 0, 0), "is up to date: what is new changes none of its rows; version 7");
        check(
            Err(anyhow::anyhow!("no column is named nonsense").context("its SQL failed")),
            "failed, its SQL failed: no column is named nonsense",
        );
    }
}
