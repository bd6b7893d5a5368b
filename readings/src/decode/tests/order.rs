//! What becomes of a message does not depend on what came before it: a reading that was visible stays one, whoever decodes it again.

use super::{Decoded, Misfit, Stream, arrival, coherent, column, required, stored, with};
use crate::decode::Decoder;
use crate::schema::{InputSchema, table_schema};
use millstream_model::column::ColumnType;
use millstream_model::name::Partition;
use millstream_model::quarantine::Reason;
use millstream_model::time::Micros;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};
use proptest::{collection, option, sample};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Declared fields, and those that are learned as whatever comes first.
fn name() -> impl Strategy<Value = String> {
    sample::select(vec!["temp", "n", "must", "a", "A", "b", "a_b", "c", "temp_f"]).prop_map(str::to_owned)
}

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => (-3..4).prop_map(Value::from),
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::from(9_007_199_254_740_993_i64)),
        1 => sample::select(vec!["", "x", "1", "2026-01-01T00:00:00Z"]).prop_map(Value::from),
        1 => Just(serde_json::json!([1, "x"])),
    ]
}

fn object() -> impl Strategy<Value = Value> {
    let value = leaf().prop_recursive(2, 8, 3, |inner| {
        collection::btree_map(name(), inner, 0..3)
            .prop_map(|members| Value::Object(members.into_iter().collect()))
    });
    let fields = collection::btree_map(name(), value, 0..6);
    (fields, option::weighted(0.8, -3..4)).prop_map(|(fields, must)| {
        let mut reading: Map<String, Value> = fields.into_iter().collect();
        reading.extend(must.map(|must| ("must".to_owned(), Value::from(must))));
        Value::Object(reading)
    })
}

fn payload() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => object().prop_map(|reading| reading.to_string()),
        3 => collection::vec(object(), 0..5).prop_map(|readings| Value::Array(readings).to_string()),
        1 => leaf().prop_map(|value| value.to_string()),
        1 => Just("{".to_owned()),
    ]
}

/// A strict stream with a condition behind which an expression can fail.
fn strict(limit: usize, sql: Option<&str>) -> Arc<Stream> {
    Arc::new(with(|stream| {
        stream.column_limit = limit;
        stream.on_mismatch = Misfit::Quarantine;
        stream.columns = vec![
            column("temp", ColumnType::Double),
            column("n", ColumnType::Long),
            required("must", ColumnType::Double),
        ];
        stream.transform = sql.map(str::to_owned);
    }))
}

/// Rows of each message, or why it went to quarantine, by partition and offset.
type Outcomes = BTreeMap<(i32, i64), Result<usize, Reason>>;

fn add(decoded: &Decoded, outcomes: &mut Outcomes) {
    coherent(decoded);
    for (partition, range) in &decoded.ranges {
        for offset in range.first.0..=range.last.0 {
            outcomes.insert((partition.0, offset), Ok(0));
        }
    }
    for (partition, offset, _) in super::positions(&decoded.readings) {
        let outcome = outcomes.get_mut(&(partition, offset)).unwrap();
        *outcome = outcome.map(|rows| rows + 1);
    }
    for message in &decoded.quarantined {
        outcomes.insert((message.partition.0, message.offset.0), Err(message.reason));
    }
}

/// One way to come through the messages: which partition is read next, and when a batch ends.
#[derive(Debug, Clone)]
struct Way {
    turns: Vec<(usize, bool)>,
    /// So many messages of the last partition were seen by somebody before, who kept what they taught.
    taught: usize,
    /// Whether the table has the columns that they gave, beside what is known of the fields.
    for_table: bool,
}

fn way() -> impl Strategy<Value = Way> {
    let turns = collection::vec((0..3_usize, any::<bool>()), 40);
    (turns, 0..6_usize, any::<bool>()).prop_map(|(turns, taught, for_table)| Way { turns, taught, for_table })
}

