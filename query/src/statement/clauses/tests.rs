use crate::error::QueryErrorKind;
use crate::statement::Question;

/// A statement, what is said of it, and what of it is marked.
const REFUSED: &[(&str, &str, &str)] = &[
    // Around a query.
    ("select * from t for update", "FOR UPDATE is not supported", "for update"),
    ("select 'for share' from t for share of t nowait", "FOR SHARE is not supported", "for share"),
    ("select * from t for xml auto", "FOR XML is not supported", "for xml"),
    ("select * from t for json path", "FOR JSON is not supported", "for json"),
    ("select settings from t settings max_threads = 1", "SETTINGS is not supported", "max_threads"),
    ("select * from t format CSV", "FORMAT is not supported", "format"),
    ("select * from t format null", "FORMAT is not supported", "format"),
    ("select 1 in (select a from t for update)", "FOR UPDATE is not supported", "for update"),
    (
        "with recursive n as (select 1 as i union all select i + 1 from n limit 3) select i from n",
        "LIMIT around a recursive UNION is not supported",
        "n",
    ),
    (
        "with recursive n as (select 1 as i union all select i + 1 from n where i < 3 order by i) select i from n",
        "ORDER BY around a recursive UNION is not supported",
        "n",
    ),
    (
        "with recursive n as (with m as (select 1 as i) select i from m union all select i + 1 from n) select i from n",
        "WITH around a recursive UNION is not supported",
        "n",
    ),
    ("from t |> aggregate count(*) as n group by a desc", "an order within AGGREGATE is not supported", "a"),
    ("from t |> select sum(a) over w", "a named window outside of the list of SELECT is not supported", "w"),
    // Within a SELECT.
    ("select a, count(*) from t group by a with rollup", "WITH ROLLUP is not supported", "with rollup"),
    ("select a, count(*) from t group by a with cube", "WITH CUBE is not supported", "with cube"),
    ("select a, count(*) from t group by a with totals", "WITH TOTALS is not supported", "with totals"),
    ("select a, count(*) from t group by all with totals", "WITH TOTALS is not supported", "with totals"),
    (
        "select a, b, count(*) from t group by a, b grouping sets ((a), (b))",
        "GROUPING SETS behind expressions is not supported",
        "grouping sets",
    ),
    (
        "explain select a, count(*) from t group by a with rollup",
        "WITH ROLLUP is not supported",
        "with rollup",
    ),
    ("select * from t prewhere a > 1", "PREWHERE is not supported", "a > 1"),
    ("select a from t start with a = 1 connect by prior a = b", "START WITH is not supported", "start"),
    ("select a from t connect by nocycle prior a = b", "CONNECT BY is not supported", "connect"),
    (
        "select a from t window w as (order by a) order by sum(b) over w",
        "a named window outside of the list of SELECT is not supported",
        "w",
    ),
    (
        "select a from t group by a qualify count(*) over w > 1 window w as (order by a)",
        "a named window outside of the list of SELECT is not supported",
        "w",
    ),
    (
        "select sum(b) over (w order by a) from t window w as (partition by c)",
        "a window that is named within brackets is not supported",
        "w",
    ),
    (
        "select sum(b) over v from t window w as (partition by c), v as (w order by a)",
        "a window that is named within brackets is not supported",
        "w",
    ),
    // Behind a table.
    ("select * from t tablesample (10)", "TABLESAMPLE is not supported", "t"),
    ("select * from (select 1) as s tablesample (10)", "TABLESAMPLE is not supported", "select 1) as s"),
    ("select * from t partition (p0)", "PARTITION is not supported", "t"),
    (
        "select * from generate_series(1, 3) with ordinality",
        "WITH ORDINALITY is not supported",
        "with ordinality",
    ),
    (
        "select * from t, lateral generate_series(1, a) with ordinality as s",
        "WITH ORDINALITY is not supported",
        "with ordinality",
    ),
    (
        "select * from t, lateral generate_series(start => 1, stop => 3) as s",
        "a named argument of a function in FROM is not supported",
        "generate_series(start => 1, stop => 3) as s",
    ),
    (
        "select * from generate_series(1, 3) as s (a varchar)",
        "a type in a list of columns is not supported",
        "a",
    ),
    ("select * from t with (nolock)", "WITH (…) behind a table is not supported", "t"),
    ("select * from t global join u on t.a = u.a", "GLOBAL is not supported", "u"),
    ("select * from (t global join u on t.a = u.a)", "GLOBAL is not supported", "u"),
    // Around a function.
    ("select quantile(0.5)(a) from t", "a second list of arguments is not supported", "quantile"),
    ("select abs(a) over (order by b) from t", "OVER in a call of abs is not supported", "abs"),
    ("select ABS(a) filter (where a > 1) from t", "FILTER in a call of abs is not supported", "ABS"),
    ("select upper(distinct a) from t", "DISTINCT in a call of upper is not supported", "upper"),
    ("select upper(a order by b) from t", "ORDER BY in a call of upper is not supported", "upper"),
    ("select abs(a) ignore nulls from t", "a treatment of nulls in a call of abs is not supported", "abs"),
    (
        "select abs(a) within group (order by b) from t",
        "WITHIN GROUP in a call of abs is not supported",
        "abs",
    ),
    ("select unnest(a) over () from t", "OVER in a call of unnest is not supported", "unnest"),
    ("select corr(distinct a, b) from t", "DISTINCT in a call of corr is not supported", "corr"),
    (
        "select last_value(a) filter (where b > 1) over (order by b) from t",
        "FILTER in a call of last_value with OVER is not supported",
        "last_value",
    ),
    (
        "select row_number() filter (where b > 1) over (order by b) from t",
        "FILTER in a call of row_number with OVER is not supported",
        "row_number",
    ),
    ("select lag(distinct a) over (order by b) from t", "DISTINCT in a call of lag is not supported", "lag"),
    ("select trim(a, 'x', 'y') from t", "a second text to trim is not supported", "'y'"),
    ("select a not similar to 'b%' from t", "SIMILAR TO is not supported", "similar to"),
];

