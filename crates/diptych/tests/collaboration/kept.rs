//! A log of an earlier release: its events of intakes are read, and answers in it are followed.

use diptych::{
    App, Memory, Store, Tag,
    collaboration::{IntakeAnswer, IntakeAnswerError, IntakeOperations, IntakeStart},
    store::{Append, Metadata, RawEvent, Tracking},
};

use super::services::{Shipments, ToShipments, orders, quick, shipments, until};

/// An event of the intake `shipments`, byte by byte as it was written.
fn kept(event_type: &'static str, payload: String) -> RawEvent {
    let event = RawEvent::new(event_type, payload.into_bytes());
    event.tag(Tag::new("diptych", "intake:shipments"))
}

/// A published event as it was parked.
fn parked(source: &str, position: u64, order: u64, reason: &str) -> RawEvent {
    let payload = format!(
        concat!(
            r#"{{"intake":"shipments","subject":"order:{order}","reason":{reason},"event":{{"#,
            r#""specversion":"1.0","id":"{position:020}","source":"{source}","#,
            r#""type":"order-accepted.v1","subject":"order:{order}","#,
            r#""time":"2026-01-01T00:00:00Z","datacontenttype":"application/json","#,
            r#""data":{{"order":{order},"cents":5}},"sequence":"{position:020}","#,
            r#""previous":"{before:020}","partitionkey":"order:{order}","#,
            r#""eventid":"00000000-0000-0000-0000-00000000000{position}","#,
            r#""correlationid":"00000000-0000-0000-0000-000000000009"}}}}"#,
        ),
        order = order,
        reason = reason,
        position = position,
        before = position - 1,
        source = source,
    );
    kept("diptych:intake-parked", payload)
}

const STARTED: &str = r#"{"intake":"shipments","types":["order-accepted"],"source":"orders"}"#;

fn resumed(order: u64, upto: u64) -> RawEvent {
    let payload = format!(
        r#"{{"intake":"shipments","subject":"order:{order}","upto":{upto},"reason":null}}"#
    );
    kept("diptych:intake-resumed", payload)
}

#[tokio::test]
async fn the_events_of_intakes_of_an_earlier_release_are_read_and_its_answers_followed() {
    let (ordering, feed) = orders(4).await;
    let log = ordering.identity();
    let source = format!("/logs/{}/{}/feeds/orders", log.id, log.epoch.to_u64());
    let answered = |parked_at: u64, order: u64, answer: &str| {
        let payload = format!(
            concat!(
                r#"{{"intake":"shipments","subject":"order:{}","parked_at":{},"answer":{},"#,
                r#""who":"ann","why":"corrected"}}"#,
            ),
            order, parked_at, answer
        );
        let actor = Metadata { actor: Some("ann".into()), ..Metadata::default() };
        kept("diptych:intake-answered", payload).metadata(actor)
    };
    let events = vec![
        kept("diptych:intake-started", STARTED.to_owned()),
        parked(&source, 1, 7, r#""no stock""#),
        parked(&source, 2, 7, "null"),
        parked(&source, 3, 8, r#""no stock""#),
        answered(4, 8, r#""skip""#),
        resumed(8, 4),
        parked(&source, 4, 6, r#""no stock""#),
        answered(2, 7, r#""retry""#),
    ];
    let store = Store::new(Memory::new());
    let place = Tracking::new("diptych:intake:shipments", 4).origin(log);
    let written = store.append(Append::events(events).tracking(place)).await.unwrap();
    written.synced().await.unwrap();

    // The answer of the log lets both events of order 7 in, and order 6 waits for its own.
    let app = App::over_store(store.clone()).view::<Shipments>();
    let app = app.intake_with::<ToShipments>(feed, IntakeStart::Beginning, quick());
    let app = app.start().await.unwrap();
    let status = until(&app, "shipments", |status| status.waiting == 1).await;
    assert_eq!(status.position.get(), 4);
    assert_eq!(shipments(&app).await.sums, [(7, 10)].into());
    let intake = app.intake("shipments").unwrap();
    let letters = intake.letters().await.unwrap();
    let letter = &letters[0];
    assert_eq!((letters.len(), letter.subject.as_str()), (1, "order:6"));
    assert_eq!((letter.parked_at.get(), letter.reason.as_str()), (7, "no stock"));
    assert!(intake.unreadable_letters().await.unwrap().is_empty());
    intake.answer(letter, IntakeAnswer::Retry, "ann", "corrected").await.unwrap();
    until(&app, "shipments", |status| status.waiting == 0).await;
    assert_eq!(shipments(&app).await.sums, [(6, 5), (7, 10)].into());
}

#[tokio::test]
async fn a_parked_event_that_cannot_be_read_is_listed_and_takes_no_answer() {
    let source = "/logs/0197c5b0-0000-7000-8000-000000000000/1/feeds/orders";
    let damaged = || kept("diptych:intake-parked", "no JSON".to_owned());
    let newer = |order| parked(source, 1, order, r#""no stock""#).version(2);
    let answer = concat!(
        r#"{"intake":"shipments","subject":"order:5","parked_at":6,"answer":"skip","#,
        r#""who":"ann","why":"a test"}"#,
    );
    let events = vec![
        kept("diptych:intake-started", STARTED.to_owned()),
        parked(source, 1, 7, r#""no stock""#),
        damaged(),
        newer(8),
        newer(9),
        damaged(),
        // Newer programs have followed answers to two of them.
        resumed(9, 5),
        kept("diptych:intake-answered", answer.to_owned()),
        resumed(5, 6),
        // An answer that cannot be read is no letter.
        kept("diptych:intake-answered", "no JSON".to_owned()),
    ];
    let store = Store::new(Memory::new());
    store.append(Append::events(events)).await.unwrap().synced().await.unwrap();
    let operations = IntakeOperations::over(store.clone());
    let letters = operations.letters(Some("shipments")).await.unwrap();
    let listed = letters
        .iter()
        .map(|letter| (letter.parked_at.get(), letter.subject.as_str(), letter.event.is_some()));
    let listed: Vec<_> = listed.collect();
    assert_eq!(listed, [(2, "order:7", true), (3, "", false), (4, "order:8", false)]);
    assert_eq!(letters[0].reason, "no stock");
    for letter in &letters[1..] {
        assert!(letter.reason.contains("cannot be read"), "{}", letter.reason);
        let head = store.head();
        let skipped = operations.answer(letter, IntakeAnswer::Skip, "ann", "why").await;
        let error = skipped.unwrap_err();
        assert!(matches!(error, IntakeAnswerError::Unreadable { .. }), "{error}");
        assert!(error.to_string().contains("as new as the one that wrote it"), "{error}");
        assert_eq!(store.head().position(), head.position());
    }
}
