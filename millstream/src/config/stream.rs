//! A stream's definition, checked.

use super::problem::Problem;
use super::raw::{Format, OneOrMany, RawColumn, RawMisfit, RawPartition, RawStart, RawStream, RawTimeUnit};
use super::upkeep::check_keep;
use super::value::Span;
use millstream_model::column::{Column, ColumnType, check_column_name, fold_column_name, reserved};
use millstream_model::name::{LIFECYCLE, StreamName};
use millstream_model::stream::{CloseRule, DatePartition, Misfit, Start, Stream, TimeField, TimeUnit};
use millstream_model::time::Micros;
use millstream_model::topic::TopicPattern;
use millstream_readings::Transform;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// The event time's field, unless the stream names another.
const TIME: &str = "ts";
/// 2000-01-01T00:00:00Z: what claims to be older comes from a clock that was never set.
const EARLIEST: Micros = Micros(946_684_800_000_000);
/// Event times further ahead than this come from a clock that is wrong.
const AHEAD_MAX: Duration = Duration::from_secs(600);
/// Own columns a table may have.
const COLUMN_LIMIT: usize = 256;
/// Most that `column_limit` may allow: readers open a file by all of its columns.
const COLUMN_LIMIT_MAX: usize = 2_000;
/// A file a minute.
const CLOSE_AFTER: Duration = Duration::from_secs(60);
/// What a reader likes to scan at once, and what a flush may hold in memory.
const CLOSE_SIZE: u64 = 128 << 20;
/// As long as queries read files only, a quiet stream's readings should not wait for the minute.
const CLOSE_IDLE: Duration = Duration::from_secs(2);

/// The stream that there is when none is configured: every topic, so that a first message becomes a row.
pub(crate) fn telemetry() -> Stream {
    let columns = Vec::new();
    stream("telemetry", &["devices/{device_id}/telemetry", "#"], columns, DatePartition::Day)
}

/// The stream of connects and disconnects.
pub(crate) fn lifecycle() -> Stream {
    let column = |name: &str| Column { name: name.to_owned(), kind: ColumnType::String, required: false };
    let columns = ["event", "client_id", "protocol", "address", "reason"].map(column).to_vec();
    stream(LIFECYCLE, &[], columns, DatePartition::Month)
}

fn stream(name: &str, topics: &[&str], columns: Vec<Column>, date: DatePartition) -> Stream {
    let parsed =
        (name.parse::<StreamName>(), topics.iter().map(|topic| topic.parse::<TopicPattern>()).collect());
    let (Ok(name), Ok(topics)) = parsed else {
        unreachable!("{name}'s name and topics are constants that a test parses")
    };
    Stream {
        name,
        topics,
        time: Some(TimeField {
            field: TIME.to_owned(),
            unit: TimeUnit::Auto,
            earliest: EARLIEST,
            ahead_max: AHEAD_MAX,
        }),
        device_field: None,
        columns,
        transform: None,
        on_mismatch: Misfit::Extra,
        on_bad_time: Misfit::Extra,
        column_limit: COLUMN_LIMIT,
        date,
        files: CloseRule { after: CLOSE_AFTER, size: CLOSE_SIZE, idle: CLOSE_IDLE },
        start: Start::Refuse,
        sequence: None,
        keep: None,
    }
}

/// Checks all `[[stream]]`.
pub(super) fn check_streams(raw: Option<Vec<RawStream>>, problems: &mut Vec<Problem>) -> Vec<Arc<Stream>> {
    let Some(raw) = raw else { return vec![Arc::new(telemetry())] };
    if raw.is_empty() {
        problems.push(
            Problem::new("stream", "a list of no streams")
                .hint("leave it out for the stream `telemetry` of every topic, or write a [[stream]]"),
        );
    }
    let mut names = HashSet::new();
    let mut streams: Vec<Arc<Stream>> = Vec::new();
    for (index, raw) in raw.into_iter().enumerate() {
        let key = format!("stream[{index}]");
        match check_stream(&key, raw) {
            Ok(stream) if !names.insert(stream.name.clone()) => {
                problems.push(Problem::new(
                    format!("{key}.name"),
                    format!("there are two streams named `{}`", stream.name),
                ));
            }
            Ok(stream) => {
                problems.extend(check_reached(&key, &stream, &streams));
                streams.push(Arc::new(stream));
            }
            Err(mut found) => problems.append(&mut found),
        }
    }
    streams
}

