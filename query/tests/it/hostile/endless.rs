//! What has no end is stopped by the time.

use super::{End, Ground, LONG, SHORT, chain, owned};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_no_end_is_stopped() {
    let ground = Ground::prepare(SHORT).await;
    let statements = owned(&[
        "select count(*) from generate_series(1, 100000000) a cross join generate_series(1, 100000000) b where a.value + b.value < 0",
        "select count(*) from telemetry a, telemetry b, telemetry c, telemetry d, telemetry e, telemetry f, telemetry g, telemetry h, telemetry i, telemetry j, telemetry k where a.temp + k.temp < 0",
        "with recursive n as (select 1 as i union all select i + 1 from n) select count(*) from n",
        "with recursive n as (select 1 as i union all select n.i + b.value from n cross join generate_series(1, 10) b) select count(*) from n",
        "with recursive n as (select 'x' as s union all select s || s from n) select max(length(s)) from n",
        "select value from generate_series(1, 100000000) order by random()",
        "select value, count(*) from generate_series(1, 100000000) group by value order by 2",
        "select count(distinct value) from generate_series(1, 100000000)",
        "select string_agg(repeat('x', 1000), '') from generate_series(1, 10000000)",
        "select array_agg(value) from generate_series(1, 100000000)",
        "select sum(value) over (order by value rows between unbounded preceding and unbounded following) from generate_series(1, 100000000)",
        "select a.value from generate_series(1, 100000000) a join generate_series(1, 100000000) b on a.value < b.value where a.value < 0",
        "select count(*) from generate_series(1, 100000000) where sha512(sha512(sha512(value::varchar::bytea)::varchar::bytea)::varchar::bytea) is null",
        "select count(*) from (select unnest(range(1, 16000)) from generate_series(1, 100000000)) s where false or random() < 0",
        "explain analyze select count(*) from generate_series(1, 100000000) a cross join generate_series(1, 100000000) b where a.value + b.value < 0",
        "select repeat('x', 2000000000)",
        "select repeat('x', 9223372036854775807)",
        "select repeat(device_id, 1000000000) from telemetry",
        "select count(*) from (select repeat('x', 100000) || value as s from generate_series(1, 1000000)) t where s like '%y%' or length(s) > 0 group by s",
        "select lpad('x', 2000000000, 'y')",
        "select rpad('x', 2000000000)",
        "select replace(repeat('a', 100000), 'a', repeat('b', 100000))",
        "select range(1, 10000000000)",
        "select generate_series(1, 10000000000, 1)",
        "select generate_series(timestamp '2000-01-01', timestamp '2030-01-01', interval '1 millisecond')",
        "select array_repeat('x', 1000000000)",
        "select array_repeat(array_repeat(1, 10000), 10000)",
        "select array_resize([1], 1000000000, 1)",
        "select unnest(range(1, 100000000000))",
        "select generate_series(date '0001-01-01', date '9999-12-31' - cast(_offset % 2 as int), interval '1 day') from telemetry",
        "select generate_series(date '0001-01-01', date '9999-12-31', interval '1 day')",
        "select range(date '9999-12-31', date '0001-01-01' + cast(_offset % 2 as int), interval '-1 day') from telemetry",
        "select generate_series(timestamp '2026-01-01', timestamp '2026-06-01', interval '1 month -30 days') from telemetry",
        "select generate_series(date '2026-01-01', date '2026-06-01', interval '1 day -1 hour') from telemetry",
        "select array_resize([device_id], 16000, repeat(device_id, 10000)) from telemetry",
        "select concat_ws(repeat(device_id, 10000), 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p', 'q', 'r', 's', 't', 'u', 'v', 'w', 'x', 'y', 'z') from generate_series(1, 8192), telemetry",
        "select regexp_replace(repeat(device_id, 10000), '', repeat(device_id, 10000), 'g') from telemetry",
        "select lpad(device_id, 1000000000, 'y') from telemetry",
        "select count(*) from (select range(1, 4000 + value % 2) as a from generate_series(1, 4000)) where array_has_all(a, range(1, 4000))",
    ]);
    ground.check_all(&statements, End::Stopped).await;
    let one = "select max(device_id) as s from telemetry";
    let doubled = [
        chain(one, "s || s"),
        chain(one, "concat(s, s)"),
        chain(one, "concat_ws(',', s, s)"),
        chain(one, "replace(s, 'd', 'd1d1')"),
        chain(one, "encode(s::bytea, 'hex')"),
        chain(one, "overlay(s placing s from 1 for 0)"),
        chain("select array_agg(temp) as s from telemetry", "array_concat(s, s)"),
        chain("select 'x' as s", "s || s"),
    ];
    ground.check_all(&doubled, End::Stopped).await;
    let too_many = owned(&[
        "select value from generate_series(1, 9000000000000000000)",
        "select count(*) from range(0, 9000000000000000000, 2)",
        "select count(*) from generate_series(timestamp '1700-01-01', timestamp '2200-01-01', interval '1 nanosecond')",
    ]);
    Ground::prepare(LONG).await.check_all(&too_many, End::Refused).await;
}

/// What waits counts as often as it is read, and no limit is wider for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_no_end_in_the_tail_is_stopped() {
    let ground = Ground::prepare(SHORT).await.with_tail().await;
    let many = (0..32).map(|n| format!("machines m{n}")).collect::<Vec<_>>().join(", ");
    let statements = owned(&[
        &format!("select count(*) from {many} where m0._offset + m31._offset < 0"),
        "select max(md5((m.temp + a.value)::varchar)) from machines m cross join generate_series(1, 1000000000) a",
        "with recursive n as (select temp from machines union all select m.temp + n.temp from n cross join machines m) select count(*) from n",
        "select max(md5((a.partition + b.value)::varchar)) from system.partitions a cross join generate_series(1, 1000000000) b",
    ]);
    ground.check_all(&statements, End::Stopped).await;
}
