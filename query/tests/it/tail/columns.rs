//! Columns that were learned from the log alone.

use super::river::{River, apply, rows, telemetry};
use millstream_lake::ledger::INPUT_SCHEMA;
use millstream_lake::{Operation, Plan};
use millstream_model::column::{Column, ColumnType};
use millstream_model::stream::{Misfit, Stream};
use std::collections::BTreeMap;

#[tokio::test]
async fn a_new_field_is_a_column_at_once_and_stays_one() {
    let mut river = River::new().await;
    river.send("d1", &["{\"a\": 1}"]).await;
    river.commit(1).await;
    let session = river.session().await;
    river.send("d1", &["{\"a\": 2, \"b\": \"x\"}", "{\"c\": true}"]).await;
    let sql = "select a, b, c from telemetry order by _offset";
    let expected = "1.0,,\n2.0,x,\n,,true\n";
    assert_eq!(rows(&session, sql).await, expected);
    let columns = "select column_name from information_schema.columns where table_name = 'telemetry' and ordinal_position >= 8";
    assert_eq!(rows(&session, columns).await, "a\nb\nc\n_extra\n");
    river.commit(1).await;
    assert_eq!(rows(&session, sql).await, expected);
    river.commit(1).await;
    assert_eq!(rows(&session, sql).await, expected);
    // Files that lack a column are pruned and counted as if they had it with nulls in it.
    assert_eq!(rows(&session, "select count(c), count(*) from telemetry where a is null").await, "1,1\n");
}

#[tokio::test]
async fn where_the_table_learned_another_type_no_row_is_lost() {
    let mut river = River::new().await;
    river.send("d1", &["{\"a\": 1}"]).await;
    river.commit(1).await;
    let session = river.session().await;
    // The tail learns it as text; a firehose that saw another partition first learned it as a number.
    river.send("d1", &["{\"x\": \"text\"}", "{\"x\": 5}", "{\"y\": 1}"]).await;
    assert_eq!(
        rows(&session, "select x, _extra from telemetry order by _offset").await,
        ",\ntext,\n,\"{\"\"x\"\":5}\"\n,\n"
    );
    let table = river.table().await;
    let snapshot = table.snapshot().await.unwrap();
    let input = snapshot.property(INPUT_SCHEMA).unwrap();
    let learned = input.replace("]}", ",{\"name\":\"x\",\"type\":\"double\",\"required\":false}]}");
    let mut fields: Vec<_> = snapshot.schema().fields().iter().cloned().collect();
    let x = arrow::datatypes::Field::new("x", arrow::datatypes::DataType::Float64, true);
    fields.insert(fields.len() - 1, x.into());
    let schema = std::sync::Arc::new(arrow::datatypes::Schema::new(fields));
    let properties = BTreeMap::from([(INPUT_SCHEMA.to_owned(), learned)]);
    apply(&table, Plan { operation: Operation::Schema, schema: Some(schema), properties, ..Plan::default() })
        .await;
    assert_eq!(
        rows(&session, "select x, y, _extra from telemetry order by _offset").await,
        ",,\n,,\"{\"\"x\"\":\"\"text\"\"}\"\n5.0,,\n,1.0,\n"
    );
    river.commit(9).await;
    assert_eq!(
        rows(&session, "select x, y, _extra from telemetry order by _offset").await,
        ",,\n,,\"{\"\"x\"\":\"\"text\"\"}\"\n5.0,,\n,1.0,\n"
    );
}

#[tokio::test]
async fn the_streams_own_transform_makes_the_rows() {
    let temp = Column { name: "temp".to_owned(), kind: ColumnType::Double, required: false };
    let stream = Stream {
        columns: vec![temp],
        transform: Some("select *, temp * 2 as twice from input where temp > 0".to_owned()),
        on_mismatch: Misfit::Quarantine,
        ..telemetry()
    };
    let mut river = River::with(stream, 1).await;
    let session = river.session().await;
    river
        .send("d1", &["{\"temp\": 1}", "{\"temp\": -1}", "{\"temp\": \"warm\"}", "{\"temp\": 3, \"new\": 1}"])
        .await;
    let sql = "select _offset, temp, new, twice from telemetry order by _offset";
    let expected = "0,1.0,,2.0\n3,3.0,1.0,6.0\n";
    for at_most in [0, 2, 9] {
        river.commit(at_most).await;
        assert_eq!(rows(&session, sql).await, expected);
        assert_eq!(rows(&session, "select _offset, reason from quarantine").await, "2,type_mismatch\n");
    }
}