/// The first stream that claims a topic gets it, and `#` claims all but those that begin with `$`.
fn check_reached(key: &str, stream: &Stream, before: &[Arc<Stream>]) -> Option<Problem> {
    let greedy = before.iter().find(|other| other.topics.iter().any(|topic| topic.to_string() == "#"))?;
    if stream.topics.iter().all(|topic| topic.to_string().starts_with('$')) {
        return None;
    }
    let name = &greedy.name;
    let what = format!("the stream `{name}` before it claims every topic");
    Some(Problem::new(format!("{key}.topic"), what).hint(format!("put `{name}` last")))
}

/// The streams' names as they are written: a report of a stream that has a problem of its own has none by that.
pub(super) fn stream_names(raw: Option<&[RawStream]>) -> Vec<String> {
    match raw {
        Some(raw) => raw.iter().map(|stream| stream.name.clone()).collect(),
        None => vec![telemetry().name.to_string()],
    }
}

/// Checks one `[[stream]]`.
///
/// # Errors
/// Everything that is wrong with it.
fn check_stream(key: &str, raw: RawStream) -> Result<Stream, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut note = |problem: Problem| problems.push(problem);
    // The only one there is; further ones become a setting of the stream.
    let Format::Json = raw.format.unwrap_or(Format::Json);
    let name = match raw.name.parse::<StreamName>() {
        Ok(name) if name.is_reserved() => {
            note(Problem::new(format!("{key}.name"), format!("`{name}` is a table of Millstream's own")));
            None
        }
        Ok(name) => Some(name),
        Err(error) => {
            note(Problem::new(format!("{key}.name"), error));
            None
        }
    };
    let topics = check_topics(key, raw.topic, &mut note);
    let time = check_time(key, raw.time, raw.time_unit, raw.time_earliest, raw.time_ahead_max, &mut note);
    let columns = check_columns(key, raw.columns, &mut note);
    let column_limit = raw.column_limit.unwrap_or(COLUMN_LIMIT);
    if !(columns.len()..=COLUMN_LIMIT_MAX).contains(&column_limit) {
        note(Problem::new(
            format!("{key}.column_limit"),
            format!("must be between the {} declared columns and {COLUMN_LIMIT_MAX}", columns.len()),
        ));
    }
    let files = CloseRule {
        after: raw.files.close_after.map_or(CLOSE_AFTER, |span| span.0),
        size: raw.files.close_size.map_or(CLOSE_SIZE, |size| size.0),
        idle: raw.files.close_idle.map_or(CLOSE_IDLE, |span| span.0),
    };
    if files.after.is_zero() || files.idle.is_zero() || !((1 << 20)..=(2 << 30)).contains(&files.size) {
        note(Problem::new(
            format!("{key}.files"),
            "close_after and close_idle must be above zero, close_size from 1MiB to 2GiB",
        ));
    }
    check_not_empty(key, raw.device.as_deref(), raw.transform.as_deref(), &mut note);
    // What a transform gives may be of another type than what it is given.
    let declared = raw.transform.as_ref().map_or(&columns[..], |_| &[]);
    check_sequence(key, raw.sequence.as_deref(), declared, &mut note);
    let keep = check_keep(&format!("{key}.keep"), raw.keep, &mut problems);
    let Some(name) = name.filter(|_| problems.is_empty()) else { return Err(problems) };
    let misfit = |raw: Option<RawMisfit>| match raw {
        Some(RawMisfit::Quarantine) => Misfit::Quarantine,
        Some(RawMisfit::Extra) | None => Misfit::Extra,
    };
    let stream = Stream {
        name,
        topics,
        time,
        device_field: raw.device,
        columns,
        transform: raw.transform,
        on_mismatch: misfit(raw.on_mismatch),
        on_bad_time: misfit(raw.on_bad_time),
        column_limit,
        date: if raw.partition == Some(RawPartition::Month) {
            DatePartition::Month
        } else {
            DatePartition::Day
        },
        start: match raw.start {
            Some(RawStart::Earliest) => Start::Earliest,
            Some(RawStart::Beginning) | None => Start::Refuse,
        },
        sequence: raw.sequence,
        keep,
        files,
    };
    Transform::check(&stream).map_err(|error| vec![Problem::new(format!("{key}.transform"), error)])?;
    Ok(stream)
}

