//! How a report fares stands in the bucket, for other processes.

use super::*;
use crate::processor::noted::Noted;
use millstream_query::{ReportNote, ReportState};

async fn note(fixture: &Fixture, name: &str) -> Option<ReportNote> {
    ReportNote::read(&fixture.reporting, name).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_report_that_fails_says_so_in_the_bucket_until_it_is_well_again() {
    let mut fixture = Fixture::one_message(1).await;
    let broken = report("broken", "select date, nonsense from telemetry", Some("date"));
    let reports = [broken.clone(), daily()];
    let catch_up = async |fixture: &Fixture| {
        let (status, _) = watch::channel(Status::default());
        let (ingestion, reporting) = (fixture.world.ingestion(), fixture.reporting.clone());
        catch_up(Settings::default(), &reports, None, ingestion, reporting, status).await
    };
    assert!(catch_up(&fixture).await.is_err());
    let failing = note(&fixture, "broken").await.unwrap();
    assert_eq!((failing.state, failing.failures), (ReportState::Failing, 1));
    assert!(failing.error.as_ref().unwrap().contains("nonsense"), "{failing:?}");
    assert!(failing.since_ms > 0 && failing.written_ms >= failing.since_ms, "{failing:?}");
    // The other one is done all the same; as it never failed, nothing is said of it.
    assert_eq!(note(&fixture, "daily").await, None);
    fixture.assert_equal(&daily(), "beside a broken one").await;

    // What it asks for comes; another process finds it well, and says so over the note of the first.
    fixture.world.send("d1", r#"{"nonsense":1}"#, 0, Fate::Readings(1)).await;
    fixture.commit().await;
    catch_up(&fixture).await.unwrap();
    let well = note(&fixture, "broken").await.unwrap();
    assert_eq!((well.state, well.error.as_deref(), well.failures), (ReportState::Well, None, 0));

    // As long as nothing changes, nothing is written.
    catch_up(&fixture).await.unwrap();
    assert_eq!(note(&fixture, "broken").await.unwrap(), well);
    assert_eq!(fixture.reporting.table_names().await.unwrap(), ["broken", "daily"]);
}

/// Whoever said it may be gone, as a person who tried a wrong configuration: who keeps the report takes it back.
#[tokio::test(start_paused = true)]
async fn what_others_said_of_a_report_that_is_well_does_not_stay() {
    let fixture = Fixture::new(2);
    let works = fixture.works().await;
    let name = daily().name;
    let (mut keeps, mut tries) = (Noted::default(), Noted::default());
    keeps.well(&works, &name).await;
    tries.failing(&works, &name, "a wrong configuration").await;
    let state = async || note(&fixture, "daily").await.map(|note| (note.state, note.error.is_some()));
    keeps.well(&works, &name).await;
    assert_eq!(
        state().await,
        Some((ReportState::Failing, true)),
        "what was read last is believed for a while"
    );
    tokio::time::advance(Duration::from_secs(5 * 60)).await;
    keeps.well(&works, &name).await;
    assert_eq!(state().await, Some((ReportState::Well, false)));
}

/// A report that failed and only waits by now is not failing.
#[tokio::test(start_paused = true)]
async fn a_report_that_waits_is_not_called_failing() {
    let fixture = Fixture::new(3);
    let works = fixture.works().await;
    Noted::default().failing(&works, &daily().name, "the store was away").await;
    assert_eq!(note(&fixture, "daily").await.unwrap().state, ReportState::Failing);
    // Its source does not exist yet.
    fixture.catch_up(&[daily()]).await;
    assert_eq!(note(&fixture, "daily").await.unwrap().state, ReportState::Well);
}
