use super::number::{double, long, scaled};
use super::{DEPTH_MAX, Document, FIELDS_MAX, Kind, Value};
use millstream_model::quarantine::Reason;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::{collection, sample};

/// What the scanner says: `None` if it accepts.
fn flaw(text: &str) -> Option<Reason> {
    Document::default().scan(text).err().map(|flaw| flaw.reason)
}

const GOOD: &[&str] = &[
    "1",
    " 1 ",
    "\t\r\n1",
    "-0",
    "0.0",
    "1e5",
    "1E+5",
    "1e-5",
    "1e400",
    "-1.5e-3",
    "true",
    "false",
    "null",
    r#""""#,
    r#""ä€😀""#,
    r#""\u0000""#,
    r#""\ud83d\ude00""#,
    r#""\"\\\/\b\f\n\r\t\u00e4""#,
    "[]",
    "[ ]",
    "[1,[2],{}]",
    "{}",
    "{ }",
    r#"{"a" : 1 , "b":[ ]}"#,
    "\"\u{7f}\"",
    "9007199254740993",
];

const BAD: &[&str] = &[
    "",
    " ",
    "nul",
    "nulll",
    "True",
    "NaN",
    "Infinity",
    "-Infinity",
    "-",
    "+1",
    "01",
    "-01",
    "1.",
    ".5",
    "1e",
    "1e+",
    "0x1",
    "1 2",
    "[1]]",
    "[",
    "]",
    "[1",
    "[1,",
    "[1,]",
    "[,1]",
    "[1 2]",
    "{",
    "}",
    "{]",
    "[}",
    r#"{"a"}"#,
    r#"{"a":}"#,
    r#"{"a":1,}"#,
    r#"{,}"#,
    r#"{"a" 1}"#,
    "{a:1}",
    "{1:1}",
    "{'a':1}",
    r#"""#,
    r#""a"#,
    "\"\n\"",
    "\"\t\"",
    "\"\u{0}\"",
    r#""\x""#,
    r#""\u12""#,
    r#""\u12g4""#,
    r#""\"#,
    r#""\ud83d""#,
    r#""\ude00""#,
    r#""\ud83d\u0041""#,
    r#""\ud83d\ud83d""#,
    r#""\ud83dx""#,
    "\u{feff}1",
    "\u{a0}1",
    "1\u{0}",
    "// x\n1",
    "[1]x",
    r#"{"a":1}{"a":1}"#,
    r#""\u+123""#,
];

#[test]
fn the_grammar_is_rfc_8259_and_nothing_more() {
    for good in GOOD {
        assert_eq!(flaw(good), None, "{good:?}");
    }
    for bad in BAD {
        assert_eq!(flaw(bad), Some(Reason::NotJson), "{bad:?}");
    }
}

