use diptych_store::{Append, Memory, Read, Store};
use pollster::block_on;
use proptest::{collection::btree_map, prelude::*};

use super::*;

fn printed(event: RawEvent) -> String {
    block_on(async {
        let store = Store::new(Memory::new());
        store.append(Append::event(event)).await.unwrap().synced().await.unwrap();
        let batch = store.read(&diptych_store::Filter::everything(), Read::all()).await.unwrap();
        let mut line = Vec::new();
        write(&batch.get(0).unwrap(), &mut line).unwrap();
        String::from_utf8(line).unwrap()
    })
}

fn parse(line: &[u8]) -> Result<RawEvent, LineError> {
    super::parse(line, RecordedTime::AsOccurred)
}

fn problem(line: &str) -> String {
    parse(line.as_bytes()).unwrap_err().to_string()
}

#[test]
fn the_shortest_event_is_a_type_and_data() {
    let event = parse(br#"{"type":"opened","data":null}"#).unwrap();
    assert_eq!(event, RawEvent::new("opened", b"null"));
}

#[test]
fn data_is_kept_byte_by_byte() {
    let event = parse(br#" {"data" :  {"b": 1.50,  "a":1e3, "a":"\u00e4"}  ,"type":"t"} "#);
    assert_eq!(event.unwrap().payload, br#"{"b": 1.50,  "a":1e3, "a":"\u00e4"}"#);
}

#[test]
fn every_field_is_read() {
    let line = r#"{"position":7,"recorded_at":"2014-01-01T00:00:00Z","type":"t","version":3,
        "tags":["a:1","b:2"],"data":1,"id":"00000000-0000-0000-0000-000000000001",
        "occurred_at":"2013-01-01T11:15:00+01:00","metadata":{
        "correlation":"00000000-0000-0000-0000-000000000002",
        "causation":"00000000-0000-0000-0000-000000000003","actor":"ann","ip":"::1"}}"#;
    let event = parse(line.as_bytes()).unwrap();
    assert_eq!((event.version, event.id), (3, Some(Uuid::from_u128(1))));
    assert_eq!(event.tags, [Tag::new("a", 1), Tag::new("b", 2)]);
    let metadata = event.metadata;
    assert_eq!(metadata.occurred_at.unwrap().to_string(), "2013-01-01T10:15:00Z");
    assert_eq!(metadata.correlation, Some(Uuid::from_u128(2)));
    assert_eq!(metadata.causation, Some(Uuid::from_u128(3)));
    assert_eq!(metadata.actor.as_deref(), Some("ann"));
    assert_eq!(metadata.extra.get("ip").map(|text| text.as_str()), Some("::1"));
}

#[test]
fn errors_name_the_wrong_field() {
    for (line, said) in [
        (r#"{"type":"t"}"#, "data is missing"),
        (r#"{"data":1}"#, "missing field `type`"),
        (r#"{"type":"t","data":1,"data_base64":""}"#, "not both"),
        (r#"{"type":"t","data_base64":"%"}"#, "data_base64"),
        (r#"{"type":"t","data":1,"tag":["a:1"]}"#, "unknown field `tag`"),
        (r#"{"type":"t","data":1,"type":"t"}"#, "duplicate field `type`"),
        (r#"{"type":"t","data":1,"tags":["a"]}"#, "tags: \"a\" is not a tag"),
        (r#"{"type":"t","data":1,"id":"7"}"#, "id: \"7\" is not a UUID"),
        (r#"{"type":"t","data":1,"occurred_at":"now"}"#, "occurred_at: \"now\""),
        (r#"{"type":"t","data":1,"metadata":{"n":1}}"#, "\"n\" is not a text"),
        (r#"{"type":"t","data":1,"metadata":{"causation":""}}"#, "metadata.causation"),
        (r#"{"type":"t","data":{"a":}}"#, "expected value (column 25)"),
        (r#"{"type":"t","data":1} 2"#, "trailing characters"),
        ("[1]", "an event is a JSON object"),
        (r#" ["a",["k:v"],{"x":1},null,null,null,null,null,null,null]"#, "a JSON object"),
    ] {
        let problem = problem(line);
        assert!(problem.contains(said), "{line}: {problem}");
        assert!(!problem.contains("at line"), "{problem}");
    }
}

#[test]
fn absent_fields_are_not_printed() {
    let line = printed(RawEvent::new("opened", br#"{"by": "ann"}"#).tag(Tag::new("a", 1)));
    let (start, rest) = line.split_once(r#","type""#).unwrap();
    assert!(start.starts_with(r#"{"position":1,"recorded_at":"20"#), "{line}");
    assert_eq!(rest, ":\"opened\",\"tags\":[\"a:1\"],\"data\":{\"by\": \"ann\"}}\n");
}

#[test]
fn a_payload_that_is_not_one_line_of_json_is_printed_as_base64() {
    for payload in [&b""[..], b"\xff", b"not json", b"[1,\n2]", b" 1", b"1 "] {
        let line = printed(RawEvent::new("t", payload));
        assert!(line.contains("data_base64"), "{line}");
        assert_eq!(parse(line.as_bytes()).unwrap().payload, payload);
    }
}

#[test]
fn an_event_of_the_largest_size_fits_in_a_line() {
    let limits = Limits::default();
    let tag = |n| Tag::new("t", format!("{n:03}{}", "\u{1}".repeat(limits.tag_bytes - 5)));
    let mut event = RawEvent::new("\u{1}".repeat(limits.type_bytes), vec![b'x'; 4_000_000]);
    event.tags = (0..limits.tags_per_event).map(tag).collect();
    event.metadata.actor = Some("\u{1}".repeat(limits.metadata_bytes).into());
    assert!(printed(event).len() <= line_bytes(&limits));
}

/// An older log accepted such instants, and prints them as a number.
#[test]
fn a_time_outside_of_the_calendar_is_copied_as_the_nearest_one_with_its_number_kept() {
    for (number, nearest) in [(i64::MAX, Timestamp::MAX), (i64::MIN, Timestamp::MIN)] {
        let line = format!(r#"{{"type":"t","data":1,"occurred_at":"{number} us"}}"#);
        let event = parse(line.as_bytes()).unwrap();
        assert_eq!(event.metadata.occurred_at, Some(nearest));
        assert_eq!(event.metadata.extra["occurred_at"], format!("{number} us"));
        // Printed and parsed again, it stays as it is.
        assert_eq!(
            parse(printed(event.clone()).as_bytes()).unwrap().metadata.occurred_at,
            Some(nearest)
        );
    }
    let last = r#"{"type":"t","data":1,"occurred_at":"9999-12-31T23:59:59.999999Z"}"#;
    let event = parse(last.as_bytes()).unwrap();
    assert_eq!(event.metadata.occurred_at, Some(Timestamp::MAX));
    assert!(event.metadata.extra.is_empty());
    assert!(printed(event).contains("\"occurred_at\":\"9999-12-31T23:59:59.999999Z\""));
}

fn events() -> impl Strategy<Value = RawEvent> {
    let micros = -60_000_000_000_000_000..200_000_000_000_000_000_i64;
    let name = "[a-z]{0,3}\\PC{0,4}x";
    let uuid = || proptest::option::of(any::<u128>().prop_map(Uuid::from_u128));
    let json = r#"(\{"a": ?[0-9]\}|"[a-z]*"|null|[1-9]{1,5}|\[ ?\])"#.prop_map(String::into_bytes);
    let payload = prop_oneof![json, proptest::collection::vec(any::<u8>(), 0..40)];
    let tags = proptest::collection::btree_set("[a-z]{1,3}:\\PC{1,9}", 0..4);
    let metadata = (
        proptest::option::of(micros.prop_map(Timestamp::from_micros)),
        (uuid(), uuid()),
        proptest::option::of(".{0,9}"),
        btree_map(name, ".{0,9}", 0..4),
    );
    (name, any::<u32>(), tags, payload, uuid(), metadata).prop_map(
        |(event_type, version, tags, payload, id, metadata)| {
            let (occurred_at, (correlation, causation), actor, extra) = metadata;
            let extra = extra.into_iter().map(|(name, text)| (name.into(), text.into()));
            RawEvent {
                event_type: event_type.into(),
                version,
                tags: tags.iter().map(|tag| Tag::parse(tag).unwrap()).collect(),
                payload,
                id,
                metadata: Metadata {
                    occurred_at,
                    correlation,
                    causation,
                    actor: actor.map(Into::into),
                    extra: extra.collect(),
                },
            }
        },
    )
}

proptest! {
    #[test]
    fn a_printed_event_parses_to_an_equal_event_with_its_time(mut event in events()) {
        let line = printed(event.clone());
        prop_assert_eq!(line.matches('\n').count(), 1);
        let fields: Value = serde_json::from_str(&line).unwrap();
        let recorded: Timestamp = fields["recorded_at"].as_str().unwrap().parse().unwrap();
        event.metadata.occurred_at.get_or_insert(recorded);
        prop_assert_eq!(&parse(line.as_bytes()).unwrap(), &event);
        let kept = super::parse(line.as_bytes(), RecordedTime::InMetadata).unwrap();
        let name = RECORDED_AT.into();
        event.metadata.extra.entry(name).or_insert_with(|| recorded.to_string().into());
        prop_assert_eq!(kept, event);
    }

    #[test]
    fn no_line_makes_the_parser_panic(line in proptest::collection::vec(any::<u8>(), 0..100)) {
        let _ = parse(&line);
    }
}
