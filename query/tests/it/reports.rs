//! Reports: what they read, how they can be recomputed, and that a date at a time gives the same as all at once.

use crate::fixture::{FIRST_DAY, csv, lakehouse, session, text_of};
use arrow::datatypes::{DataType, TimeUnit};
use millstream_lake::{Snapshot, Table};
use millstream_query::{
    Format, Lakehouse, Layout, Limits, Portion, QueryErrorKind, Recompute, ReportPlan, ReportSource, Session,
    SourceKind, SourceName,
};
use std::sync::Arc;

async fn telemetry(lakehouse: &Lakehouse) -> (Table, Arc<Snapshot>) {
    let table = Table::open(&lakehouse.ingestion, "telemetry").await.unwrap().unwrap();
    let snapshot = table.snapshot().await.unwrap();
    (table, snapshot)
}

/// Reports of which a date can be recomputed by itself.
const BY_DATE: [&str; 17] = [
    "select date, device_id, count(*) as readings, avg(temp) as temp, max(ts) as latest from telemetry group by 1, 2",
    "select date, date_trunc('hour', ts) as hour, count(*) as n from telemetry group by date, hour",
    "select t.date, temp from telemetry t where temp > 1 order by ts",
    "select distinct date, device_id from telemetry",
    "with hot as (select * from telemetry where temp > 20) select date, count(*) as n from hot group by date having count(*) > 1",
    "select date, ts, rank() over (partition by date order by temp, ts) as place from telemetry",
    "select date, temp from telemetry union all select date, f from (select date, \"TEMP_F\" as f from telemetry)",
    "select day as date, n from (select date as day, count(*) as n from telemetry group by 1)",
    "select date, count(distinct device_id) filter (where temp > 5) as n from telemetry where date > '2026-11-19' group by date",
    "select date, temp from telemetry union all by name select temp, date from telemetry",
    "select date, device_id from telemetry union select date, device_id from telemetry where temp > 1",
    "select date, device_id, temp from telemetry qualify row_number() over (partition by date, device_id order by ts) = 1",
    "select date, sum(temp) over hour as s from telemetry window hour as (partition by date order by ts range between interval '1 hour' preceding and current row)",
    "select n as k, date from (select date, count(*) from telemetry group by date) as x(date, n)",
    "select date, date_trunc('day', ts at time zone 'Europe/Berlin') as day, count(*) as n from telemetry group by date, day",
    "select date, first_value(temp order by ts, device_id) as temp from telemetry group by all",
    "select date, n from (select date, count(*) as n from telemetry group by date) union all select date, 0 as n from telemetry",
];

/// Reports that mix dates, or surely may, and why.
const WHOLE: [(&str, &str); 27] = [
    (
        "select min(date) as date, device_id from telemetry group by 2",
        "`date` does not stand in its GROUP BY",
    ),
    (
        "select cast(ts as date) as date, count(*) as n from telemetry group by 1",
        "`date` does not stand in its GROUP BY",
    ),
    ("select max(date) as date from telemetry", "`date` does not stand in its GROUP BY"),
    (
        "select cast(ts as date) as date, temp from telemetry",
        "its column date is not the source's own `date`",
    ),
    (
        "select date + interval '1 day' as date, temp from telemetry",
        "its column date is not the source's own `date`",
    ),
    ("select date, temp from telemetry limit 10", "it has a LIMIT"),
    ("select date, temp from (select * from telemetry order by ts limit 10)", "it has a LIMIT"),
    (
        "select date, row_number() over (order by ts) as place from telemetry",
        "a window of it is not partitioned by `date`",
    ),
    (
        "select date, count(*) over (partition by device_id) as n from telemetry",
        "a window of it is not partitioned by `date`",
    ),
    ("select a.date, b.temp from telemetry a join telemetry b on a.date = b.date", "it joins"),
    (
        "select date, temp from telemetry where ts > now() - interval '7 days'",
        "now() gives something else every time",
    ),
    ("select date, random() as r from telemetry", "random() gives something else every time"),
    (
        "select date, temp from telemetry where temp > (select avg(temp) from telemetry)",
        "it has a subquery within an expression",
    ),
    (
        "select date, temp from telemetry where ts in (select max(ts) from telemetry)",
        "it has a subquery within an expression",
    ),
    (
        "select date, temp from telemetry t where exists (select 1 from telemetry o where o.temp > t.temp)",
        "it has a subquery within an expression",
    ),
    (
        "select date, device_id, count(*) as n from telemetry group by rollup(date, device_id)",
        "it groups by several sets",
    ),
    (
        "select date, temp from telemetry union all select date '2026-11-19', 1.0",
        "it has a step that may mix dates (EmptyRelation)",
    ),
    (
        "select date, count(*) filter (where ts > now()) as n from telemetry group by date",
        "now() gives something else every time",
    ),
    (
        "select date, sum(case when ts > now() then 1 end) over (partition by date) as n from telemetry",
        "now() gives something else every time",
    ),
    (
        "select date, temp from telemetry where date = today()",
        "current_date() gives something else every time",
    ),
    (
        "select date, temp from telemetry qualify row_number() over (partition by device_id order by ts) = 1",
        "a window of it is not partitioned by `date`",
    ),
    (
        "select date, sum(temp) over all_of_it as s from telemetry window all_of_it as (order by ts)",
        "a window of it is not partitioned by `date`",
    ),
    (
        "select min(date) over (partition by device_id, date) as date, temp from telemetry",
        "its column date is not the source's own `date`",
    ),
    (
        "select distinct on (device_id) date, device_id, temp from telemetry order by device_id, ts",
        "it has a step that may mix dates (DistinctOn)",
    ),
    (
        "select date, device_id from telemetry except select date, device_id from telemetry where temp > 3",
        "it joins",
    ),
    (
        "select t.date, x.m from telemetry t, lateral (select max(temp) as m from telemetry o where o.date = t.date) x",
        "it joins",
    ),
    (
        "with recursive r as (select date, 1 as k from telemetry union all select date, k + 1 from r where k < 2) select * from r",
        "it has a step that may mix dates (RecursiveQuery)",
    ),
];

