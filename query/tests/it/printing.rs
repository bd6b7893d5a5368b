//! Answers as text.

use crate::fixture::{session, text_of};
use millstream_query::{Format, Layout, PrintError, QueryErrorKind, print};
use std::io::{self, Write};

const MIXED: &str = "select ts, device_id, temp, \"PM2.5\", note, _offset from telemetry where device_id = 'd1' and date = '2026-11-19' order by ts";

#[tokio::test]
async fn every_format_of_the_same_rows() {
    let session = session().await;
    for format in Format::ALL {
        let text = text_of(session.query(MIXED).await.unwrap(), format, Layout::default()).await;
        insta::assert_snapshot!(format.as_str(), text);
    }
}

#[tokio::test]
async fn an_instant_of_another_zone_is_shown_by_its_clock_wherever_it_lies() {
    let session = session().await;
    let sql = "select max(berlin) as one, array_agg(berlin order by ts) as list, \
        named_struct('kolkata', [null, max(kolkata)], 'utc', max(ts)) as mixed \
        from (select ts, ts at time zone 'Europe/Berlin' as berlin, ts at time zone 'Asia/Kolkata' as kolkata \
            from telemetry where device_id = 'd1' and ts < '2026-11-19T12:00:00Z')";
    let check = async |format: Format, expected: &str| {
        let text = text_of(session.query(sql).await.unwrap(), format, Layout::default()).await;
        assert_eq!(text, expected, "{format:?}");
    };
    let (one, list) = ("2026-11-19T07:00:00+01:00", "[2026-11-19T01:00:00+01:00, 2026-11-19T07:00:00+01:00]");
    let mixed = "{kolkata: [, 2026-11-19T11:30:00+05:30], utc: 2026-11-19T06:00:00Z}";
    check(Format::Csv, &format!("one,list,mixed\n{one},\"{list}\",\"{mixed}\"\n")).await;
    check(
        Format::Markdown,
        &format!("| one | list | mixed |\n| --- | --- | --- |\n| {one} | {list} | {mixed} |\n"),
    )
    .await;
    let object = r#"{"one":"2026-11-19T07:00:00+01:00","list":["2026-11-19T01:00:00+01:00","2026-11-19T07:00:00+01:00"],"mixed":{"kolkata":[null,"2026-11-19T11:30:00+05:30"],"utc":"2026-11-19T06:00:00Z"}}"#;
    check(Format::Ndjson, &format!("{object}\n")).await;
    check(Format::Json, &format!("[\n  {object}\n]\n")).await;
    let drawn = text_of(session.query(sql).await.unwrap(), Format::Box, Layout::default()).await;
    assert!(drawn.contains(&format!("│ {one} ┆ {list} ┆ {mixed} │")), "{drawn}");
}

#[tokio::test]
async fn no_rows_are_still_an_answer() {
    let session = session().await;
    let check = async |format: Format, expected: &str| {
        let answer = session.query("select device_id, temp from telemetry where temp > 1000").await.unwrap();
        assert_eq!(text_of(answer, format, Layout::default()).await, expected);
    };
    check(Format::Csv, "device_id,temp\n").await;
    check(Format::Json, "[]\n").await;
    check(Format::Ndjson, "").await;
    check(Format::Markdown, "| device_id | temp |\n| --- | ---: |\n").await;
    check(
        Format::Box,
        "┌───────────┬──────┐\n│ device_id ┆ temp │\n╞═══════════╪══════╡\n└───────────┴──────┘\n",
    )
    .await;
}

#[tokio::test]
async fn a_box_fits_the_terminal_and_says_what_it_leaves_out() {
    let session = session().await;
    let layout = Layout { width: Some(60), rows_max: 2 };
    let text = text_of(session.query(MIXED).await.unwrap(), Format::Box, layout).await;
    assert!(text.lines().all(|line| line.chars().count() <= 60 || line.contains("shown")), "{text}");
    insta::assert_snapshot!("box_in_60_columns", text);
    let narrow = Layout { width: Some(12), rows_max: 2 };
    insta::assert_snapshot!(
        "box_in_12_columns",
        text_of(session.query(MIXED).await.unwrap(), Format::Box, narrow).await
    );
}

#[tokio::test]
async fn a_single_null_is_a_line_of_its_own() {
    let session = session().await;
    let text = text_of(
        session.query("select cast(null as varchar) as a").await.unwrap(),
        Format::Csv,
        Layout::default(),
    )
    .await;
    assert_eq!(text, "a\n\"\"\n");
}

#[tokio::test]
async fn a_name_that_comes_twice_is_numbered_in_json() {
    let session = session().await;
    let sql = "select * from (values (1)) as a(x) join (values (1)) as b(x) on a.x = b.x";
    let text = text_of(session.query(sql).await.unwrap(), Format::Ndjson, Layout::default()).await;
    assert_eq!(text, "{\"x\":1,\"x_2\":1}\n");
}

#[tokio::test]
async fn json_of_many_batches_is_one_array() {
    let session = session().await;
    let answer = session.query("select value from generate_series(1, 20000) order by value").await.unwrap();
    let text = text_of(answer, Format::Json, Layout::default()).await;
    assert_eq!(text.lines().count(), 20_002);
    assert!(
        text.starts_with("[\n  {\"value\":1},\n  {\"value\":2},\n")
            && text.ends_with("},\n  {\"value\":20000}\n]\n")
    );
}

#[tokio::test]
async fn the_footer_counts_rows_that_a_box_leaves_out() {
    let session = session().await;
    let mut out = Vec::new();
    let footer = print(
        session.query("select * from telemetry").await.unwrap(),
        Format::Box,
        Layout { width: None, rows_max: 5 },
        &mut out,
    );
    let footer = footer.await.unwrap();
    assert_eq!((footer.rows, footer.scan.files_total, footer.scan.files_pruned), (24, 6, 0));
    assert!(
        String::from_utf8(out)
            .unwrap()
            .ends_with("5 of 24 rows are shown; limit the query, or take another format\n")
    );
}

/// A reader that goes away after some bytes.
struct Pipe(usize, io::ErrorKind);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or_else(|| io::Error::from(self.1))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_the_answer_quietly() {
    let session = session().await;
    for format in Format::ALL {
        let answer = session.query("select * from generate_series(1, 1000000)").await.unwrap();
        let outcome =
            print(answer, format, Layout::default(), &mut Pipe(100, io::ErrorKind::BrokenPipe)).await;
        assert!(outcome.is_ok(), "{format:?}: {outcome:?}");
    }
    let answer = session.query("select 1").await.unwrap();
    let outcome =
        print(answer, Format::Csv, Layout::default(), &mut Pipe(1, io::ErrorKind::StorageFull)).await;
    assert!(matches!(outcome, Err(PrintError::Output(error)) if error.kind() == io::ErrorKind::StorageFull));
}

#[tokio::test]
async fn a_query_that_fails_on_the_way_is_an_error_after_its_first_rows() {
    let session = session().await;
    let answer =
        session.query("select 10 / (9000 - value) as q from generate_series(1, 20000)").await.unwrap();
    let mut out = Vec::new();
    let error = print(answer, Format::Csv, Layout::default(), &mut out).await.unwrap_err();
    assert!(matches!(error, PrintError::Query(error) if error.kind() == QueryErrorKind::Value));
    assert!(out.starts_with(b"q\n0\n"));
}