#[test]
fn limits_are_exact() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!((flaw(&nested(DEPTH_MAX)), flaw(&nested(DEPTH_MAX + 1))), (None, Some(Reason::TooDeep)));
    assert_eq!(flaw(&"[".repeat(1_000_000)), Some(Reason::TooDeep));
    assert_eq!(flaw(&r#"{"a":"#.repeat(1_000_000)), Some(Reason::TooDeep));

    let object = |fields: usize| {
        format!("{{{}}}", (0..fields).map(|i| format!("\"k{i}\":0")).collect::<Vec<_>>().join(","))
    };
    assert_eq!((flaw(&object(FIELDS_MAX)), flaw(&object(FIELDS_MAX + 1))), (None, Some(Reason::TooWide)));
    let many = format!("[{}]", vec![object(100); 200].join(","));
    assert_eq!(flaw(&many), None, "fields are counted by reading");
    let deep = format!("[{{\"a\":[{}]}}]", vec![object(100); 101].join(","));
    assert_eq!(flaw(&deep), Some(Reason::TooWide), "nested fields count");
}

#[test]
fn a_key_stands_once_in_an_object_however_it_is_written() {
    let wide = |last: &str| {
        format!("{{{},\"{last}\":0}}", (0..40).map(|i| format!("\"k{i}\":0")).collect::<Vec<_>>().join(","))
    };
    for (text, expected) in [
        (r#"{"a":1,"a":2}"#.to_owned(), Some(Reason::DuplicateKey)),
        (r#"{"a":1,"b":2,"\u0061":3}"#.to_owned(), Some(Reason::DuplicateKey)),
        (r#"{"x":[{"a":1,"a":1}]}"#.to_owned(), Some(Reason::DuplicateKey)),
        (r#"{"a":{"a":1},"b":[{"a":1},{"a":2}]}"#.to_owned(), None),
        (r#"{"a":1,"A":2,"":3}"#.to_owned(), None),
        (wide("k17"), Some(Reason::DuplicateKey)),
        (wide("k40"), None),
    ] {
        assert_eq!(flaw(&text), expected, "{text}");
    }
}

#[test]
fn numbers_are_what_they_say_or_nothing() {
    for (raw, expected) in [
        ("21.5", Ok(21.5)),
        ("-0", Ok(-0.0)),
        ("0.1", Ok(0.1)),
        ("9007199254740992", Ok(9_007_199_254_740_992.0)),
        ("9007199254740993", Err(Reason::NotExact)),
        ("-9007199254740993", Err(Reason::NotExact)),
        ("1152921504606846976", Ok(1_152_921_504_606_846_976.0)),
        ("1152921504606846977", Err(Reason::NotExact)),
        ("100000000000000000000000", Err(Reason::NotExact)),
        ("1e23", Ok(1e23)),
        ("9007199254740993.0", Ok(9_007_199_254_740_992.0)),
        ("1e400", Err(Reason::NotFinite)),
        ("-1e400", Err(Reason::NotFinite)),
        ("1e-400", Ok(0.0)),
    ] {
        assert_eq!(double(raw), expected, "{raw}");
    }
    assert_eq!(double(&"9".repeat(400)), Err(Reason::NotFinite));
    for (raw, expected) in [
        ("42", Some(42)),
        ("-9223372036854775808", Some(i64::MIN)),
        ("9223372036854775808", None),
        ("1.0", Some(1)),
        ("1e3", Some(1000)),
        ("12.50e1", Some(125)),
        ("1.5", None),
        ("1.00000000000000000000000000000000000000001", None),
        ("1e19", None),
        ("0e99999999999", Some(0)),
        ("1e99999999999", None),
        ("1e-99999999999", None),
        ("100000000000000000000000000000000000000000e-41", Some(1)),
    ] {
        assert_eq!(long(raw), expected, "{raw}");
    }
    for (raw, places, expected) in [
        ("1700000000.123456", 6, Some((1_700_000_000_123_456, true))),
        ("1700000000.1234567", 6, Some((1_700_000_000_123_456, false))),
        ("1.7e9", 6, Some((1_700_000_000_000_000, true))),
        ("-0.5", 0, Some((0, false))),
        ("9223372036854", 6, Some((9_223_372_036_854_000_000, true))),
        ("9223372036855", 6, None),
    ] {
        assert_eq!(scaled(raw, places), expected, "{raw}");
    }
}

/// A document as serde_json would have it.
fn general(value: Value<'_>) -> serde_json::Value {
    match value.kind() {
        Kind::Null => serde_json::Value::Null,
        Kind::True => true.into(),
        Kind::False => false.into(),
        Kind::Number => serde_json::from_str(value.raw()).unwrap(),
        Kind::Text | Kind::Escaped => value.text().into_owned().into(),
        Kind::Array => value.elements().map(general).collect(),
        Kind::Object => {
            value.members().map(|(key, value)| (key.text().into_owned(), general(value))).collect()
        }
    }
}

/// Both readers say the same of a text. Ours has limits and refuses double keys; serde_json cannot hold 1e400, which is no question of grammar.
fn compare(text: &str) {
    let mut document = Document::default();
    match (document.scan(text), serde_json::from_str::<serde_json::Value>(text)) {
        (Ok(ours), Ok(theirs)) => assert_eq!(general(ours), theirs, "{text:?}"),
        (Err(flaw), Ok(_)) => {
            assert!(matches!(flaw.reason, Reason::DuplicateKey | Reason::TooDeep), "{text:?}: {flaw:?}")
        }
        (Ok(_), Err(error)) => assert!(error.to_string().contains("out of range"), "{text:?}: {error}"),
        (Err(_), Err(_)) => {}
    }
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        (-1000_i32..1000).prop_map(|tenths| (f64::from(tenths) / 8.0).into()),
        "[a-c\\\\\"\u{0}\n/ä😀]{0,4}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            collection::btree_map("[a-c\"\\\\]{0,2}", inner, 0..5)
                .prop_map(|members| members.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn agrees_with_serde_json_on_documents(value in json()) {
        compare(&value.to_string());
        compare(&serde_json::to_string_pretty(&value).unwrap());
    }

    #[test]
    fn agrees_with_serde_json_on_damaged_documents(
        value in json(),
        damage in collection::vec((any::<sample::Index>(), sample::select("{}[]\",:\\ud8/0129.eE+-tfn \n\u{1}ä".chars().collect::<Vec<_>>()), 0..3), 1..4),
    ) {
        let mut text: Vec<char> = value.to_string().chars().collect();
        for (place, with, how) in damage {
            let at = place.index(text.len() + 1);
            match how {
                0 => text.insert(at, with),
                1 if at < text.len() => text[at] = with,
                _ if at < text.len() => { text.remove(at); }
                _ => {}
            }
        }
        compare(&text.into_iter().collect::<String>());
    }

    #[test]
    fn agrees_with_serde_json_on_fragments(text in "[\\[\\]{}\",:0-9.eE+\\-\\\\utrfalsn ]{0,24}") {
        compare(&text);
    }
}
