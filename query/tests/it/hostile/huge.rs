//! What is far larger than there is room for is stopped before it has it, and what is at the edge of it comes to an end.

use super::{End, Ground, LONG, chain, owned};

/// With time for all of it: what ends them is their size, or how much work they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_far_more_than_there_is_is_stopped_before_it_has_it() {
    let ground = Ground::prepare(LONG).await.with_room_to_spill().await;
    let wide = "(select value, repeat('x', 1000) || value as t from generate_series(1, 40000))";
    let commas = ["repeat(',', 100000)"; 12].join(", ");
    let same = vec!["s"; 900].join(", ");
    let mut statements = owned(&[
        "select sum(value) over (rows between unbounded preceding and unbounded following) from generate_series(1, 4000000)",
        "select max(s) from (select avg(value) over (partition by value % 2) as s from generate_series(1, 4000000))",
        "select to_char(to_timestamp(value), repeat('%c', 60000)) from generate_series(1, 8192)",
        "select date_format(to_timestamp(0), repeat('%c', 60000))",
        "select array_to_string(range(1, 16000), repeat('x', 100000))",
        "select array_to_string(array_repeat(cast(null as varchar), 1000), ',', repeat(device_id, 40000)) from telemetry",
        "select array_replace_all(array_repeat('a', 10000), 'a', repeat('b', 100000))",
        "select array_repeat(null, 1000000000)",
        "select array_repeat(cast(null as varchar), 1000000000)",
        "select array_resize(['a'], 1000000000, null)",
        "select max(levenshtein(concat(repeat('a', 30000), value), repeat('b', 100000))) from generate_series(1, 8192)",
        "select max(length(ltrim(concat(repeat('a', 30000), value), repeat('b', 100000) || 'a'))) from generate_series(1, 8192)",
    ]);
    statements.extend([
        format!("select max(length(s)) from (select max(t) over () as s, t from {wide})"),
        format!("select max(s) from (select max(t) over (order by value rows between 10000000 preceding and current row) as s from {wide})"),
        format!("select max(s) from (select lead(t, 10000000) over (order by value) as s from {wide})"),
        format!("select max(s) from (select lag(t, 9223372036854775807) over (order by value) as s from {wide})"),
        format!("select string_to_array(concat(device_id, {commas}), ',') from telemetry"),
        format!("select [{same}] as l from (select repeat(device_id, 30000) as s from telemetry)"),
        format!("select struct({same}) from (select repeat(device_id, 30000) as s from telemetry)"),
        chain("select [1] as s", "s || s"),
        chain("select [_offset] as s from telemetry", "s || s"),
        chain("select [1] as s", "array_concat(s, s)"),
    ]);
    ground.check_all(&statements, End::Stopped).await;
    // As much goes through these, and they hold little of it.
    let passing = [
        "lag(t) ignore nulls over (order by value)",
        "lead(t, 2) over (order by value)",
        "row_number() over (order by value)",
        "max(t) over (order by value rows between 10 preceding and current row)",
        "sum(length(t)) over (order by value)",
    ];
    let passing = passing.map(|function| format!("select max(s) from (select {function} as s from {wide})"));
    ground.check_all(&passing, End::Answered).await;
    let many_fields = [
        chain("select 1 as s", "struct(s, s)"),
        chain("select _offset as s from telemetry", "{a: s, b: s}"),
        chain("select _offset as s from telemetry", "named_struct('a', s, 'b', s)"),
        chain("select _offset as s from telemetry", "map {s: s}"),
        chain("select [_offset] as s from telemetry", "arrays_zip(s, s)"),
    ];
    ground.check_all(&many_fields, End::Refused).await;
}