#[test]
fn a_clause_that_the_engine_drops_is_refused() {
    let mut found = Vec::new();
    for (sql, message, marked) in REFUSED {
        match Question::parse(sql) {
            Ok(_) => found.push(format!("{sql}: let through")),
            Err(error) => {
                let place = error.place().map(|place| place.text_in(sql));
                if (error.kind(), error.to_string().as_str(), place, error.hints().is_empty())
                    != (QueryErrorKind::Forbidden, *message, Some(*marked), false)
                {
                    found.push(format!("{sql}: {error} at {place:?}"));
                }
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_clause_that_the_engine_answers_is_let_through() {
    for sql in [
        "select a, count(*) from t group by rollup (a)",
        "select a, count(*) from t group by grouping sets ((a), ())",
        "select sum(b) over w as s, a from t window w as (partition by a) order by s",
        "select (select sum(b) over w from u window w as (order by b) limit 1) from t",
        "select count(distinct a), sum(b) filter (where c > 1), first_value(a) ignore nulls over (order by b) from t",
        "select array_agg(distinct a order by a), percentile_cont(0.5) within group (order by a) from t",
        "with recursive n as (select 1 as i union all select i + 1 from n where i < 3) select i from n limit 1",
        "with a (x) as (select 1) select * from a as b (y)",
        "select trim(both 'x' from a), trim(a, 'x'), abs(all a) from t",
        "from t |> where a > 1 |> aggregate sum(a) as s group by b |> order by s desc |> limit 3",
        "select * exclude (a) from t",
        "select a from t distribute by a",
        "select \"for update\", 'with rollup', format from t -- settings a = 1",
    ] {
        Question::parse(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}