fn decode(stream: &Arc<Stream>, partitions: &[Vec<String>], way: &Way) -> Outcomes {
    let mut known = InputSchema::declared(stream);
    let push = |decoder: &mut Decoder, partition: usize, offset: usize| {
        let message = stored(offset as i64, arrival(), "d1", &partitions[partition][offset]);
        decoder.push(Partition(partition as i32), &message, Micros(0));
    };
    let mut teacher = Decoder::new(Arc::clone(stream), known.clone()).unwrap();
    for offset in 0..way.taught.min(partitions[2].len()) {
        push(&mut teacher, 2, offset);
    }
    known = InputSchema::restore(stream, &teacher.finish().schema.to_json()).unwrap();
    let table = table_schema(stream, None, &known).unwrap();
    let fields = if way.for_table { InputSchema::declared(stream) } else { known };
    let mut decoder = Decoder::new(Arc::clone(stream), fields).unwrap();
    if way.for_table {
        decoder = decoder.for_table(&table);
    }
    let mut next = [0; 3];
    let mut outcomes = Outcomes::new();
    let rest = (0..3).flat_map(|partition| vec![(partition, false); partitions[partition].len()]);
    for (partition, ends) in way.turns.iter().copied().chain(rest) {
        if next[partition] < partitions[partition].len() {
            push(&mut decoder, partition, next[partition]);
            next[partition] += 1;
        }
        if ends {
            add(&decoder.finish(), &mut outcomes);
        }
    }
    add(&decoder.finish(), &mut outcomes);
    outcomes
}

const TRANSFORMS: [&str; 3] = [
    "select *, temp * 9 / 5 + 32 as temp_f from input where temp > -2",
    "select * from input where n <> 0 and 6 / n > -4",
    "select *, cast(case when n > 1 then 6 % (n - 2) else 0 end as bigint) as rest from input where n is null or n <> -1",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, ..ProptestConfig::default() })]
    #[test]
    fn a_message_becomes_the_same_whatever_was_learned_before_it(
        partitions in collection::vec(collection::vec(payload(), 0..12), 3),
        limit in 3..8_usize,
        sql in option::of(sample::select(TRANSFORMS.to_vec())),
        ways in collection::vec(way(), 3),
    ) {
        let stream = strict(limit, sql);
        let mut outcomes = ways.iter().map(|way| decode(&stream, &partitions, way));
        let first = outcomes.next().unwrap();
        assert_eq!(first.len(), partitions.iter().map(Vec::len).sum::<usize>());
        for other in outcomes {
            assert_eq!(other, first);
        }
    }
}

#[test]
fn whether_a_message_is_too_large_does_not_depend_on_what_is_known_of_its_fields() {
    // On a topic that is nearly as long as one may be, close to the limit: with a column of its own, a field counts otherwise than in `_extra`.
    let topic = "t".repeat(60_000);
    let message = |readings: usize| {
        let arrival = super::Arrival { topic: topic.clone(), ..arrival() };
        stored(0, arrival, "d1", format!("[{}]", vec![r#"{"field":true}"#; readings].join(",")))
    };
    let largest = (64 << 20) / (48 + 2 + topic.len() + r#"{"field":true}"#.len());
    for readings in [largest, largest + 1] {
        let outcome = |limit: usize| {
            let stream = Arc::new(with(|stream| stream.column_limit = limit));
            let mut decoder = Decoder::new(Arc::clone(&stream), InputSchema::declared(&stream)).unwrap();
            decoder.push(Partition(0), &message(readings), Micros(0));
            decoder.finish().quarantined.len()
        };
        let expected = usize::from(readings > largest);
        assert_eq!((outcome(0), outcome(9)), (expected, expected), "{readings}");
    }
}

#[test]
fn a_row_that_fails_only_beside_others_costs_nothing() {
    let stream = strict(9, Some("select * from input where n <> 0 and 6 / n > 0"));
    let payloads = [r#"[{"must":1,"n":0},{"must":1,"n":1}]"#, r#"{"must":1,"n":2}"#];
    let alone: Vec<_> =
        (0..2).map(|at| decode(&stream, &[vec![payloads[at].to_owned()], vec![], vec![]], &WHOLE)).collect();
    assert_eq!((alone[0][&(0, 0)], alone[1][&(0, 0)]), (Ok(1), Ok(1)));
    let together = decode(&stream, &[payloads.map(str::to_owned).to_vec(), vec![], vec![]], &WHOLE);
    assert_eq!((together[&(0, 0)], together[&(0, 1)]), (Ok(1), Ok(1)));
}

const WHOLE: Way = Way { turns: Vec::new(), taught: 0, for_table: false };
