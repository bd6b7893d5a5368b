//! Sources that are not what they were: made anew, or put back to an earlier state.

use super::*;
use crate::processor::Rigor;

/// Empties the source's folder and makes another table there, of the same columns and without rows, with so many commits.
pub(super) async fn make_source_anew(fixture: &Fixture, commits: usize) {
    let bucket = fixture.world.ingestion();
    let table = Table::open(&bucket, "telemetry").await.unwrap().unwrap();
    let before = table.snapshot().await.unwrap();
    let store = table.store();
    let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
    for object in listed {
        store.delete(&object.location).await.unwrap();
    }
    let definition = TableDefinition {
        schema: before.schema(),
        partition_by: before.partition_by().to_vec(),
        properties: before.properties().clone().into_iter().collect(),
    };
    let anew = Table::open_or_create(&bucket, "telemetry", &definition).await.unwrap();
    for number in 0..commits {
        let properties = [("number".to_owned(), number.to_string())].into();
        let plan = Plan { operation: Operation::Schema, properties, ..Plan::default() };
        anew.commit(plan).await.unwrap();
    }
}

/// Its versions have the numbers of the former table's, so they alone do not tell.
#[tokio::test(start_paused = true)]
async fn a_source_that_was_made_anew_is_computed_whole() {
    for more in [0, 3] {
        for keeps_tables in [false, true] {
            let fixture = Fixture::one_message(8).await;
            let (works, mut tables) = (fixture.works().await, Tables::default());
            super::super::refresh::refresh(&works, &daily(), &mut tables, Thoroughness::Needed)
                .await
                .unwrap();
            assert_eq!(
                super::super::refresh::refresh(&works, &daily(), &mut tables, Thoroughness::Needed)
                    .await
                    .unwrap(),
                Refreshed::Current
            );
            let commits = usize::try_from(fixture.source_version().await).unwrap() + more;
            make_source_anew(&fixture, commits).await;
            if !keeps_tables {
                tables = Tables::default();
            }
            let refreshed =
                super::super::refresh::refresh(&works, &daily(), &mut tables, Thoroughness::Needed)
                    .await
                    .unwrap();
            assert!(
                matches!(refreshed, Refreshed::Replaced { dates: None, rows: 0, .. }),
                "{more}: {refreshed:?}"
            );
            fixture.assert_equal(&daily(), "made anew").await;
            assert_eq!(
                super::super::refresh::refresh(&works, &daily(), &mut tables, Thoroughness::Needed)
                    .await
                    .unwrap(),
                Refreshed::Current
            );
        }
    }
}

/// Takes the last commits of the source away, as when an older copy of it is put back.
async fn put_source_back(fixture: &Fixture, version: i64) {
    let table = Table::open(&fixture.world.ingestion(), "telemetry").await.unwrap().unwrap();
    for later in version + 1..=fixture.source_version().await {
        table.store().delete(&Path::from(format!("_delta_log/{later:020}.json"))).await.unwrap();
    }
}

/// After four commits there are more versions than are shown, and the last two of them alone say nothing of the days that the first two brought.
#[tokio::test(start_paused = true)]
async fn a_source_that_was_put_back_is_computed_whole_also_when_it_has_gone_on() {
    for commits_since in [0, 1, 4] {
        let mut fixture = Fixture::one_message(14).await;
        let before = fixture.source_version().await;
        for day in [1, 2] {
            fixture.world.send("d1", r#"{"temp":1}"#, day * 86_400, Fate::Readings(1)).await;
            fixture.commit().await;
        }
        fixture.catch_up(&[daily()]).await;
        put_source_back(&fixture, before).await;
        for day in 5..5 + commits_since {
            fixture.world.send("d2", r#"{"temp":1}"#, day * 86_400, Fate::Readings(1)).await;
            fixture.commit().await;
        }
        let refreshed = refresh(&fixture.works().await, &daily()).await.unwrap();
        assert!(
            matches!(refreshed, Refreshed::Replaced { dates: None, .. }),
            "{commits_since}: {refreshed:?}"
        );
        fixture.assert_equal(&daily(), &format!("{commits_since} commits since")).await;
        assert_eq!(refresh(&fixture.works().await, &daily()).await.unwrap(), Refreshed::Current);
    }
}

/// Somebody replaces a few of its rows whenever all of them have been computed: then he computes all of them, and that is what was asked for.
#[tokio::test(start_paused = true)]
async fn a_rebuild_comes_to_its_end_beside_whoever_keeps_the_report() {
    let fixture = Fixture::one_message(7).await;
    fixture.catch_up(&[daily()]).await;
    let before = fixture.files(&daily()).await;
    let mut works = fixture.works_of(&[daily()]).await;
    works.rigor = Rigor::Overtaken;
    let mut tables = Tables::default();
    let rebuilt = super::super::refresh::refresh(&works, &daily(), &mut tables, Thoroughness::Everything)
        .await
        .unwrap();
    assert!(matches!(rebuilt, Refreshed::Replaced { dates: None, rows: 1, files: 1, .. }), "{rebuilt:?}");
    assert_eq!(fixture.files(&daily()).await.intersection(&before).count(), 0);
    fixture.assert_equal(&daily(), "rebuilt").await;
    assert_eq!(refresh(&fixture.works().await, &daily()).await.unwrap(), Refreshed::Current);
}
