//! What is too much to plan is refused, or stopped by the time; and it holds nobody up.

use super::{End, Ground, LONG, SHORT, ask};
use millstream_query::QueryErrorKind;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_to_plan_is_refused() {
    let ground = Ground::prepare(LONG).await;
    let within = |depth: usize| {
        (0..depth).fold("select 1 as x".to_owned(), |sql, _| format!("with a as ({sql}) select x from a"))
    };
    let statements = vec![
        within(45),
        format!("select {} from telemetry", vec!["*"; 20_000].join(",")),
        format!("select {}1{}", "(".repeat(100_000), ")".repeat(100_000)),
        format!("select {}1", "- ".repeat(50_000)),
        format!("select {}true", "not ".repeat(50_000)),
        format!("select 1{}", " + 1".repeat(50_000)),
        format!("select true{}", " or true".repeat(30_000)),
        format!("select 1{}", "::int".repeat(50_000)),
        format!("select 1{}", " is null".repeat(50_000)),
        format!("select {}1{}", "abs(".repeat(10_000), ")".repeat(10_000)),
        format!("select {}1{}", "case when true then ".repeat(10_000), " end".repeat(10_000)),
        format!("select * from {}telemetry{}", "(select * from ".repeat(10_000), ")".repeat(10_000)),
        format!("select 1 where {}1{}", "exists (select ".repeat(5_000), ")".repeat(5_000)),
        vec!["select 1"; 20_000].join(" union all "),
        format!("select 1 from {}", vec!["telemetry"; 20_000].join(", ")),
        format!("select 1 from telemetry{}", " natural join telemetry".repeat(10_000)),
        doubling(""),
        doubling("\""),
        doubling("`"),
        format!("select 1 in ({})", vec!["1"; 100_000].join(",")),
        format!("select {}", vec!["1"; 100_000].join(",")),
        vec!["select 1"; 20_000].join(";"),
        format!("select {}1{}", "[".repeat(50_000), "]".repeat(50_000)),
        "/*".repeat(100_000),
        "select '".to_owned() + &"x".repeat(200_000),
        "\0".repeat(1_000),
        "select \u{202e}1 \u{0}".to_owned(),
        all_of_many(98, 250),
    ];
    ground.check_all(&statements, End::Refused).await;
}

/// Queries that each name the one before twice, by names in such quotes.
fn doubling(quote: &str) -> String {
    let name = |i: usize| format!("{quote}t{i}{quote}");
    let step = |i: usize| format!("{} as (select a.x from {} a, {} b)", name(i), name(i - 1), name(i - 1));
    let steps: Vec<_> = (1..60).map(step).collect();
    format!("with {} as (select 1 as x), {} select count(*) from {}", name(0), steps.join(", "), name(59))
}

/// Every column of so many tables with so many columns each.
fn all_of_many(tables: usize, columns: usize) -> String {
    let columns = (0..columns).map(|n| format!("{n} as c{n}")).collect::<Vec<_>>().join(", ");
    let tables = (0..tables).map(|n| format!("wide t{n}")).collect::<Vec<_>>().join(", ");
    format!("with wide as (select {columns} from telemetry) select * from {tables}")
}

/// Planning never pauses, and of what is few in number it may be much. All of the runtime is one thread here: if that were busy with it, nothing else would move.
#[tokio::test]
async fn what_is_planned_for_longer_than_it_may_take_is_stopped_and_holds_nobody_up() {
    let ground = Ground::prepare(SHORT).await;
    // More than the places for planners.
    let sql = all_of_many(98, 30);
    let mut moved = 0;
    let others = async {
        loop {
            tokio::time::sleep(SHORT / 100).await;
            moved += 1;
        }
    };
    let ended = tokio::select! {
        ended = futures::future::join_all([(); 3].map(|()| ask(&ground.session, &sql))) => ended,
        () = others => unreachable!("it has no end"),
    };
    for ended in ended {
        let error = ended.unwrap_err();
        assert_eq!(error.kind(), QueryErrorKind::Resources);
        assert!(error.to_string().contains("takes longer than"), "{error}");
    }
    assert!(moved > 10, "the others moved {moved} times");
    // Those that plan what nobody waits for any more would else be busy for a minute.
    ground.check_that_it_answers_soon(40, &sql).await;
}