/// Questions at the edge of what functions and types can do, and within it.
const ODD_AND_ANSWERED: &[&str] = &[
    "select approx_percentile_cont(temp, 0.5, 10000), approx_percentile_cont_with_weight(temp, 1, 0.5, 100 * 100) from telemetry",
    "select approx_percentile_cont(0.5, 200) within group (order by temp) from telemetry",
    "select approx_percentile_cont(temp, 0.5, 300) over (partition by device_id), approx_median(temp) over () from telemetry",
    "select regexp_like(repeat('a', 30000), '(a*)*b')",
    "select regexp_like(repeat('a', 30000), '(a|aa)+$b')",
    "select regexp_count(repeat('a', 30000), '')",
    "select device_id like repeat('%a', 10000) from telemetry",
    "select levenshtein(repeat('a', 1000), repeat('b', 1000))",
    "select * from telemetry limit 9223372036854775807 offset 9223372036854775807",
    "select left('abc', -9223372036854775808), right('abc', -9223372036854775808)",
    "select 9223372036854775807 + 1",
    "select date_bin(interval '1 nanosecond', timestamp '2262-01-01', timestamp '1678-01-01')",
    "select date_part('epoch', to_timestamp_micros(9223372036854775807))",
    "select nth_value(temp, 9223372036854775807) over (order by ts) from telemetry",
    "select lag(temp, 9223372036854775807) over (order by ts) from telemetry",
    "select lag(temp, -9223372036854775808) over (order by ts) from telemetry",
    "select ntile(9223372036854775807) over (order by ts) from telemetry",
    "select sum(temp) over (order by ts range between interval '999999999 days' preceding and current row) from telemetry",
    "select cast(repeat('9', 100000) as double)",
    "select to_char(timestamp '2026-01-01', repeat('%Y', 10000))",
    "with recursive n as (select 1 as i union all select i from n where false) select * from n",
    "with telemetry as (select 1 as n) select * from telemetry",
    "select uuid(), random(), now(), version()",
    "select * exclude (ts) from telemetry",
    "select map(range(1, 500), range(1, 500))",
    "select array_sort(array_repeat(1, 10000)), array_distinct(range(1, 10000))",
    "select split_part(repeat(',', 100000), ',', 9223372036854775807)",
    "select split_part('a', '', -9223372036854775808)",
    "select overlay('abc' placing 'x' from 9223372036854775807 for 9223372036854775807)",
    "select translate(repeat('a', 100000), 'a', 'b')",
    "select strpos(repeat('a', 100000), repeat('a', 50000) || 'b')",
    "select bit_length(''), find_in_set('a', repeat('b,', 10000))",
    "select 1 << 9223372036854775807, 1 >> -1",
    "select named_struct('a', named_struct('b', [1])), struct(1)['c0']",
    "select round(1.5, 2147483647), trunc(1.5, -2147483648), log(0, 0), ln(-1)",
    "select sum(9223372036854775807) from generate_series(1, 10)",
    "select avg(1e308 * value) from generate_series(1, 100)",
];

/// Beyond it by a value that cannot be, or is too large.
const ODD_AND_STOPPED: &[&str] = &[
    "select regexp_match('a', '((a{1000}){1000}){1000}')",
    "select regexp_replace(repeat('a', 30000), 'a', repeat('b', 1000), 'g')",
    "select substr('a', -9223372036854775808, 9223372036854775807)",
    "select substr('a', 1, -1)",
    "select chr(-1)",
    "select chr(1114112)",
    "select power(10, 1000), factorial(1000)",
    "select abs(-9223372036854775808)",
    "select -9223372036854775808 / -1",
    "select gcd(-9223372036854775808, -1), lcm(9223372036854775807, 9223372036854775806)",
    "select to_timestamp(9223372036854775807)",
    "select to_timestamp_seconds(9223372036854775807)::varchar",
    "select date '9999-12-31' + interval '999999999 years'",
    "select timestamp '2026-01-01' + interval '9999999999999 days'",
    "select date_trunc('century', timestamp '0001-01-01')",
    "select array_slice([1, 2], -9223372036854775808, 9223372036854775807)",
    "select [1, 2][9223372036854775807]",
    "select ntile(0) over (order by ts) from telemetry",
    "select arrow_cast('1', 'Decimal256(99, 3)')",
    "select arrow_cast(1, 'Nonsense((((')",
    "select cast(1e308 as bigint), cast('NaN' as int)",
    "select decode(repeat('z', 10000), 'hex')",
    "select to_timestamp('x', '%Q%!%')",
    "select (select temp from telemetry)",
    "select $1",
    "select * from telemetry where device_id = $1",
    "select make_date(2147483647, 1, 1)",
    "select 1.5::decimal(38, 38), 99999999999999999999999999999999999999::decimal(38, 0) * 10",
    "select union_extract(1, 'x')",
    "select \"telemetry\".\"temp\".\"x\" from telemetry",
];

