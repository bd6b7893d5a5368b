//! What is wrong with reports: nothing, if every version that they ever had is what their SQL means, computed here in a few plain lines.

use super::versions::{Row, Version, versions};
use chrono::NaiveDate;
use millstream_lake::Bucket;
use millstream_lake::upkeep::retired_app;
use millstream_model::time::Micros;
use std::collections::BTreeMap;

/// A report of the history: what it reads, its SQL, and what that means.
#[derive(Debug)]
pub(super) struct Meaning {
    pub(super) name: &'static str,
    pub(super) source: &'static str,
    pub(super) sql: &'static str,
    pub(super) by_date: bool,
    pub(super) complete: bool,
    of: fn(&[&Row]) -> Vec<String>,
}

pub(super) const MEANINGS: [Meaning; 4] = [
    Meaning {
        name: "daily",
        source: "telemetry",
        sql: "select date, device, count(*) as n, sum(v) as total from telemetry group by 1, 2",
        by_date: true,
        complete: false,
        of: |rows| {
            let groups = grouped(rows, |row| format!("{}|{}", row["date"], row["device"]));
            let line =
                |(key, rows): (String, Vec<&Row>)| format!("{key}|{}|{:?}", rows.len(), sum(&rows, "v"));
            groups.into_iter().map(line).collect()
        },
    },
    Meaning {
        name: "top",
        source: "daily",
        sql: "select date, max(n) as most, sum(total) as total from daily group by date",
        by_date: true,
        complete: false,
        of: |rows| {
            let most = |rows: &[&Row]| rows.iter().map(|row| row["n"].parse::<i64>().unwrap()).max().unwrap();
            let groups = grouped(rows, |row| row["date"].clone());
            let line =
                |(key, rows): (String, Vec<&Row>)| format!("{key}|{}|{:?}", most(&rows), sum(&rows, "total"));
            groups.into_iter().map(line).collect()
        },
    },
    Meaning {
        name: "overall",
        source: "telemetry",
        sql: "select device, count(*) as n from telemetry group by 1",
        by_date: false,
        complete: false,
        of: |rows| {
            let groups = grouped(rows, |row| row["device"].clone());
            groups.into_iter().map(|(key, rows)| format!("{key}|{}", rows.len())).collect()
        },
    },
    Meaning {
        name: "hourly",
        source: "telemetry",
        sql: "select date, count(*) as n from telemetry group by 1",
        by_date: true,
        complete: true,
        of: |rows| {
            let groups = grouped(rows, |row| row["date"].clone());
            groups.into_iter().map(|(key, rows)| format!("{key}|{}", rows.len())).collect()
        },
    },
];

fn grouped<'r>(rows: &[&'r Row], key: impl Fn(&Row) -> String) -> BTreeMap<String, Vec<&'r Row>> {
    let mut groups: BTreeMap<String, Vec<&Row>> = BTreeMap::new();
    rows.iter().for_each(|row| groups.entry(key(row)).or_default().push(row));
    groups
}

fn sum(rows: &[&Row], column: &str) -> f64 {
    rows.iter().map(|row| row[column].parse::<f64>().unwrap()).sum()
}

impl Meaning {
    /// The rows that a version of the report has, as [`Meaning::of`] writes them.
    fn lines(&self, version: &Version) -> Vec<String> {
        let columns: &[&str] = match self.name {
            "daily" => &["date", "device", "n", "total"],
            "top" => &["date", "most", "total"],
            "overall" => &["device", "n"],
            _ => &["date", "n"],
        };
        let line =
            |row: &Row| columns.iter().map(|column| row[*column].clone()).collect::<Vec<_>>().join("|");
        let mut lines: Vec<String> = version.rows().map(line).collect();
        lines.sort();
        lines
    }

