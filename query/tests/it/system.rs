//! The system tables: what they say of a small river, as text, whole.

mod devices;
mod river;
mod silence;

use crate::fixture::csv;
use millstream_lake::faults::FaultyStore;
use millstream_lake::ledger::Closed;
use millstream_lake::{Bucket, Plan, Table, TableDefinition, WriteOptions};
use millstream_log::Log;
use millstream_model::name::{LogTopic, StreamName};
use millstream_model::stream::Stream;
use millstream_model::time::Micros;
use millstream_query::report::ledger;
use millstream_query::{
    Ask, Format, Lakehouse, Layout, Limits, QueryErrorKind, ReportNote, ReportState, Session, TailUse,
};
use object_store::ObjectStoreExt;
use river::{MIDNIGHT, River};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SECOND: i64 = 1_000_000;

/// So many seconds after midnight.
fn at(seconds: i64) -> Micros {
    Micros(MIDNIGHT.0 + seconds * SECOND)
}

async fn check(session: &Session, sql: &str, expected: &str) {
    let found = csv(session, sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    assert_eq!(found.trim_end(), expected.trim_end(), "{sql}");
}

/// Two flushes: three readings and something that is none, then a reading of the day before with a value that does not fit.
async fn two_flushes() -> River {
    let mut river = River::new().await;
    river.publish("d1", at(10), r#"{"ts": "2026-11-19T00:00:01Z", "temp": 20.5, "seq": 1}"#).await;
    river.publish("d1", at(20), r#"{"ts": "2026-11-19T00:00:11Z", "temp": 21, "seq": 2}"#).await;
    river.publish("d2", at(30), "{oops").await;
    river.publish("d2", at(40), r#"{"ts": "2026-11-19T00:00:31Z", "temp": 3, "seq": 7}"#).await;
    river.carry(Closed::Age).await;
    river.publish("d2", at(50), r#"{"ts": "2026-11-18T23:59:59Z", "temp": "cold", "seq": 8}"#).await;
    river.carry(Closed::Idle).await;
    river
}

#[tokio::test]
async fn streams_say_what_their_tables_hold() {
    let session = two_flushes().await.session().await;
    check(
        &session,
        "select stream, configured, topics, version, rows, files, bytes > 0 as some, columns, first_date, last_date, keep_days, retired_before, problem \
         from system.streams",
        "stream,configured,topics,version,rows,files,some,columns,first_date,last_date,keep_days,retired_before,problem\n\
         plant,true,plant/{hall}/{device_id},2,4,2,true,12,2026-11-18,2026-11-19,,,",
    )
    .await;
    let sql = "select last_commit > now() - interval '1 hour' as recent from system.streams";
    check(&session, sql, "recent\ntrue").await;
}

#[tokio::test]
async fn a_stream_without_a_table_and_a_table_without_a_stream_are_listed() {
    let river = River::of(|stream| stream.keep = Some(Duration::from_secs(36 * 3600)), 0).await;
    let columns = TableDefinition {
        schema: crate::fixture::telemetry_schema(),
        partition_by: vec!["date".to_owned()],
        properties: BTreeMap::new(),
    };
    Table::open_or_create(&river.lakehouse.ingestion, "former", &columns).await.unwrap();
    check(
        &river.session().await,
        "select stream, configured, version, rows, files, first_date, keep_days from system.streams order by 1",
        "stream,configured,version,rows,files,first_date,keep_days\n\
         former,false,0,0,0,,\n\
         plant,true,,,,,1.5",
    )
    .await;
}

#[tokio::test]
async fn a_table_that_cannot_be_read_does_not_hide_the_others() {
    let river = two_flushes().await;
    let garbled = "broken/_delta_log/00000000000000000000.json";
    river.lakehouse.ingestion.store().put(&garbled.into(), "{oops".into()).await.unwrap();
    let session = river.session().await;
    check(
        &session,
        "select stream, rows, problem like '%broken%' as broken from system.streams order by 1",
        "stream,rows,broken\nbroken,,true\nplant,4,",
    )
    .await;
    // Who does not ask for it does not meet it.
    check(&session, "select count(*) as n from system.files where table_name = 'plant'", "n\n2").await;
    let error =
        session.query("select count(*) from system.files").await.unwrap().collect().await.unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::Storage, "{error:?}");
}

#[tokio::test]
async fn columns_say_where_they_come_from() {
    let river =
        River::of(|stream| stream.transform = Some("select *, temp * 2 as twice from input".to_owned()), 0);
    let mut river = river.await;
    river.publish("d1", at(10), r#"{"temp": 20.5, "seq": 1}"#).await;
    river.carry(Closed::Age).await;
    let session = river.session().await;
    check(
        &session,
        "select column_name, position, type, origin, required, description from system.columns where table_name = 'plant'",
        "column_name,position,type,origin,required,description\n\
         ts,1,timestamp,reserved,false,event time; arrival time where the reading has none\n\
         device_id,2,string,reserved,false,the device\n\
         _partition,3,integer,reserved,false,partition of the log\n\
         _offset,4,long,reserved,false,place in that partition\n\
         _index,5,integer,reserved,false,\"which reading of its message, from 0\"\n\
         _received_at,6,timestamp,reserved,false,when the message reached Millstream\n\
         _topic,7,string,reserved,false,MQTT topic\n\
         date,8,date,reserved,false,\"day of `ts`, UTC, or the first day of its month: by it the files are split\"\n\
         temp,9,double,declared,false,\n\
         hall,10,string,topic,false,\n\
         seq,11,double,learned,false,\n\
         twice,12,double,computed,false,\n\
         _extra,13,string,reserved,false,\"JSON object of what fits no column, as it came\"",
    )
    .await;
    check(
        &session,
        "select column_name, type, description from system.columns where table_schema = 'system' and table_name = 'quarantine'",
        "column_name,type,description\n\
         stream,string,the stream; null where no stream claims the topic\n\
         reason,string,the code of the reason\n\
         messages,long,how many messages\n\
         first_received,timestamp,when the first of them came\n\
         last_received,timestamp,when the last of them came",
    )
    .await;
}

/// Also what the documentation says of a column's type is so, and no name of a column needs quotes.
#[tokio::test]
async fn every_column_of_the_system_can_be_asked_for_by_its_plain_name() {
    let session = two_flushes().await.session().await;
    let sql = "select c.table_name, c.column_name, i.data_type from system.columns c \
        join information_schema.columns i on i.table_schema = 'system' and i.table_name = c.table_name and i.column_name = c.column_name \
        where c.table_schema = 'system' order by 1, c.position";
    let listed = csv(&session, sql).await.unwrap();
    let counted =
        csv(&session, "select count(*) as n from system.columns where table_schema = 'system'").await;
    assert_eq!(counted.unwrap(), format!("n\n{}\n", listed.lines().count() - 1));
    for line in listed.lines().skip(1) {
        let mut cells = line.splitn(3, ',');
        let (table, column, kind) = (cells.next().unwrap(), cells.next().unwrap(), cells.next().unwrap());
        let sql = format!(
            "select {column}, arrow_typeof({column}) as kind from system.{table} where {column} = {column} limit 1"
        );
        let found = csv(&session, &sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let is_so = found.lines().count() == 1 || found.trim_end().ends_with(kind);
        assert!(is_so, "{table}.{column}: {kind} is not {found}");
    }
}

#[tokio::test]
async fn files_say_what_is_in_them() {
    let session = two_flushes().await.session().await;
    check(
        &session,
        "select table_schema, table_name, date, rows, bytes > 0 as some, min_ts, max_ts, closed, log_topic, ranges, flushes from system.files order by 2, 3",
        "table_schema,table_name,date,rows,some,min_ts,max_ts,closed,log_topic,ranges,flushes\n\
         ingestion,plant,2026-11-18,1,true,2026-11-18T23:59:59Z,2026-11-18T23:59:59Z,idle,millstream.plant,0:4-4,1\n\
         ingestion,plant,2026-11-19,3,true,2026-11-19T00:00:01Z,2026-11-19T00:00:31Z,age,millstream.plant,0:0-3,1\n\
         ingestion,quarantine,2026-11-19,1,true,,,,,,",
    )
    .await;
    let sql = "select count(*) as n from system.files where path like 'date=2026-11-19/part-%.parquet' and written_at > now() - interval '1 hour'";
    check(&session, sql, "n\n2").await;
}

#[tokio::test]
async fn commits_say_what_they_decided_newest_first() {
    let session = two_flushes().await.session().await;
    check(
        &session,
        "select table_schema, table_name, version, operation, data_change, schema_change, files_added, files_removed, rows_added, bytes_added > 0 as some, \
         bytes_removed, log_topic, closed, messages, readings, quarantined, dropped, mismatches from system.commits",
        "table_schema,table_name,version,operation,data_change,schema_change,files_added,files_removed,rows_added,some,bytes_removed,log_topic,closed,messages,readings,quarantined,dropped,mismatches\n\
         ingestion,plant,2,WRITE,true,false,1,0,1,true,0,millstream.plant,idle,1,1,0,0,1\n\
         ingestion,plant,1,WRITE,true,false,1,0,3,true,0,millstream.plant,age,4,3,1,0,0\n\
         ingestion,plant,0,CREATE TABLE,false,true,0,0,0,false,0,,,,,,,\n\
         ingestion,quarantine,1,WRITE,true,false,1,0,1,true,0,millstream.plant,age,4,3,1,0,0\n\
         ingestion,quarantine,0,CREATE TABLE,false,true,0,0,0,false,0,,,,,,,",
    )
    .await;
}

#[tokio::test]
async fn of_very_many_commits_the_newest_are_listed() {
    let river = two_flushes().await;
    let table = Table::open(&river.lakehouse.ingestion, "plant").await.unwrap().unwrap();
    for number in 0..1000 {
        let plan = Plan { set: BTreeMap::from([("test".to_owned(), number)]), ..Plan::default() };
        table.commit(plan).await.unwrap();
    }
    let sql = "select count(*) as n, min(version) as oldest, max(version) as newest from system.commits where table_name = 'plant'";
    check(&river.session().await, sql, "n,oldest,newest\n1000,3,1002").await;
}

#[tokio::test]
async fn commits_that_were_cleaned_away_end_the_list() {
    let river = two_flushes().await;
    let first = "plant/_delta_log/00000000000000000001.json";
    let session = river.session().await;
    // The table is open already: so its log may be cleaned behind the version that is known.
    csv(&session, "select count(*) from system.files").await.unwrap();
    river.lakehouse.ingestion.store().delete(&first.into()).await.unwrap();
    check(&session, "select version from system.commits where table_name = 'plant'", "version\n2").await;
}

/// What a question leaves out by table is not looked at: a busy lake has commits that nobody wants to read.
#[tokio::test]
async fn what_is_not_asked_for_is_not_read() {
    let river = two_flushes().await;
    let bucket = &river.lakehouse.ingestion;
    let store = Arc::new(FaultyStore::new(bucket.store()));
    let counted = Bucket::with_store("ingestion", bucket.url().clone(), Arc::clone(&store) as _);
    let lakehouse = Lakehouse { ingestion: counted, ..river.lakehouse.clone() };
    let session = Session::open(&lakehouse, Limits::default()).await.unwrap();
    let asked = async |sql: &str| {
        csv(&session, sql).await.unwrap();
        let before = store.requests();
        csv(&session, sql).await.unwrap();
        store.requests() - before
    };
    let one =
        asked("select version from system.commits where table_schema = 'ingestion' and table_name = 'plant'")
            .await;
    let both = asked("select version from system.commits").await;
    let none = asked("select version from system.commits where table_name = 'x' || 'y'").await;
    // Two more commits, and two requests to see whether the table has changed.
    assert_eq!(both - one, 2 + 2);
    // There are five commits.
    let newest = asked("select version from system.commits limit 1").await;
    assert_eq!(both - newest, 4);
    let behind = asked("select version from system.commits limit 2 offset 2").await;
    assert_eq!(both - behind, 1);
    assert!(none < one && one < both, "{none} {one} {both}");
    let without = asked("select stream, committed_offset from system.partitions").await;
    let with = asked("select stream, last_commit from system.partitions").await;
    assert!(without < with, "{without} {with}");
}

#[tokio::test]
async fn partitions_say_how_far_they_are_committed_and_what_waits() {
    let mut river = River::new().await;
    let sql = "select stream, log_topic, partition, first_offset, committed_offset, next_offset, lag_messages, freshness_seconds, last_commit is not null as told, newest_ts, problem \
        from system.partitions where stream = 'plant'";
    let columns = "stream,log_topic,partition,first_offset,committed_offset,next_offset,lag_messages,freshness_seconds,told,newest_ts,problem";
    river.publish("d1", at(10), r#"{"temp": 20.5}"#).await;
    let session = river.session().await;
    let waiting = "select committed_offset, next_offset, lag_messages, freshness_seconds > 1000 as late from system.partitions where stream = 'plant'";
    check(&session, waiting, "committed_offset,next_offset,lag_messages,late\n,1,1,true").await;
    river.carry(Closed::Age).await;
    let row = "plant,millstream.plant,0,0,0,1,0,0.0,true,2026-11-19T00:00:00Z,";
    check(&session, sql, &format!("{columns}\n{row}")).await;
    river.publish("d1", at(10), r#"{"temp": 20.5}"#).await;
    river.publish("d1", at(20), r#"{"temp": 20.5}"#).await;
    check(&session, waiting, "committed_offset,next_offset,lag_messages,late\n0,3,2,true").await;
    // Another process, without the log, knows what is committed.
    let lakehouse = Lakehouse { log: None, ..river.lakehouse.clone() };
    let elsewhere = Session::open(&lakehouse, Limits::default()).await.unwrap();
    let row = "plant,millstream.plant,0,,0,,,,true,2026-11-19T00:00:00Z,";
    check(&elsewhere, sql, &format!("{columns}\n{row}")).await;
    // A log that cannot be read is a problem of the columns alone that are read there.
    std::fs::remove_dir_all(river.log_dir()).unwrap();
    let sql = "select committed_offset, lag_messages, freshness_seconds, problem like '%No such file%' as told from system.partitions where stream = 'plant'";
    check(&session, sql, "committed_offset,lag_messages,freshness_seconds,told\n0,2,,true").await;
}

#[tokio::test]
async fn what_no_stream_claims_waits_in_a_partition_of_its_own() {
    let river = River::new().await;
    let record = millstream_model::record::Record::default();
    river.log.append(&LogTopic::unrouted(), vec![record]).await.unwrap().await.unwrap();
    check(
        &river.session().await,
        "select stream, log_topic, committed_offset, lag_messages, freshness_seconds from system.partitions where stream = 'unrouted'",
        "stream,log_topic,committed_offset,lag_messages,freshness_seconds\nunrouted,millstream.unrouted,,1,",
    )
    .await;
}

#[tokio::test]
async fn quarantine_and_mismatches_are_counted() {
    let session = two_flushes().await.session().await;
    check(
        &session,
        "select * from system.quarantine",
        "stream,reason,messages,first_received,last_received\n\
         plant,not_json,1,2026-11-19T00:00:30Z,2026-11-19T00:00:30Z",
    )
    .await;
    check(
        &session,
        "select * from system.mismatches",
        "stream,column_name,mismatches,first_date,last_date\nplant,temp,1,2026-11-18,2026-11-18",
    )
    .await;
}

/// The report's table as its processor leaves it: with the version of its source that it shows.
async fn shown(river: &River, report: &str, source: &str, version: i64) {
    let schema = Arc::new(arrow::datatypes::Schema::new(vec![
        arrow::datatypes::Field::new("date", arrow::datatypes::DataType::Date32, true),
        arrow::datatypes::Field::new("readings", arrow::datatypes::DataType::Int64, true),
    ]));
    let definition = TableDefinition {
        schema: Arc::clone(&schema) as _,
        partition_by: vec!["date".to_owned()],
        properties: BTreeMap::new(),
    };
    let table = Table::open_or_create(&river.lakehouse.reporting, report, &definition).await.unwrap();
    let rows = arrow::array::RecordBatch::try_new(
        schema,
        vec![
            Arc::new(arrow::array::Date32Array::from(vec![20_776])),
            Arc::new(arrow::array::Int64Array::from(vec![3])),
        ],
    );
    let plan = Plan {
        set: BTreeMap::from([
            (ledger::shown_app(report, source, true), version),
            (ledger::kept_app(report, source), 20_775),
            (ledger::mark_app(report), MIDNIGHT.0),
        ]),
        adds: table.write(rows.unwrap(), &WriteOptions::default()).await.unwrap(),
        data_change: true,
        ..Plan::default()
    };
    table.commit(plan).await.unwrap();
}

#[tokio::test]
async fn reports_say_how_far_they_are_and_why_they_fail() {
    let river = two_flushes().await;
    let session = river.session().await;
    let sql = "select report, configured, state, sources, shown_versions, latest_versions, behind_versions, goes_by, mark, recompute, whole_reason, retired_before, \
        version, rows, files, last_error, since, failures from system.reports where report = 'daily'";
    let columns = "report,configured,state,sources,shown_versions,latest_versions,behind_versions,goes_by,mark,recompute,whole_reason,retired_before,\
        version,rows,files,last_error,since,failures";
    let expect = async |row: &str| check(&session, sql, &format!("{columns}\n{row}")).await;
    expect("daily,true,waiting,plant,none,2,3,always,,by date,,,,,,,,").await;
    shown(&river, "daily", "plant", 1).await;
    expect("daily,true,behind,plant,1,2,1,always,,by date,,2026-11-18,1,1,1,,,").await;
    shown(&river, "daily", "plant", 2).await;
    expect("daily,true,current,plant,2,2,0,always,,by date,,2026-11-18,2,2,2,,,").await;
    let note = ReportNote {
        report: "daily".to_owned(),
        state: ReportState::Failing,
        error: Some("no column is named reading".to_owned()),
        since_ms: MIDNIGHT.0 / 1000,
        failures: 3,
        whole: None,
        written_ms: MIDNIGHT.0 / 1000,
    };
    note.write(&river.lakehouse.reporting).await.unwrap();
    let why = "no column is named reading,2026-11-19T00:00:00Z,3";
    expect(&format!("daily,true,failing,plant,2,2,0,always,,by date,,2026-11-18,2,2,2,{why}")).await;
    // Whoever has no configuration sees what lies in the bucket.
    let buckets = Lakehouse::new(river.lakehouse.ingestion.clone(), river.lakehouse.reporting.clone());
    let elsewhere = Session::open(&buckets, Limits::default()).await.unwrap();
    let sql = "select report, configured, state, version, rows, last_error from system.reports where report = 'daily'";
    let row = "daily,false,abandoned,2,2,no column is named reading";
    check(&elsewhere, sql, &format!("report,configured,state,version,rows,last_error\n{row}")).await;
}

#[tokio::test]
async fn reports_say_which_readings_they_go_by_and_why_they_are_computed_whole() {
    let river = two_flushes().await;
    let session = river.session().await;
    let sql = "select report, state, sources, goes_by, mark, recompute, whole_reason, problem from system.reports where report <> 'daily'";
    let columns = "report,state,sources,goes_by,mark,recompute,whole_reason,problem";
    let hottest = "hottest,waiting,plant,complete,,whole,it is not partitioned,";
    check(&session, sql, &format!("{columns}\n{hottest}\nmonthly,waiting,daily,always,,,,")).await;
    shown(&river, "daily", "plant", 2).await;
    shown(&river, "hottest", "plant", 1).await;
    // It is right nevertheless: what adds nothing to complete hours it says later.
    let sql_of_hottest = "select state, behind_versions from system.reports where report = 'hottest'";
    check(&session, sql_of_hottest, "state,behind_versions\ncurrent,1").await;
    shown(&river, "hottest", "plant", 2).await;
    let hottest = "hottest,current,plant,complete,2026-11-19T00:00:00Z,whole,it is not partitioned,";
    let monthly = "monthly,waiting,daily,always,,whole,it is not partitioned,";
    check(&session, sql, &format!("{columns}\n{hottest}\n{monthly}")).await;
    shown(&river, "monthly", "daily", 0).await;
    let sql = "select state, shown_versions, latest_versions, behind_versions from system.reports where report = 'monthly'";
    check(&session, sql, "state,shown_versions,latest_versions,behind_versions\nbehind,0,1,1").await;
}

#[tokio::test]
async fn a_lake_of_nothing_has_system_tables_without_rows() {
    let nothing = Lakehouse::new(Bucket::memory("ingestion"), Bucket::memory("reporting"));
    let session = Session::open(&nothing, Limits::default()).await.unwrap();
    for table in
        ["commits", "devices", "files", "mismatches", "partitions", "quarantine", "reports", "streams"]
    {
        check(&session, &format!("select count(*) as n from system.{table}"), "n\n0").await;
    }
}

#[tokio::test]
async fn nothing_that_was_looked_at_is_remembered_for_the_next_question() {
    let mut river = two_flushes().await;
    let session = river.session().await;
    let sql = "select version, rows from system.streams";
    check(&session, sql, "version,rows\n2,4").await;
    river.publish("d1", at(60), r#"{"temp": 1}"#).await;
    river.carry(Closed::Age).await;
    check(&session, sql, "version,rows\n3,5").await;
}

#[tokio::test]
async fn system_tables_are_found_by_their_schema_and_guessed_at() {
    let session = two_flushes().await.session().await;
    let error = csv(&session, "select * from system.device").await.unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::UnknownTable);
    assert_eq!(
        error.hints(),
        [
            "did you mean system.devices?",
            "tables: system.columns, system.commits, system.devices, system.files, system.mismatches, system.partitions, system.quarantine, system.reports, system.streams"
        ]
    );
    let error = csv(&session, "select * from devices").await.unwrap_err();
    assert_eq!(error.hints(), ["tables: plant, quarantine", "did you mean system.devices?"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn system_tables_keep_the_limits_of_every_other() {
    let river = two_flushes().await;
    let limits = Limits { time: Duration::from_millis(300), ..Limits::default() };
    let session = Session::open(&river.lakehouse, limits).await.unwrap();
    let endless = "select count(*) from system.columns a, system.columns b, system.columns c, system.columns d, system.columns e \
        where a.description || b.description || c.description || d.description || e.description = ''";
    let error = session.query(endless).await.unwrap().collect().await.unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::Resources, "{error:?}");
    for changes in
        ["delete from system.files", "insert into system.streams values (1)", "drop table system.commits"]
    {
        assert_eq!(csv(&session, changes).await.unwrap_err().kind(), QueryErrorKind::Forbidden, "{changes}");
    }
    for limited in [
        "select * from system.files tablesample (10 percent)",
        "select * from system.files for system_time as of '2020-01-01'",
    ] {
        assert!(csv(&session, limited).await.is_err(), "{limited}");
    }
    check(&session, "select count(*) as n from system.files", "n\n3").await;
}

/// The whole point of the tail: a device that has just spoken is not silent, and nothing of it is in a file yet.
#[tokio::test]
async fn what_waits_in_the_log_counts_for_devices_and_quarantine() {
    let mut river = River::new().await;
    let session = river.session().await;
    let devices = "select device_id, last_seen, readings, missing from system.devices order by 1";
    let quarantine = "select stream, reason, messages from system.quarantine";
    let columns =
        "select column_name, type, origin from system.columns where table_name = 'plant' and position > 8";
    river.publish("d1", at(10), r#"{"temp": 20.5, "seq": 1}"#).await;
    river.publish("d1", at(20), "{oops").await;
    let all_wait = "device_id,last_seen,readings,missing\nd1,2026-11-19T00:00:10Z,1,0";
    check(&session, devices, all_wait).await;
    check(&session, quarantine, "stream,reason,messages\nplant,not_json,1").await;
    let known = "column_name,type,origin\ntemp,double,declared\nhall,string,topic\nseq,double,learned\n";
    check(&session, columns, &format!("{known}_extra,string,reserved")).await;
    river.carry(Closed::Age).await;
    check(&session, devices, all_wait).await;
    river.publish("d1", at(30), r#"{"temp": 20.5, "seq": 4, "hum": 1}"#).await;
    river.publish("d2", at(40), r#"{"temp": 20.5, "seq": 1}"#).await;
    river.publish("d2", at(50), "{oops").await;
    check(
        &session,
        devices,
        "device_id,last_seen,readings,missing\nd1,2026-11-19T00:00:30Z,2,2\nd2,2026-11-19T00:00:40Z,1,0",
    )
    .await;
    check(&session, quarantine, "stream,reason,messages\nplant,not_json,2").await;
    check(&session, columns, &format!("{known}hum,double,learned\n_extra,string,reserved")).await;
    // Who asks for files only is told of files only.
    let ask = Ask { tail: TailUse::Off };
    let answer = session.ask(devices, ask).await.unwrap();
    let found = crate::fixture::text_of(answer, Format::Csv, Layout::default()).await;
    assert_eq!(found.trim_end(), all_wait);
}
