use super::{Transform, TransformError};
use crate::schema::{InputSchema, table_schema};
use millstream_model::column::{Column, ColumnType};
use millstream_model::stream::{CloseRule, DatePartition, Misfit, Start, Stream};
use std::time::Duration;

fn stream(sql: &str) -> Stream {
    let column = |name: &str, kind| Column { name: name.to_owned(), kind, required: false };
    Stream {
        name: "telemetry".parse().unwrap(),
        topics: vec!["{site}/{device_id}".parse().unwrap()],
        time: None,
        device_field: None,
        columns: vec![
            column("temp", ColumnType::Double),
            column("n", ColumnType::Long),
            column("s", ColumnType::String),
            column("b", ColumnType::Boolean),
            column("at", ColumnType::Timestamp),
            column("PM2.5", ColumnType::Double),
        ],
        transform: Some(sql.to_owned()),
        on_mismatch: Misfit::Extra,
        on_bad_time: Misfit::Extra,
        column_limit: 256,
        date: DatePartition::Day,
        files: CloseRule { after: Duration::from_secs(60), size: 1 << 27, idle: Duration::from_secs(2) },
        start: Start::Refuse,
        sequence: None,
        keep: None,
    }
}

/// The table's own columns and their types.
fn own(sql: &str) -> String {
    let stream = stream(sql);
    let schema = table_schema(&stream, None, &InputSchema::declared(&stream))
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    let fields = &schema.fields()[8..schema.fields().len() - 1];
    fields
        .iter()
        .map(|field| format!("{} {}", field.name(), field.data_type()))
        .collect::<Vec<_>>()
        .join(", ")
}

#[test]
fn outputs_have_the_types_of_a_table() {
    for (sql, expected) in [
        ("select temp from input", "temp Float64"),
        ("select temp, ts, _offset, _extra from input", "temp Float64"),
        ("select site, \"PM2.5\" from input", "site Utf8, PM2.5 Float64"),
        (
            "select cast(temp as real) as a, cast(n as int) as b, cast(n as smallint) as c from input",
            "a Float64, b Int32, c Int32",
        ),
        (
            "select upper(s) as a, s || 'x' as b, arrow_cast(s, 'Utf8View') as c, 'k' as d from input",
            "a Utf8, b Utf8, c Utf8, d Utf8",
        ),
        (
            "select date_trunc('hour', ts) as hour, cast(ts as date) as day, to_timestamp(n) as t from input",
            "hour Timestamp(µs, \"UTC\"), day Date32, t Timestamp(µs, \"UTC\")",
        ),
        (
            "select case when temp > 30 then 'hot' else 'fine' end as state, temp is null as none from input",
            "state Utf8, none Boolean",
        ),
        (
            "select coalesce(temp, 0) as a, nvl2(n, 1, 0) as b, nullif(s, '') as c from input",
            "a Float64, b Int64, c Utf8",
        ),
        ("with a as (select temp + 1 as u from input) select u * 2 as v from a x where x.u > 3", "v Float64"),
        (
            "select ts as seen, extract(hour from at) as h from input i where i.s like 'a%' and n in (1, 2)",
            "seen Timestamp(µs, \"UTC\"), h Int32",
        ),
    ] {
        assert_eq!(own(sql), expected, "{sql}");
        Transform::check(&stream(sql)).unwrap();
    }
    assert!(Transform::check(&Stream { transform: None, ..stream("") }).is_ok());
}

#[test]
fn what_is_no_projection_or_filter_is_refused_and_named() {
    for (sql, expected) in [
        ("selec x", "the transform is not SQL"),
        ("select temp from input; select 1", "is one `select"),
        ("", "is one `select"),
        ("drop table input", "is one `select"),
        ("create table x as select * from input", "is one `select"),
        ("explain select * from input", "is one `select"),
        ("copy input to 'x'", "is one `select"),
        ("select 1 as x", "not from nowhere"),
        ("values (1)", "not from nowhere"),
        ("select temp from other", "reads from `input` only, not from other"),
        ("select temp from a.input", "not from a.input"),
        ("select avg(temp) as a from input", "an aggregate"),
        ("select site, count(*) as c from input group by site", "an aggregate"),
        ("select lag(temp) over (order by ts) as l from input", "a window function"),
        ("select distinct site from input", "`distinct`"),
        ("select temp from input order by ts", "`order by`"),
        ("select temp from input limit 5", "`limit`"),
        ("select a.temp from input a join input b on a.n = b.n", "a join"),
        ("select temp from input union all select n from input", "`union`"),
        ("select temp from input where n in (select n from input)", "a subquery in an expression"),
        ("select (select max(n) from input) as m from input", "a subquery in an expression"),
        ("select unnest(make_array(1, 2)) as u from input", "`unnest`"),
        ("select now() as t from input", "now() is not allowed"),
        ("select temp from input where ts > current_timestamp - interval '1 day'", "now() is not allowed"),
        ("select current_date as d from input", "current_date() is not allowed"),
        ("select random() as r from input", "random() is not allowed"),
        ("select uuid() as u from input", "uuid() is not allowed"),
        ("select $1 as p from input", "a parameter or a variable"),
        ("select temp from input where _extra is null", "hand on `_extra`"),
        ("select _extra as rest from input", "hand on `_extra`"),
        ("select u from (select temp as u, _extra from input) where length(_extra) > 1", "hand on `_extra`"),
        ("select nope + 1 as n from input", "the column nope"),
        ("select PM from input", "the column pm"),
        ("select input.nope as n from input", "the column input.nope"),
        ("select temp * 2 from input", "write `… as name`"),
        ("select temp as \"a b\" from input", "a b needs a name"),
        ("select temp as ts from input", "ts has a reserved name"),
        ("select ts as \"DATE\" from input", "DATE has a reserved name"),
        ("select temp as _mine from input", "_mine has a reserved name"),
        ("select *, temp as temp from input", "unique expression names"),
        ("select temp, n as \"temp\" from input", "two outputs called temp"),
        ("select *, n as \"Temp\" from input", "two outputs called Temp"),
        ("select make_array(1, 2) as l from input", "l is a List"),
        ("select null as x from input", "x is a Null"),
        ("select interval '1 day' as i from input", "i is a Interval"),
        ("select nosuchfunction(temp) as x from input", "cannot be compiled"),
        ("select temp + b as x from input", "cannot be compiled"),
        ("select cast('x' as bigint) as x from input", "cannot be compiled"),
        ("select temp from input where temp", "cannot be compiled"),
    ] {
        let error = Transform::check(&stream(sql)).map_err(|error| error.to_string());
        assert!(error.as_ref().is_err_and(|error| error.contains(expected)), "{sql}: {error:?}");
    }
}

#[test]
fn names_that_are_computed_at_any_level_are_known() {
    let stream = stream("select *, u + 1 as V, temp as t2 from (select *, temp as u from input)");
    let transform =
        Transform::compile(stream.transform.as_deref().unwrap(), &InputSchema::declared(&stream)).unwrap();
    let mut names: Vec<_> = transform.computed().into_iter().collect();
    names.sort();
    assert_eq!(names, ["t2", "u", "v"]);
    assert!(matches!(
        Transform::compile("select 1", &InputSchema::declared(&stream)),
        Err(TransformError::OtherTable(_))
    ));
}