    /// What is wrong with any version that the report ever had; and with its last one, if it is said to be up to date.
    pub(super) async fn violations(
        &self,
        ingestion: &Bucket,
        reporting: &Bucket,
        is_settled: bool,
    ) -> Vec<String> {
        let bucket = if self.source == "telemetry" { ingestion } else { reporting };
        let source = versions(bucket, self.source).await;
        let report = versions(reporting, self.name).await;
        let mut wrong = Vec::new();
        let mut before = Shown { kept: None, mark: None, lines: Vec::new() };
        for (number, version) in report.iter().enumerate() {
            match self.judge(&source, version, &before) {
                Ok(shown) => before = shown,
                Err(what) => {
                    wrong.push(format!("{} at version {number}: {what}", self.name));
                    return wrong;
                }
            }
        }
        if let (true, Some(last)) = (is_settled, source.last()) {
            let meant = self.meant(last, before.mark, before.kept);
            let shown: Vec<_> =
                before.lines.iter().filter(|line| !is_kept(line, before.kept)).cloned().collect();
            if meant != shown && (!self.complete || before.mark.is_some()) {
                wrong.push(format!(
                    "{} in the end: it shows {shown:?}, and its SQL gives {meant:?}",
                    self.name
                ));
            }
        }
        wrong
    }

    fn judge(&self, source: &[Version], version: &Version, before: &Shown) -> Result<Shown, String> {
        let lines = self.lines(version);
        let Some(shown) = version.txn(&format!("report/{}", self.name)) else {
            let nothing = Shown { kept: None, mark: None, lines };
            return if nothing.lines.is_empty() { Ok(nothing) } else { Err("rows of no version".to_owned()) };
        };
        let of = usize::try_from(shown).ok().and_then(|shown| source.get(shown)).ok_or("of no version")?;
        let mark = version.txn(&format!("report/{}/mark", self.name));
        if self.complete && (mark.is_none() || mark < before.mark) {
            return Err(format!("its mark went from {:?} to {mark:?}", before.mark));
        }
        let retired = of.txn(&retired_app(self.source)).filter(|_| self.by_date);
        let kept = version.txn(&format!("report/{}/{}/kept", self.name, self.source));
        if kept != before.kept.max(retired) {
            return Err(format!(
                "it keeps dates before {kept:?}, and its source has none before {retired:?}"
            ));
        }
        let meant = self.meant(of, mark, kept);
        let (still, found): (Vec<_>, Vec<_>) = lines.iter().cloned().partition(|line| is_kept(line, kept));
        let was: Vec<_> = before.lines.iter().filter(|line| is_kept(line, kept)).cloned().collect();
        if still != was {
            return Err(format!("of dates that are kept it had {was:?}, and has {still:?}"));
        }
        if found != meant {
            return Err(format!(
                "by version {shown} of its source and the mark {mark:?} it should have {meant:?}, and has {found:?}"
            ));
        }
        Ok(Shown { kept, mark, lines })
    }

    /// What the SQL gives over a version of the source, before the mark, without dates that are kept.
    fn meant(&self, source: &Version, mark: Option<i64>, kept: Option<i64>) -> Vec<String> {
        let counts = |row: &&Row| {
            let in_time = |mark: i64| Micros::from_rfc3339(&row["ts"]).unwrap().0 < mark;
            !self.complete || mark.is_some_and(in_time)
        };
        let rows: Vec<&Row> = source.rows().filter(counts).collect();
        let mut meant = (self.of)(&rows);
        meant.retain(|line| !is_kept(line, kept));
        meant.sort();
        meant
    }
}

/// What a version of a report shows.
struct Shown {
    kept: Option<i64>,
    mark: Option<i64>,
    lines: Vec<String>,
}

/// Whether a line that begins with a date is of one that stays as it is.
fn is_kept(line: &str, kept: Option<i64>) -> bool {
    let Some(kept) = kept else { return false };
    let date: NaiveDate = line.split('|').next().unwrap().parse().unwrap();
    i64::from(date.to_epoch_days()) < kept
}