fn check_not_empty(key: &str, device: Option<&str>, transform: Option<&str>, note: &mut impl FnMut(Problem)) {
    if device == Some("") {
        note(
            Problem::new(format!("{key}.device"), "the name of a field cannot be empty")
                .hint("leave `device` out: the device is the topic's {device_id}, or else the client id"),
        );
    }
    if transform.is_some_and(|sql| sql.trim().is_empty()) {
        note(
            Problem::new(format!("{key}.transform"), "a transform cannot be empty")
                .hint("leave `transform` out, or write one like \"select * from input\""),
        );
    }
}

/// A sequence is counted in a column of the table: one that can be there, and not one of those that are always there.
fn check_sequence(key: &str, name: Option<&str>, columns: &[Column], note: &mut impl FnMut(Problem)) {
    let Some(name) = name else { return };
    let at = format!("{key}.sequence");
    if let Err(error) = check_column_name(name) {
        note(
            Problem::new(at, error)
                .hint("leave `sequence` out, or name the column in which each device counts its readings"),
        );
    } else if reserved::is_reserved(name) {
        note(Problem::new(at, format!("`{name}` is a column of the table's own, in which no device counts")));
    } else if let Some(column) = columns.iter().find(|column| column.name == name)
        && !matches!(column.kind, ColumnType::Double | ColumnType::Long)
    {
        let what =
            format!("the column `{name}` is declared {}, and a sequence is counted in numbers", column.kind);
        note(Problem::new(at, what).hint("declare it long, or leave it to be learned"));
    }
}

fn check_topics(key: &str, raw: OneOrMany, note: &mut impl FnMut(Problem)) -> Vec<TopicPattern> {
    let texts = match raw {
        OneOrMany::One(text) => vec![text],
        OneOrMany::Many(texts) => texts,
    };
    if texts.is_empty() {
        note(Problem::new(format!("{key}.topic"), "a stream claims at least one topic"));
    }
    let mut topics = Vec::new();
    for text in texts {
        match text.parse::<TopicPattern>() {
            Ok(topic) => {
                let taken = topic.names().find(|name| reserved::is_reserved(name) && *name != reserved::DEVICE_ID);
                if let Some(name) = taken {
                    let what = format!("a level cannot be named `{name}`: the table has a column of its own of that name");
                    note(Problem::new(format!("{key}.topic"), what));
                }
                topics.push(topic);
            }
            Err(error) => note(
                Problem::new(format!("{key}.topic"), format!("{text:?}: {error}")).hint("write it like \"devices/{device_id}/telemetry\", `+` for any level, `#` at the end for the rest"),
            ),
        }
    }
    topics
}

fn check_time(
    key: &str,
    field: Option<String>,
    unit: Option<RawTimeUnit>,
    earliest: Option<String>,
    ahead_max: Option<Span>,
    note: &mut impl FnMut(Problem),
) -> Option<TimeField> {
    let field = field.unwrap_or_else(|| TIME.to_owned());
    let unit = match unit {
        Some(RawTimeUnit::S) => TimeUnit::Seconds,
        Some(RawTimeUnit::Ms) => TimeUnit::Millis,
        Some(RawTimeUnit::Us) => TimeUnit::Micros,
        Some(RawTimeUnit::Auto) | None => TimeUnit::Auto,
    };
    let earliest = earliest.map_or(Some(EARLIEST), |text| Micros::from_rfc3339(&text));
    if earliest.is_none() {
        note(
            Problem::new(format!("{key}.time_earliest"), "not an instant")
                .hint("write it like \"2000-01-01T00:00:00Z\""),
        );
    }
    // An empty name: the stream has no event time but arrival.
    let ahead_max = ahead_max.map_or(AHEAD_MAX, |span| span.0);
    earliest.filter(|_| !field.is_empty()).map(|earliest| TimeField { field, unit, earliest, ahead_max })
}

fn check_columns(
    key: &str,
    raw: indexmap::IndexMap<String, RawColumn>,
    note: &mut impl FnMut(Problem),
) -> Vec<Column> {
    let mut columns: Vec<Column> = Vec::new();
    for (name, column) in raw {
        let RawColumn { kind, required } = column;
        let at = format!("{key}.columns.{name}");
        if reserved::is_reserved(&name) {
            note(
                Problem::new(at, "the table has a column of its own of that name")
                    .hint("to take the event time or the device id from a field, use `time` or `device`"),
            );
        } else if let Err(error) = check_column_name(&name) {
            note(Problem::new(at, error));
        } else if columns.iter().any(|other| fold_column_name(&other.name) == fold_column_name(&name)) {
            note(Problem::new(at, "two columns differ by case only"));
        } else {
            columns.push(Column { name, kind, required });
        }
    }
    columns
}
