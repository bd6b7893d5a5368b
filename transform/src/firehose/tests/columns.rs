//! What a table's columns are to the readings that come later.

use super::{assert_right, drain, refused, table};
use crate::firehose::FirehoseError;
use crate::simulation::world::{Fate, SMALL_FILES, World, rows, stream};
use arrow::array::AsArray;
use arrow::datatypes::{DataType, Int64Type};
use arrow::util::display::array_value_to_string;
use millstream_model::column::{Column, ColumnType, reserved};
use millstream_model::stream::{Stream, TimeField, TimeUnit};
use millstream_model::time::Micros;
use std::sync::Arc;
use std::time::Duration;

/// What stands in a column of the stream's table, by offset; messages of one device with one reading each.
async fn cells(world: &World, column: &str) -> Vec<String> {
    let mut cells = Vec::new();
    for batch in rows(&world.ingestion(), world.stream.name.as_str()).await {
        let offsets = batch.column_by_name(reserved::OFFSET).unwrap().as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            let cell = batch.column_by_name(column).map(|values| array_value_to_string(values, row).unwrap());
            cells.push((offsets.value(row), cell.unwrap_or_default()));
        }
    }
    cells.sort_unstable();
    cells.into_iter().map(|(_, cell)| cell).collect()
}

fn transforming(sql: Option<&str>) -> Arc<Stream> {
    let temp = Column { name: "temp".to_owned(), kind: ColumnType::Double, required: false };
    Arc::new(Stream { columns: vec![temp], transform: sql.map(str::to_owned), ..stream(SMALL_FILES) })
}

#[tokio::test(start_paused = true)]
async fn no_device_can_stop_a_stream_with_the_name_of_a_column_that_a_transform_left() {
    let mut world = World::new(20);
    world.stream = transforming(Some("select *, temp * 9 / 5 + 32 as temp_f from input"));
    world.send("d1", r#"{"temp":20}"#, 0, Fate::Readings(1)).await;
    drain(&world).await.unwrap();
    world.stream = transforming(None);
    for (seconds, payload) in [r#"{"temp_f":"n/a"}"#, r#"{"Temp_F":true}"#].into_iter().enumerate() {
        world.send("d1", payload, i64::try_from(seconds).unwrap(), Fate::Readings(1)).await;
        drain(&world).await.unwrap();
    }
    world.send("d1", r#"{"temp_f":70,"Temp_F":71}"#, 3, Fate::Readings(1)).await;
    drain(&world).await.unwrap();
    assert_right(&world, "left").await;
    assert_eq!(cells(&world, "temp_f").await, ["68.0", "", "", "70.0"]);
    assert_eq!(
        cells(&world, "_extra").await,
        ["", r#"{"temp_f":"n/a"}"#, r#"{"Temp_F":true}"#, r#"{"Temp_F":71}"#]
    );
    let schema = table(&world, "telemetry").await.snapshot().await.unwrap().schema();
    let alike: Vec<_> =
        schema.fields().iter().filter(|field| field.name().eq_ignore_ascii_case("temp_f")).collect();
    assert_eq!((alike.len(), alike[0].data_type()), (1, &DataType::Float64));
}

#[tokio::test(start_paused = true)]
async fn a_definition_that_the_table_contradicts_is_refused_before_any_message() {
    let mut world = World::new(22);
    world.stream = transforming(Some("select *, temp * 9 / 5 + 32 as temp_f from input"));
    drain(&world).await.unwrap();
    world.stream = transforming(Some("select *, 'warm' as temp_f from input"));
    let error = refused(&world).await;
    assert!(matches!(error, FirehoseError::ColumnType { .. }), "{error}");
    world.stream = transforming(Some("select *, temp * 2 as \"Temp_F\" from input"));
    let error = refused(&world).await;
    assert!(matches!(error, FirehoseError::ColumnCase { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_late_reading_goes_to_its_day() {
    let mut world = World::new(21);
    let time = TimeField {
        field: "at".to_owned(),
        unit: TimeUnit::Auto,
        earliest: Micros(0),
        ahead_max: Duration::from_secs(600),
    };
    world.stream = Arc::new(Stream { time: Some(time), ..stream(SMALL_FILES) });
    let days = 86_400;
    world.send("d1", r#"{"at":"2026-03-11T12:00:00Z"}"#, 10 * days + days / 2, Fate::Readings(1)).await;
    world.send("d1", r#"{"at":"2026-03-01T23:59:59Z"}"#, 11 * days, Fate::Readings(1)).await;
    world.send("d1", r#"{"at":"2001-01-01T00:00:00Z"}"#, 11 * days, Fate::Readings(1)).await;
    drain(&world).await.unwrap();
    assert_right(&world, "late").await;
    let snapshot = table(&world, "telemetry").await.snapshot().await.unwrap();
    let date = |file: &millstream_lake::DataFile| file.partition_values[reserved::DATE].clone();
    let mut dates: Vec<_> = snapshot.files().iter().filter_map(date).collect();
    dates.sort_unstable();
    assert_eq!(dates, ["2001-01-01", "2026-03-01", "2026-03-11"]);
}
