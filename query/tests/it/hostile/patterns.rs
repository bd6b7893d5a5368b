//! Regular expressions are looked for with bounded memory, and as long as there is time; what is found is what would have been found without bounds.

use super::{End, Ground, LONG, SHORT, ask, owned};

/// Each would take hours, or tens of gigabytes.
const ENDLESS: &[&str] = &[
    r"select count(*) from generate_series(1, 8192) where regexp_like('x', '\w{100}' || value)",
    r"select count(*) from generate_series(1, 1000000) where regexp_like('x', '\w{40}' || value)",
    r"select count(*) from generate_series(1, 1000000) where 'x' ~ ('\w{40}' || value)",
    r"select count(*) from generate_series(1, 1000000) where 'x' !~* ('\w{40}' || value)",
    r"select sum(regexp_count('x', '\w{40}' || value)) from generate_series(1, 1000000)",
    r"select sum(regexp_instr('x', '\w{40}' || value)) from generate_series(1, 1000000)",
    r"select count(regexp_match('x', '\w{40}' || value)) from generate_series(1, 1000000)",
    r"select max(regexp_replace('x', '\w{40}' || value, 'y')) from generate_series(1, 1000000)",
    "select count(*) from generate_series(1, 8192) where regexp_like(repeat('a', 4000) || value, '[ab]*a[ab]{2000}c')",
    "select count(*) from generate_series(1, 8192) where regexp_like(repeat('a', 4000) || value, '[ab]*a[ab]{2000}c', 's')",
    "select count(*) from generate_series(1, 8192) where repeat('a', 4000) || value ~ '[ab]*a[ab]{2000}c'",
    "select count(*) from generate_series(1, 8192) where repeat('a', 4000) || value !~* ('[ab]*a[ab]{2000}c' || value)",
    "select sum(regexp_count(repeat('a', 4000) || value, '[ab]*a[ab]{2000}c')) from generate_series(1, 8192)",
    "select sum(regexp_instr(repeat('a', 4000) || value, '[ab]*a[ab]{2000}c')) from generate_series(1, 8192)",
    "select sum(regexp_instr(repeat('a', 4000) || value, '[ab]*a[ab]{2000}c', 1, 1, 's')) from generate_series(1, 8192)",
    "select sum(regexp_instr(repeat('a', 4000) || value, '[ab]*a[ab]{2000}c', 1, 1, '', 0)) from generate_series(1, 8192)",
    "select count(regexp_match(repeat('a', 4000) || value, '[ab]*a[ab]{2000}c')) from generate_series(1, 8192)",
    "select max(regexp_replace(repeat('a', 4000) || value, '[ab]*a[ab]{2000}c', 'y')) from generate_series(1, 8192)",
    "select regexp_like(repeat('a', 100000), '[ab]*a[ab]{5000}c')",
    "select regexp_count(repeat('a', 100000), '[ab]*a[ab]{5000}c')",
    "select sum(regexp_count(repeat('a', 100000) || value, 'a.*b|a')) from generate_series(1, 8192)",
    "select sum(regexp_count(repeat('a', 100000) || repeat('a', 100000) || repeat('a', 100000) || value, 'a.*b|a')) from generate_series(1, 8192)",
    r"select count(*) from generate_series(1, 100000) where '' ~ ('\w{220}' || value)",
    "select count(regexp_match(repeat('a', 100), repeat('(a)?', 10000)))",
    "select count(regexp_match(repeat('a', 1000) || value, repeat('(a)?', 500))) from generate_series(1, 8192)",
    "select count(*) from generate_series(1, 8192) where repeat('a', 1000) || value ~ (repeat('(a)?', 10000) || 'b')",
    "select count(regexp_match(repeat('a', 1000) || value, repeat('(', 200) || '.*' || repeat(')', 200))) from generate_series(1, 8192)",
    "select count(*) from generate_series(1, 8192) where repeat('a', 10000) || value like repeat('%a', 5000) || '%b'",
    "select count(*) from generate_series(1, 8192) where repeat('a', 10000) || value not ilike repeat('%a', 5000) || '%b'",
    "select count(*) from generate_series(1, 8192) where repeat('a', 10000) || value like repeat('%a', 5000 - value % 1000) || '%b'",
    "select count(*) from generate_series(1, 8192) where repeat('a', 4000) || value like '%a' || repeat('_', 2000) || 'b%'",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn patterns_that_never_come_to_an_end_are_stopped() {
    let ground = Ground::prepare(SHORT).await;
    for sql in ENDLESS {
        ground.check(sql, End::Stopped).await;
        ground.check_that_it_answers(sql).await;
    }
    let gone = owned(&[
        "select device_id similar to 'd%' from telemetry",
        "select regexp_like(temp) from telemetry",
    ]);
    Ground::prepare(LONG).await.check_all(&gone, End::Refused).await;
}

const TEXTS: &str = "(values ('ab12'), ('AB'), (''), (null), ('Ärger 7')) as t (s)";

/// What becomes of each of the texts.
fn listed(what: &str) -> String {
    format!("select array_to_string(array_agg({what}), ' ', '-') as l from {TEXTS}")
}

/// The sum of what becomes of many numbers, with patterns that differ.
fn many(what: &str, pattern: &str) -> String {
    format!(
        "select sum({what}) as l from (select value % 100 as v, '{pattern}' || (value % 50) || '$' as p from generate_series(1, 20000)) as t"
    )
}

async fn answers(ground: &Ground, checks: &[(String, &str)]) {
    for (sql, expected) in checks {
        let answer = ask(&ground.session, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert!(answer.contains(&format!("| {expected} ")), "{sql}: {answer}");
    }
}

#[tokio::test]
async fn bounds_change_no_answer_of_like() {
    let ground = Ground::prepare(LONG).await;
    let checks = [
        (listed("s like '_b%'"), "true false false - false"),
        (listed("s not like '%_b%'"), "false true true - true"),
        (listed("s ilike '%_b%'"), "true true false - false"),
        (listed("s not ilike '%_B%'"), "false false true - true"),
        (listed("s like '%_ge_ _'"), "false false false - true"),
        (listed("s ilike 'ä%'"), "false false false - true"),
        (listed("s like s"), "true true true - true"),
        (listed("s like lower(s) || '%'"), "true false true - false"),
        (listed("s ilike null"), "- - - - -"),
        (listed("s not like s"), "false false false - false"),
        (listed("s not like upper(s) || '_'"), "true true true - true"),
        (listed("s like '_' || substr(s, 2) || '%_%'"), "false false false - false"),
        (listed("s like '%_' || substr(s, 2)"), "true true false - true"),
        (listed("s ilike upper(s)"), "true true true - true"),
        (listed("s ilike '%' || lower(substr(s, 2))"), "true true true - true"),
        (listed("s not ilike lower(s) || '%'"), "false false false - false"),
        (listed("s not ilike '_' || lower(s)"), "true true true - true"),
        (
            format!(
                "select string_agg(n::varchar, ' ' order by n) as l from (select count(*) as n from {TEXTS} group by rollup (s like s))"
            ),
            "1 4 5",
        ),
        (listed(r"s like '%\_%_'"), "false false false - false"),
        (many("(v || '$' like p)::int", "%"), "12000"),
    ];
    answers(&ground, &checks).await;
}

#[tokio::test]
async fn bounds_change_no_answer() {
    let ground = Ground::prepare(LONG).await;
    let checks = [
        (listed("s ~ '[a-z][0-9]'"), "true false false - false"),
        (listed("s !~ '[a-z][0-9]'"), "false true true - true"),
        (listed("s ~* '^ab'"), "true true false - false"),
        (listed("s !~* '^ab'"), "false false true - true"),
        (listed("s ~ '^ab'"), "true false false - false"),
        (listed("s ~ ''"), "true true true - true"),
        (listed("s ~ null"), "- - - - -"),
        (listed("s ~ s"), "true true true - true"),
        (listed("s !~* upper(s)"), "false false false - false"),
        (listed(r"regexp_like(s, '\w\d')"), "true false false - false"),
        (listed(r"regexp_like(s, '^a', 'i')"), "true true false - false"),
        (listed(r"regexp_like(s, 'B.', 'is')"), "true false false - false"),
        (listed("regexp_like(s, s, 'i')"), "true true true - true"),
        (listed("regexp_like(s, lower(s), substr('i', length(s) % 2 + 1))"), "true true true - false"),
        (listed("regexp_count(s, '[0-9]')"), "2 0 0 - 1"),
        (listed("regexp_instr(s, '[0-9]')"), "3 0 0 - 7"),
        (listed(r"(regexp_match(s, '([a-zA-Z]+)(\d*)'))[1]"), "ab AB - - rger"),
        (listed("regexp_replace(s, '[a-z]', '_', 'g')"), "__12 AB  - Ä____ 7"),
        (listed("regexp_instr(s, 'B', 1, 1, 'i')"), "2 2 0 - 0"),
        (
            format!(
                "select coalesce(sum(regexp_count(s, 'a')) filter (where s = 'none'), 0) as l from {TEXTS}"
            ),
            "0",
        ),
        (
            format!(
                "select coalesce(max(regexp_replace(s, 'a', 'b')) filter (where s = 'none'), 'none') as l from {TEXTS}"
            ),
            "none",
        ),
        (format!("select count(*) filter (where s = 'none' and s ~ s) as l from {TEXTS}"), "0"),
        (format!(r"select count(*) filter (where s ~ '\w{{5}}') as l from {TEXTS}"), "1"),
        (listed(r"s ~ '^\w{1,200}$'"), "true true false - false"),
        (
            listed("(regexp_match(s, repeat('(', 100) || '.*' || repeat(')', 100)))[100]"),
            "ab12 AB  - Ärger 7",
        ),
        (
            "select regexp_count(repeat('a1', 60000) || date, '[0-9]') as l from telemetry limit 1"
                .to_owned(),
            "60008",
        ),
        (many("(v::varchar ~ p)::int", "^[0-9]?"), "12000"),
        (many("regexp_like(v::varchar, p, 's')::int", "^[0-9]?"), "12000"),
        (many("regexp_count(v::varchar, p)", "^[0-9]?"), "12000"),
        (many("regexp_instr(v::varchar, p)", "[0-9]?"), "12000"),
        (many("length(regexp_replace(v::varchar, p, 'abc'))", "^[0-9]?"), "52000"),
        (many("length((regexp_match(v::varchar, p))[1])", "^[0-9]?"), "22000"),
    ];
    answers(&ground, &checks).await;
    for (sql, expected) in [
        ("select device_id ~ '(' from telemetry", "regular expression"),
        ("select regexp_like(device_id, '(', 's') from telemetry", "regular expression"),
        ("select regexp_like(device_id, 'a', 'g') from telemetry", "global"),
        ("select regexp_count(device_id, '(') from telemetry", "did not compile"),
    ] {
        let error = ask(&ground.session, sql).await.unwrap_err();
        assert!(error.to_string().to_lowercase().contains(expected), "{sql}: {error}");
    }
}
