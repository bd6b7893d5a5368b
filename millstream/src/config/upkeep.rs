//! How the tables are looked after.

use super::problem::Problem;
use super::raw::RawUpkeep;
use super::stream;
use super::value::{Size, Span, Term};
use millstream_lake::upkeep::{Keep, Rules, SAFE_AGE_MIN};
use millstream_model::name::{LIFECYCLE, QUARANTINE};
use millstream_model::stream::{DatePartition, Stream};
use std::sync::Arc;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Ten files of a minute: two of them make one tier of files that are merged.
const EVERY: Duration = Duration::from_secs(10 * 60);
/// What a reader likes to scan at once.
const TARGET_SIZE: u64 = 128 << 20;
/// As long as Delta's other writers keep files of past versions.
const SAFE_AGE: Duration = Duration::from_secs(7 * DAY.as_secs());
/// As long as Delta's other writers keep their log.
const LOG_KEEP: Duration = Duration::from_secs(30 * DAY.as_secs());
/// Each connection and each refusal is a row, also of strangers, and nobody thinks of them.
const LIFECYCLE_KEEP: Duration = Duration::from_secs(365 * DAY.as_secs());
/// A hundred years: the calendar does not go back without end.
const LONGEST: Duration = Duration::from_secs(36_500 * DAY.as_secs());

/// How the tables are looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Upkeep {
    /// How often it is looked whether there is something to do; `None`: only by `maintain`.
    pub(crate) every: Option<Duration>,
    /// For how long quarantined messages are kept; `None`: for ever.
    pub(crate) quarantine_keep: Option<Duration>,
    /// For how long it is known who connected; `None`: for ever.
    pub(crate) lifecycle_keep: Option<Duration>,
    /// What holds for every table.
    rules: Rules,
}

impl Upkeep {
    /// How a table of the ingestion bucket is looked after.
    pub(crate) fn ingestion(&self, table: &str, streams: &[Arc<Stream>]) -> Rules {
        let keep = match streams.iter().find(|stream| stream.name.as_str() == table) {
            Some(stream) => stream.keep.map(|time| Keep { time, date: stream.date }),
            None if table == QUARANTINE => {
                self.quarantine_keep.map(|time| Keep { time, date: DatePartition::Day })
            }
            None if table == LIFECYCLE => {
                self.lifecycle_keep.map(|time| Keep { time, date: stream::lifecycle().date })
            }
            None => None,
        };
        Rules { keep, ..self.rules }
    }

    /// How a table of the reporting bucket is looked after: a report keeps what its source does not any more.
    pub(crate) fn reporting(&self) -> Rules {
        self.rules
    }
}

/// Checks `[upkeep]`.
pub(super) fn check_upkeep(raw: RawUpkeep, problems: &mut Vec<Problem>) -> Upkeep {
    let every = raw.every.map_or(Some(EVERY), |term| term.0);
    if every.is_some_and(|every| every < Duration::from_secs(1)) {
        problems.push(
            Problem::new("upkeep.every", "must be at least 1s")
                .hint("write \"\" to leave it to `millstream maintain`"),
        );
    }
    let Size(target_size) = raw.target_size.unwrap_or(Size(TARGET_SIZE));
    if !((1 << 20)..=(4 << 30)).contains(&target_size) {
        problems.push(Problem::new("upkeep.target_size", "must be from 1MiB to 4GiB"));
    }
    let safe_age = raw.safe_age.map_or(SAFE_AGE, |Span(span)| span);
    if safe_age < SAFE_AGE_MIN {
        problems.push(
            Problem::new(
                "upkeep.safe_age",
                format!("must be at least {}", humantime::format_duration(SAFE_AGE_MIN)),
            )
            .hint(
                "files that are younger may belong to a query that runs, or to a commit that is on its way",
            ),
        );
    }
    let log_keep = raw.log_keep.map_or(LOG_KEEP.max(safe_age), |Span(span)| span);
    for (key, span) in [("upkeep.safe_age", safe_age), ("upkeep.log_keep", log_keep)] {
        if span > LONGEST {
            problems.push(Problem::new(key, "must be at most 36500d"));
        }
    }
    if log_keep < safe_age {
        problems.push(
            Problem::new("upkeep.log_keep", "must be at least safe_age")
                .hint("a version whose files are kept needs its commits, too"),
        );
    }
    Upkeep {
        every,
        quarantine_keep: check_keep("upkeep.quarantine_keep", raw.quarantine_keep, problems),
        lifecycle_keep: check_keep(
            "upkeep.lifecycle_keep",
            raw.lifecycle_keep.or(Some(Term(Some(LIFECYCLE_KEEP)))),
            problems,
        ),
        rules: Rules {
            target_size: raw.compact.unwrap_or(true).then_some(target_size),
            safe_age,
            log_keep,
            keep: None,
        },
    }
}

