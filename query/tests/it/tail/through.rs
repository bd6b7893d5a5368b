//! Files and tail together are all that was sent, each once.

use super::river::{River, START, cost, rows, telemetry};
use millstream_model::time::Micros;
use millstream_query::TailUse;

#[tokio::test]
async fn what_is_in_the_log_alone_is_a_table() {
    let mut river = River::new().await;
    let session = river.session().await;
    assert_eq!(rows(&session, "select count(*) from telemetry").await, "0\n");
    assert_eq!(rows(&session, "select ts, device_id, _extra from telemetry").await, "");
    assert_eq!(rows(&session, "select reason from quarantine").await, "");
    river.send("d1", &["{\"temp\": 20.5}", "{\"temp\": 21, \"ok\": true}"]).await;
    assert_eq!(
        rows(&session, "select device_id, _offset, temp, ok, date from telemetry order by _offset").await,
        "d1,0,20.5,,2026-03-01\nd1,1,21.0,true,2026-03-01\n"
    );
    assert_eq!(rows(&session, "select count(*) from telemetry where date > '2026-03-01'").await, "0\n");
    let listed = rows(
        &session,
        "select table_name from information_schema.tables where table_schema = 'ingestion' order by 1",
    );
    assert_eq!(listed.await, "quarantine\ntelemetry\n");
}

#[tokio::test]
async fn no_message_is_missing_or_there_twice_wherever_the_files_end() {
    let mut river = River::with(telemetry(), 3).await;
    let session = river.session().await;
    let all = "select count(*), count(distinct device_id || temp), sum(temp) from telemetry";
    let (mut sent, mut sum) = (0, 0.0);
    for round in 0..12 {
        for device in ["d1", "d2", "d3", "d4", "d5"] {
            let temp = f64::from(round) * 10.0 + f64::from(sent % 7);
            river.send(device, &[&format!("{{\"temp\": {temp}}}")]).await;
            (sent, sum) = (sent + 1, sum + temp);
        }
        let expected = format!("{sent},{sent},{sum:.1}\n");
        assert_eq!(rows(&session, all).await, expected);
        // More and less than what is there, and what the session has read already.
        river.commit([0, 1, 2, 100][round as usize % 4]).await;
        assert_eq!(rows(&session, all).await, expected);
        if round % 3 == 0 {
            river.trim().await;
        }
        assert_eq!(rows(&session, all).await, expected);
        // Another session has nothing in memory.
        assert_eq!(rows(&river.session().await, all).await, expected);
    }
}

#[tokio::test]
async fn the_tail_can_be_left_out_and_says_what_it_gave() {
    let mut river = River::new().await;
    river.send("d1", &["1", "2", "3"]).await;
    river.commit(3).await;
    river.send("d1", &["4", "5"]).await;
    let session = river.session().await;
    let sql = "select value from telemetry where value > 2";
    let off = cost(&session, sql, TailUse::Off).await.unwrap();
    assert_eq!((off.tail, off.files_total), (None, 1));
    let follow = cost(&session, sql, TailUse::Follow).await.unwrap();
    let tail = follow.tail.unwrap();
    assert_eq!((tail.rows, tail.newest, follow.files_total), (2, Some(Micros(START + 4_000_000)), 1));
    assert!(tail.as_of.0 > START);
    // Their number alone is the answer.
    let counted = cost(&session, "select count(*) from telemetry", TailUse::Follow).await.unwrap();
    assert_eq!((counted.tail.map(|tail| tail.rows), counted.bytes_read), (Some(2), 0));
    assert_eq!(rows(&session, "select count(*) from telemetry").await, "5\n");
    // None of them counts.
    let other = "select count(value) from telemetry where date < '2026-01-01'";
    assert_eq!(cost(&session, other, TailUse::Follow).await.unwrap().tail.map(|tail| tail.rows), Some(0));
    river.commit(9).await;
    let tail = cost(&session, sql, TailUse::Follow).await.unwrap().tail.unwrap();
    assert_eq!((tail.rows, tail.newest), (0, None));
}

#[tokio::test]
async fn all_tables_of_a_query_are_as_they_were_when_it_began() {
    let mut river = River::new().await;
    river.send("d1", &["1", "2"]).await;
    let session = river.session().await;
    let before = session
        .query("select a.value from telemetry a join telemetry b using (value) where b.value > 0")
        .await
        .unwrap();
    river.send("d1", &["3"]).await;
    river.commit(3).await;
    let batches = before.collect().await.unwrap();
    assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 2);
    assert_eq!(rows(&session, "select count(*) from telemetry").await, "3\n");
}

#[tokio::test]
async fn rows_of_both_are_filtered_sorted_and_grouped_as_one() {
    let mut river = River::new().await;
    let payload = |n: i32| format!("{{\"temp\": {n}, \"room\": \"r{}\"}}", n % 2);
    let payloads: Vec<String> = (0..10).map(payload).collect();
    let payloads: Vec<&str> = payloads.iter().map(String::as_str).collect();
    river.send("d1", &payloads).await;
    river.commit(5).await;
    let session = river.session().await;
    let check = async |sql: &str, expected: &str| assert_eq!(rows(&session, sql).await, expected, "{sql}");
    check("select temp from telemetry order by ts desc limit 3", "9.0\n8.0\n7.0\n").await;
    check("select room, sum(temp) from telemetry group by room order by room", "r0,20.0\nr1,25.0\n").await;
    check("select temp from telemetry where temp between 4 and 5 order by temp", "4.0\n5.0\n").await;
    check("select count(*) from telemetry where date = '2026-03-01' and room = 'r1'", "5\n").await;
    check(
        "select min(date), max(date), count(date), count(_extra) from telemetry",
        "2026-03-01,2026-03-01,10,0\n",
    )
    .await;
    check("select count(*) from (select * from telemetry limit 7)", "7\n").await;
    check("select count(*) from telemetry where date = '2026-03-01' limit 1", "10\n").await;
    check(
        "select _partition, max(_offset), arrow_typeof(max(ts)) from telemetry group by 1",
        "0,9,\"Timestamp(µs, \"\"UTC\"\")\"\n",
    )
    .await;
}