async fn analysed(sql: &str, snapshot: &Snapshot) -> ReportPlan {
    let plan = ReportPlan::analyse(sql, &[snapshot], Some("date")).await;
    plan.unwrap_or_else(|error| panic!("{}", error.render(sql, false)))
}

#[tokio::test]
async fn whether_a_report_is_recomputed_by_date_is_read_off_its_plan() {
    let (_, snapshot) = telemetry(&lakehouse().await).await;
    let check = async |sql: &str, expected: Recompute| {
        assert_eq!(*analysed(sql, &snapshot).await.recompute(), expected, "{sql}");
    };
    for sql in BY_DATE {
        check(sql, Recompute::ByDate { column: "date".to_owned() }).await;
    }
    for (sql, reason) in WHOLE {
        check(sql, Recompute::Whole { reason: reason.to_owned() }).await;
    }
    let unpartitioned =
        ReportPlan::analyse("select date, temp from telemetry", &[&snapshot], None).await.unwrap();
    assert_eq!(*unpartitioned.recompute(), Recompute::Whole { reason: "it is not partitioned".to_owned() });
}

#[tokio::test]
async fn a_report_reads_streams_and_reports() {
    let check = |sql: &str, expected: Result<&[&str], QueryErrorKind>| {
        let found = ReportPlan::sources(sql, |name| name == "daily").map_err(|error| error.kind());
        let said = |source: SourceName| match source.kind {
            SourceKind::Stream => source.name,
            SourceKind::Report => format!("report {source}"),
        };
        let found = found.map(|sources| sources.into_iter().map(said).collect::<Vec<_>>());
        assert_eq!(found, expected.map(|names| names.iter().map(ToString::to_string).collect()), "{sql}");
    };
    check("select * from telemetry", Ok(&["telemetry"]));
    check(
        "with a as (select * from ingestion.telemetry) select * from a join quarantine on true",
        Ok(&["quarantine", "telemetry"]),
    );
    check(
        "select * from reporting.daily join reporting.hourly on true",
        Ok(&["report daily", "report hourly"]),
    );
    check("select * from telemetry, daily", Ok(&["report daily", "telemetry"]));
    check("select * from ingestion.daily", Ok(&["daily"]));
    check("select * from daily join ingestion.daily d on true", Err(QueryErrorKind::Forbidden));
    check("select * from information_schema.tables", Err(QueryErrorKind::Forbidden));
    check("select 1 as one", Err(QueryErrorKind::Meaning));
    check("delete from telemetry", Err(QueryErrorKind::Forbidden));
    check("selec", Err(QueryErrorKind::Syntax));
}