/// For how long the rows of a table are kept.
pub(super) fn check_keep(key: &str, term: Option<Term>, problems: &mut Vec<Problem>) -> Option<Duration> {
    let keep = term?.0?;
    if keep < DAY {
        problems.push(
            Problem::new(key, "must be at least 1d")
                .hint("rows leave by whole dates; \"\" keeps them for ever"),
        );
    }
    Some(keep)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use crate::config::load::load;
    use std::collections::BTreeMap;
    use std::path::Path;

    fn parse(text: &str) -> Result<Settings, Vec<Problem>> {
        load(text, Path::new("/etc/millstream"), &BTreeMap::new())
    }

    #[test]
    fn what_would_take_something_away_too_soon_is_refused() {
        let check = |text: &str, expected: &[&str]| {
            let problems = parse(text).err().unwrap_or_default();
            let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
            assert_eq!(said, expected, "{text}");
        };
        let stream = "[[stream]]\nname = \"a\"\ntopic = \"a/#\"\n";
        check("[upkeep]\nsafe_age = \"24h\"\nlog_keep = \"1d\"", &[]);
        check("[upkeep]\nsafe_age = \"23h\"", &["`upkeep.safe_age`: must be at least 1day"]);
        check(
            "[upkeep]\nsafe_age = \"400000years\"",
            &["`upkeep.safe_age`: must be at most 36500d", "`upkeep.log_keep`: must be at most 36500d"],
        );
        check("[upkeep]\nlog_keep = \"6d\"", &["`upkeep.log_keep`: must be at least safe_age"]);
        check("[upkeep]\ntarget_size = \"1KiB\"", &["`upkeep.target_size`: must be from 1MiB to 4GiB"]);
        check("[upkeep]\nevery = \"100ms\"", &["`upkeep.every`: must be at least 1s"]);
        check("[upkeep]\nquarantine_keep = \"1h\"", &["`upkeep.quarantine_keep`: must be at least 1d"]);
        check("[upkeep]\nlifecycle_keep = \"1h\"", &["`upkeep.lifecycle_keep`: must be at least 1d"]);
        check(&format!("{stream}keep = \"1h\""), &["`stream[0].keep`: must be at least 1d"]);
        check(&format!("{stream}keep = \"\""), &[]);
    }

    #[test]
    fn each_table_is_kept_as_its_stream_says() {
        let text = r#"
            [upkeep]
            every = ""
            compact = false
            safe_age = "60d"
            quarantine_keep = "90d"
            [[stream]]
            name = "fast"
            topic = "fast/#"
            keep = "365d"
            [[stream]]
            name = "slow"
            topic = "slow/#"
            partition = "month"
            keep = "400d"
            [[stream]]
            name = "whole"
            topic = "whole/#"
        "#;
        let Settings { upkeep, streams, .. } = parse(text).unwrap();
        let kept = |days: u32, date: DatePartition| Some(Keep { time: days * DAY, date });
        let check = |table: &str, keep: Option<Keep>| {
            let rules = Rules { target_size: None, safe_age: 60 * DAY, log_keep: 60 * DAY, keep };
            assert_eq!(upkeep.ingestion(table, &streams), rules, "{table}");
        };
        check("fast", kept(365, DatePartition::Day));
        check("slow", kept(400, DatePartition::Month));
        check("whole", None);
        check(QUARANTINE, kept(90, DatePartition::Day));
        check(LIFECYCLE, kept(365, DatePartition::Month));
        // Of a stream that is configured no more nothing is known.
        check("former", None);
        assert_eq!((upkeep.every, upkeep.reporting().keep), (None, None));
        let for_ever = parse("[upkeep]\nlifecycle_keep = \"\"").unwrap();
        assert_eq!(for_ever.upkeep.ingestion(LIFECYCLE, &[]).keep, None);
    }
}
