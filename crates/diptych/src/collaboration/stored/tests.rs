//! The stored forms, as every later release has to read them.

use diptych_store::{LogId, LogIdentity, Position};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::*;
use crate::collaboration::cloud_event::{EventPlace, FeedName};

/// Checks that a record is written as this event, and is read from it.
#[track_caller]
fn assert_stored<R>(name: &'static str, of: &R, stored: &str)
where
    R: Serialize + DeserializeOwned,
{
    let event = record(name, "parcels", of, Metadata::default()).unwrap();
    assert_eq!((&*event.event_type, event.version), (name, 1));
    let tags: Vec<_> = event.tags.iter().map(Tag::as_str).collect();
    assert_eq!(tags, ["diptych:intake:parcels"]);
    assert_eq!(std::str::from_utf8(&event.payload).unwrap(), stored);
    let read: R = serde_json::from_str(stored).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), stored);
}

#[test]
fn types_tags_and_names_of_metadata_keep_their_words() {
    assert_eq!(
        [STARTED, PARKED, ANSWERED, RESUMED],
        [
            "diptych:intake-started",
            "diptych:intake-parked",
            "diptych:intake-answered",
            "diptych:intake-resumed",
        ]
    );
    assert_eq!((FEED, FEED_EVENT), ("diptych:feed", "diptych:feed-event"));
    assert_eq!(place_source("parcels"), "diptych:intake:parcels");
}

#[test]
fn a_started_intake_keeps_its_stored_form() {
    let started = StartedRecord {
        intake: "parcels".to_owned(),
        types: vec!["order-accepted".to_owned(), "order-closed".to_owned()],
        source: "https://ordering.example/feeds/orders".to_owned(),
    };
    let stored = concat!(
        r#"{"intake":"parcels","types":["order-accepted","order-closed"],"#,
        r#""source":"https://ordering.example/feeds/orders"}"#,
    );
    assert_stored(STARTED, &started, stored);
    assert_eq!(serde_json::from_str::<StartedRecord>(stored).unwrap(), started);
}

/// A published event with every attribute.
fn published() -> CloudEvent {
    let id = LogId::from_bytes([7; 16]);
    let log = LogIdentity { id, epoch: diptych_store::Epoch::from_u64(3) };
    let feed = FeedName { log, feed: "orders".to_owned() };
    let place = EventPlace { position: Position::new(42), part: 1 };
    let data = RawValue::from_string(r#"{"order": 7}"#.to_owned()).unwrap();
    let event_type = "order-accepted.v2".to_owned();
    let mut event = CloudEvent::new(&feed, place, Position::new(40), event_type, data);
    event.subject = Some("order:7".to_owned());
    event.partitionkey = event.subject.clone();
    event.time = Some(diptych_store::Timestamp::from_micros(1));
    event.eventid = Some(Uuid::from_u128(1));
    event.correlationid = Some(Uuid::from_u128(2));
    event.causationid = Some(Uuid::from_u128(3));
    event.hops = 2;
    event.via = "a@x b@y".to_owned();
    event
}

/// The payload stays as the other service wrote it, with its blanks.
const PUBLISHED: &str = concat!(
    r#"{"specversion":"1.0","id":"00000000000000000042-1","#,
    r#""source":"/logs/07070707-0707-0707-0707-070707070707/3/feeds/orders","#,
    r#""type":"order-accepted.v2","subject":"order:7","time":"1970-01-01T00:00:00.000001Z","#,
    r#""datacontenttype":"application/json","data":{"order": 7},"#,
    r#""sequence":"00000000000000000042","previous":"00000000000000000040","#,
    r#""partitionkey":"order:7","eventid":"00000000-0000-0000-0000-000000000001","#,
    r#""correlationid":"00000000-0000-0000-0000-000000000002","#,
    r#""causationid":"00000000-0000-0000-0000-000000000003","hops":2,"via":"a@x b@y"}"#,
);

#[test]
fn a_parked_event_keeps_its_stored_form() {
    let mut parked = ParkedRecord {
        intake: "parcels".to_owned(),
        subject: "order:7".to_owned(),
        reason: Some("no such order".to_owned()),
        event: published(),
    };
    let stored = |reason: &str| {
        format!(
            r#"{{"intake":"parcels","subject":"order:7","reason":{reason},"event":{PUBLISHED}}}"#
        )
    };
    assert_stored(PARKED, &parked, &stored(r#""no such order""#));
    parked.reason = None;
    assert_stored(PARKED, &parked, &stored("null"));
}

#[test]
fn a_parked_event_with_the_needed_attributes_alone_is_read() {
    let stored = concat!(
        r#"{"intake":"parcels","subject":"","reason":null,"event":{"specversion":"1.0","#,
        r#""id":"00000000000000000042","source":"/logs/x","type":"a","data":null,"#,
        r#""sequence":"00000000000000000042","previous":"00000000000000000000"}}"#,
    );
    let parked: ParkedRecord = serde_json::from_str(stored).unwrap();
    assert_eq!((parked.event.hops, parked.event.subject), (0, None));
}

#[test]
fn answers_keep_their_stored_form() {
    let answers = [
        (StoredIntakeAnswer::Retry, r#""retry""#),
        (StoredIntakeAnswer::Skip, r#""skip""#),
        (
            StoredIntakeAnswer::Replace(serde_json::json!({ "order": 7 })),
            r#"{"replace":{"order":7}}"#,
        ),
    ];
    for (answer, text) in answers {
        let answered = AnsweredRecord {
            intake: "parcels".to_owned(),
            subject: "order:7".to_owned(),
            parked_at: 12,
            answer,
            who: "ann".to_owned(),
            why: "a test order".to_owned(),
        };
        let stored = format!(
            concat!(
                r#"{{"intake":"parcels","subject":"order:7","parked_at":12,"answer":{},"#,
                r#""who":"ann","why":"a test order"}}"#,
            ),
            text
        );
        assert_stored(ANSWERED, &answered, &stored);
        assert_eq!(serde_json::from_str::<AnsweredRecord>(&stored).unwrap(), answered);
    }
}

#[test]
fn resumptions_keep_their_stored_form() {
    let mut resumed = ResumedRecord {
        intake: "parcels".to_owned(),
        subject: "order:7".to_owned(),
        upto: Some(14),
        reason: None,
        goes_on: false,
    };
    let stored = r#"{"intake":"parcels","subject":"order:7","upto":14,"reason":null}"#;
    assert_stored(RESUMED, &resumed, stored);
    (resumed.upto, resumed.reason) = (None, Some("still no such order".to_owned()));
    let stored =
        r#"{"intake":"parcels","subject":"order:7","upto":null,"reason":"still no such order"}"#;
    assert_stored(RESUMED, &resumed, stored);
    (resumed.upto, resumed.reason, resumed.goes_on) = (Some(14), None, true);
    let stored =
        r#"{"intake":"parcels","subject":"order:7","upto":14,"reason":null,"goes_on":true}"#;
    assert_stored(RESUMED, &resumed, stored);
}