#[tokio::test]
async fn columns_have_types_that_delta_has() {
    let (_, snapshot) = telemetry(&lakehouse().await).await;
    let sql = "select date, count(*) as n, arrow_cast(1, 'UInt64') as u, arrow_cast('x', 'Utf8View') as v, cast(1.5 as decimal(5, 2)) as d,
        arrow_cast('x', 'Dictionary(Int32, Utf8)') as k, to_timestamp_seconds(0) as t, null as z, arrow_cast(1, 'UInt8') as b from telemetry group by date";
    let plan = ReportPlan::analyse(sql, &[&snapshot], Some("date")).await.unwrap();
    let kinds: Vec<_> = plan.schema().fields().iter().map(|field| field.data_type().clone()).collect();
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let (text, double, long) = (DataType::Utf8, DataType::Float64, DataType::Int64);
    assert_eq!(
        kinds,
        [
            DataType::Date32,
            long.clone(),
            long,
            text.clone(),
            double,
            text.clone(),
            utc,
            text,
            DataType::Int16
        ]
    );
    assert!(plan.schema().fields().iter().all(|field| field.is_nullable()));
}

#[tokio::test]
async fn columns_that_a_table_cannot_have_are_refused() {
    let (_, snapshot) = telemetry(&lakehouse().await).await;
    let check = async |sql: &str, partition_by: Option<&str>, expected: &str| {
        let error = ReportPlan::analyse(sql, &[&snapshot], partition_by).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{sql}: {error}");
    };
    check("select count(*) from telemetry", None, "cannot be the name of a report's column").await;
    check("select temp, \"TEMP_F\" as \"TEMP\" from telemetry", None, "differ only by case").await;
    check("select interval '1 day' as i from telemetry", None, "of a type that a report's table cannot have")
        .await;
    check("select temp from telemetry", Some("date"), "has no column date").await;
    check("select temp from telemetry", Some("temp"), "cannot be partitioned by temp").await;
    check("select device_id, temp from telemetry", Some("device_id"), "cannot be partitioned by device_id")
        .await;
    check("select _offset, temp from telemetry", Some("_offset"), "cannot be partitioned by _offset").await;
    check(
        "select date, temp from telemetry where temp > all (select temp from telemetry where device_id = 'd2')",
        Some("date"),
        "not supported: a comparison with ANY, SOME or ALL",
    )
    .await;
    check("select * from weather", None, "no table is named weather").await;
}

#[tokio::test]
async fn dates_together_are_the_whole() {
    let lakehouse = lakehouse().await;
    let session = Session::open(&lakehouse, Limits::default()).await.unwrap();
    let (table, snapshot) = telemetry(&lakehouse).await;
    let sources =
        [ReportSource { bucket: lakehouse.ingestion.clone(), table, snapshot: Arc::clone(&snapshot) }];
    for sql in BY_DATE {
        let plan = analysed(sql, &snapshot).await;
        let rows = async |dates: Option<&[i32]>| {
            let portion = Portion { dates: dates.map(<[i32]>::to_vec), before: None };
            let answer = session.compute(&plan, &sources, &portion).await.unwrap();
            assert_eq!(answer.schema(), plan.schema());
            let text = text_of(answer, Format::Csv, Layout::default()).await;
            text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
        };
        let mut whole = rows(None).await;
        let mut parts = rows(Some(&[FIRST_DAY])).await;
        assert!(parts.iter().all(|row| row.contains("2026-11-19")), "{sql}");
        parts.extend(rows(Some(&[FIRST_DAY + 1, FIRST_DAY + 2])).await);
        parts.sort();
        whole.sort();
        assert_eq!(parts, whole, "{sql}");
        assert_eq!(rows(Some(&[])).await, Vec::<String>::new(), "{sql}");
        assert_eq!(rows(Some(&[1])).await, Vec::<String>::new(), "{sql}");
    }
}

#[tokio::test]
async fn a_report_reads_the_version_it_is_given() {
    let lakehouse = lakehouse().await;
    let session = Session::open(&lakehouse, Limits::default()).await.unwrap();
    let (table, snapshot) = telemetry(&lakehouse).await;
    let sql = "select count(*) as n from telemetry";
    let plan = ReportPlan::analyse(sql, &[&snapshot], None).await.unwrap();
    crate::fixture::append(&table, crate::fixture::readings(FIRST_DAY, "d9", 0.0)).await;
    let sources = [ReportSource { bucket: lakehouse.ingestion.clone(), table, snapshot }];
    let answer = session.compute(&plan, &sources, &Portion::default()).await.unwrap();
    assert_eq!(text_of(answer, Format::Csv, Layout::default()).await, "n\n24\n");
    assert_eq!(csv(&session, sql).await.unwrap(), "n\n28\n");
}

#[tokio::test]
async fn a_source_that_is_not_given_is_an_error() {
    let lakehouse = lakehouse().await;
    let (_, snapshot) = telemetry(&lakehouse).await;
    let plan = analysed(BY_DATE[0], &snapshot).await;
    assert!(session().await.compute(&plan, &[], &Portion::default()).await.is_err());
}