/// Beyond it before anything is computed.
const ODD_AND_REFUSED: &[&str] = &[
    "select approx_percentile_cont(value::double, 0.5, 10000000000000) from generate_series(1, 1)",
    "select approx_percentile_cont(value::double, 0.5, 10000 * 1000000000) from generate_series(1, 1)",
    "select approx_percentile_cont(0.5, 10000000000000) within group (order by temp) from telemetry",
    "select approx_percentile_cont(temp, 0.5, n) from (select temp, 10000000000000 as n from telemetry) t",
    "select approx_percentile_cont(temp, 0.5, 18446744073709551615) over () from telemetry",
    "select approx_percentile_cont_with_weight(temp, 1, 0.5, 10000000000000) from telemetry",
    "select (select max(p) from (select approx_percentile_cont(temp, 0.5, 10000000000000) as p from telemetry) t)",
    "select cast(null as int[2000000][2000000])",
    "select try_cast([1] as int[2000000000])",
    "select null::array<int[2000000000]>",
    "select * from telemetry limit -1",
    "select sum(temp) over (order by ts rows between 18446744073709551615 preceding and 18446744073709551615 following) from telemetry",
    "select approx_percentile_cont(temp, 2) from telemetry",
    "select ARROW_CAST('x', ' fixedsizebinary(2000000000)')",
    "select arrow_cast('x', 'FixedSizeBinary(2000000000)')",
    "select arrow_cast([1], 'FixedSizeList(2000000000, Int64)')",
    "select * from telemetry for update",
    "select * from telemetry a where exists (select 1 from telemetry b where a.ts = b.ts and exists (select 1 from telemetry c where c.ts = a.ts))",
    "select * from telemetry, lateral (select telemetry.temp) t",
    "values (1), (2, 3)",
    "select make_interval(2147483647, 2147483647)",
    "select interval '1' year * 9223372036854775807",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_large_and_odd_comes_to_its_end() {
    let ground = Ground::prepare(LONG).await;
    let columns = |count: usize| (0..count).map(|i| format!("{i} as a{i}")).collect::<Vec<_>>().join(",");
    let cube = |count: usize| (0..count).map(|i| format!("temp + {i}")).collect::<Vec<_>>().join(",");
    let values = (0..20_000).map(|i| i.to_string()).collect::<Vec<_>>().join(",");
    let not_in = |texts: usize| {
        let texts = "x','".repeat(texts);
        format!(
            "select count(*) from telemetry where _offset not in ({values}) and device_id not in ('{texts}')"
        )
    };
    let mut answered = vec![
        format!("select temp{} from telemetry", " + temp".repeat(148)),
        format!("select temp from telemetry where temp = 0{}", " or temp + temp = 1".repeat(199)),
        format!("select count(*) from telemetry where _offset in ({values})"),
        not_in(4_000),
        format!("select {}", columns(1_000)),
        format!("select 1 from telemetry group by cube ({})", cube(8)),
        vec!["select 1"; 100].join(" union all "),
        vec!["select temp from telemetry"; 60].join(" union "),
        format!("select '{}'", "x".repeat(200_000)),
        format!("select 1 /* {} */", "x".repeat(200_000)),
        format!("select length('{}' || value) from generate_series(1, 8192)", "x".repeat(10_000)),
        format!("select concat({})", vec!["'x'"; 5_000].join(",")),
        format!("select coalesce({})", vec!["null"; 1_000].join(",")),
    ];
    answered.extend(owned(ODD_AND_ANSWERED));
    ground.check_all(&answered, End::Answered).await;
    ground.check_all(&owned(ODD_AND_STOPPED), End::Stopped).await;
    let mut refused = vec![not_in(5_000), format!("select 1 from telemetry group by cube ({})", cube(30))];
    refused.extend(owned(ODD_AND_REFUSED));
    ground.check_all(&refused, End::Refused).await;
}
