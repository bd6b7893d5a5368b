//! Nothing is lost and nothing panics, whatever comes.

use super::{Decoded, Misfit, cell, column, decode, stream, with};
use millstream_model::column::ColumnType;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::{collection, sample};
use serde_json::{Map, Value};

/// Names that meet each other, cannot be columns, are reserved, or are declared.
fn name() -> impl Strategy<Value = String> {
    sample::select(vec![
        "a", "A", "b", "a_b", "a_b_c", "c", "", "x y", "_z", "date", "ts", "n", "N", "ä\"\n", "PM2.5",
    ])
    .prop_map(str::to_owned)
}

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-100..100).prop_map(Value::from),
        (-1000..1000).prop_map(|n| Value::from(f64::from(n) / 8.0)),
        "[a-b\"\\\\\n]{0,3}".prop_map(Value::from),
        Just(Value::from("2026-01-01T00:00:00Z")),
        Just(serde_json::json!([1, {"a": null}])),
    ]
}

fn object() -> impl Strategy<Value = Map<String, Value>> {
    let value = leaf().prop_recursive(3, 24, 5, |inner| {
        collection::btree_map(name(), inner, 0..5)
            .prop_map(|members| Value::Object(members.into_iter().collect()))
    });
    collection::btree_map(name(), value, 0..8).prop_map(|members| members.into_iter().collect())
}

/// The leaves of a reading, by path; nulls are nothing.
fn leaves(path: &[String], object: &Map<String, Value>, found: &mut Vec<(Vec<String>, Value)>) {
    for (key, value) in object {
        let path = [path, std::slice::from_ref(key)].concat();
        match value {
            Value::Null => {}
            Value::Object(inner) if !inner.is_empty() => leaves(&path, inner, found),
            value => found.push((path, value.clone())),
        }
    }
}

/// Whether the cell shows the value.
fn shows(cell: &str, value: &Value) -> bool {
    match value {
        Value::String(text) => cell == text || cell == "2026-01-01T00:00:00Z",
        // An instant, in the column declared so.
        Value::Number(_) if cell.ends_with('Z') => true,
        Value::Number(number) => cell.parse().ok() == number.as_f64(),
        Value::Bool(value) => cell.parse() == Ok(*value),
        value => serde_json::from_str::<Value>(cell).ok().as_ref() == Some(value),
    }
}

/// Every leaf stands in `_extra` under its own path, or in the column of its flattened name, and never in both.
fn nothing_is_lost(decoded: &Decoded, row: usize, reading: &Map<String, Value>) {
    let extra = cell(&decoded.readings, "_extra", row);
    let extra: Map<String, Value> =
        if extra == "null" { Map::new() } else { serde_json::from_str(&extra).unwrap() };
    let (mut wanted, mut kept) = (Vec::new(), Vec::new());
    leaves(&[], reading, &mut wanted);
    leaves(&[], &extra, &mut kept);
    assert!(
        kept.iter().all(|leaf| wanted.contains(leaf)),
        "_extra has what did not come: {kept:?} of {wanted:?}"
    );
    let mut columns = Vec::new();
    for leaf in wanted.iter().filter(|leaf| !kept.contains(leaf)) {
        let name = leaf.0.join("_");
        let cell = cell(&decoded.readings, &name, row);
        assert!(shows(&cell, &leaf.1), "{leaf:?} is neither in its column ({cell}) nor in {extra:?}");
        columns.push(name);
    }
    let count = columns.len();
    columns.sort();
    columns.dedup();
    assert_eq!(columns.len(), count, "a column holds one field only");
}

proptest! {
    #[test]
    fn every_field_is_in_a_column_or_in_extra(readings in collection::vec(object(), 1..6), limit in 0_usize..8) {
        let narrow = with(|stream| {
            stream.column_limit = limit;
            stream.columns = vec![column("n", ColumnType::Long), column("c", ColumnType::Timestamp)];
            stream.on_mismatch = Misfit::Extra;
        });
        let payloads: Vec<_> = readings.iter().map(|reading| Value::Object(reading.clone()).to_string()).collect();
        let decoded = decode(narrow, &payloads);
        assert_eq!(decoded.readings.num_rows(), readings.len());
        for (row, reading) in readings.iter().enumerate() {
            // The event time is the one field that changes its form: it is `ts` if it can be.
            let mut reading = reading.clone();
            if cell(&decoded.readings, "ts", row) == "2026-01-01T00:00:00Z" {
                reading.shift_remove("ts");
            }
            nothing_is_lost(&decoded, row, &reading);
        }
    }

    #[test]
    fn no_bytes_make_it_fail(payloads in collection::vec(collection::vec(any::<u8>(), 0..40), 1..8)) {
        decode(stream(), &payloads);
    }

    #[test]
    fn no_text_makes_it_fail(payloads in collection::vec("[\\[\\]{}\",:0-9a-ce.\\-\\\\ ]{0,30}", 1..8)) {
        decode(stream(), &payloads);
    }

    #[test]
    fn strict_or_not_every_message_has_one_outcome(readings in collection::vec(collection::vec(object(), 0..4), 1..6)) {
        let payloads: Vec<_> = readings.iter().map(|array| serde_json::to_string(array).unwrap()).collect();
        decode(with(|stream| stream.on_mismatch = Misfit::Quarantine), &payloads);
    }
}
