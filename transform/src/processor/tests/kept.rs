//! Dates that were retired in the source.

use super::*;
use crate::simulation::world::START;
use chrono::{DateTime, NaiveDate, Utc};
use millstream_lake::upkeep::{Depth, Keep, Others, Rules, Upkeep};
use millstream_model::stream::DatePartition;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Retires what is older than a day at noon of the day that is so many after the first.
async fn retire(fixture: &Fixture, days: u32) {
    let keep = Keep { time: DAY, date: DatePartition::Day };
    let rules = Rules { target_size: None, safe_age: 7 * DAY, log_keep: 30 * DAY, keep: Some(keep) };
    let mut upkeep = Upkeep::open(&fixture.world.ingestion(), "telemetry", rules).await.unwrap().unwrap();
    let now: DateTime<Utc> = DateTime::from_timestamp_micros(START).unwrap() + DAY * days + DAY / 2;
    let stop = CancellationToken::new();
    let tended = upkeep.tend(Depth::Rows, Others::Overruled, now, &stop, |_| {}).await.unwrap();
    assert!(tended.retired.is_some(), "{tended:?}");
}

async fn rows(fixture: &Fixture) -> Vec<String> {
    fixture.ask("select date, device_id, readings from reporting.daily").await
}

async fn send(fixture: &mut Fixture, device: &str, day: i64) {
    fixture.world.send(device, r#"{"temp":1}"#, day * 86_400 + 60, Fate::Readings(1)).await;
    fixture.commit().await;
}

const FIRST: &str = "2026-03-01|d1|1";

#[tokio::test(start_paused = true)]
async fn a_date_that_was_retired_stays_in_the_report_as_it_was() {
    let mut fixture = Fixture::one_message(1).await;
    send(&mut fixture, "d1", 1).await;
    send(&mut fixture, "d1", 2).await;
    let status = fixture.catch_up(&[daily()]).await;
    assert_eq!(status.reports[&daily().name].kept_before, None);
    retire(&fixture, 2).await;
    let status = fixture.catch_up(&[daily()]).await;
    assert_eq!(status.reports[&daily().name].kept_before, NaiveDate::from_ymd_opt(2026, 3, 2));
    let kept = [FIRST, "2026-03-02|d1|1", "2026-03-03|d1|1"];
    assert_eq!(rows(&fixture).await, kept);

    // Late readings of it do not bring it back; those of other dates count.
    send(&mut fixture, "d9", 0).await;
    send(&mut fixture, "d9", 2).await;
    fixture.catch_up(&[daily()]).await;
    let with_late = [FIRST, "2026-03-02|d1|1", "2026-03-03|d1|1", "2026-03-03|d9|1"];
    assert_eq!(rows(&fixture).await, with_late);

    // Neither does computing everything anew, for whatever reason.
    let works = fixture.works().await;
    let (daily, mut tables) = (daily(), Tables::default());
    let everything = Thoroughness::Everything;
    let rebuilt = super::super::refresh::refresh(&works, &daily, &mut tables, everything).await.unwrap();
    assert!(matches!(rebuilt, Refreshed::Replaced { dates: None, rows: 3, .. }), "{rebuilt:?}");
    assert_eq!(rows(&fixture).await, with_late);
    let wider = DAILY.replace("max(_extra) as extra", "max(_extra) as extra, min(temp) as low");
    fixture.catch_up(&[report("daily", &wider, Some("date"))]).await;
    assert_eq!(rows(&fixture).await, with_late);
    let low = fixture.ask("select date, low from reporting.daily where date < '2026-03-03'").await;
    assert_eq!(low, ["2026-03-01|null", "2026-03-02|1.0"]);
}

#[tokio::test(start_paused = true)]
async fn a_report_that_is_not_by_date_loses_what_its_source_loses_and_says_so() {
    let mut fixture = Fixture::one_message(2).await;
    send(&mut fixture, "d1", 2).await;
    let overall = report("overall", OVERALL, None);
    fixture.catch_up(std::slice::from_ref(&overall)).await;
    assert_eq!(fixture.ask("select * from overall").await, ["d1|2"]);
    retire(&fixture, 2).await;
    let status = fixture.catch_up(std::slice::from_ref(&overall)).await;
    assert_eq!(fixture.ask("select * from overall").await, ["d1|1"]);
    assert_eq!(
        status.reports[&overall.name].whole.as_deref(),
        Some(
            "it is not partitioned; the rows of telemetry of dates before 2026-03-02 were retired, and are gone from the report"
        )
    );
}

/// The report took over the horizon of a table that is gone by now; what it has of it is not to be had again.
#[tokio::test(start_paused = true)]
async fn dates_that_were_retired_stay_although_the_source_is_made_anew() {
    let mut fixture = Fixture::one_message(3).await;
    send(&mut fixture, "d1", 2).await;
    fixture.catch_up(&[daily()]).await;
    retire(&fixture, 2).await;
    fixture.catch_up(&[daily()]).await;
    anew::make_source_anew(&fixture, 2).await;
    fixture.catch_up(&[daily()]).await;
    assert_eq!(rows(&fixture).await, [FIRST]);
}
