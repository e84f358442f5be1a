//! Messages of version 1 as bytes. Another version has to read them, and to write the same bytes
//! for the same content: clients and servers are not replaced at one time.

use std::fmt::{Debug, Write};

use prost::Message;

use super::{codec::with_checksum, messages::*};

/// One message a line: its name, and its bytes with the checksum as hexadecimal digits. A file that
/// is there never changes, so messages that came later are in files of their own.
const VERSION_1: [&str; 2] = [
    include_str!("../../samples/version-1.txt"),
    include_str!("../../samples/version-1-feeds.txt"),
];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = (0..hex.len()).step_by(2);
    digits.map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn identity() -> Option<Identity> {
    Some(Identity { log: vec![7; 16], epoch: 1 << 32 | 9 })
}

fn filter() -> Option<Filter> {
    let item = FilterItem { types: vec!["opened".into()], tags: vec!["account:ann".into()] };
    Some(Filter { items: vec![item, FilterItem::default()] })
}

fn event() -> Event {
    Event {
        r#type: "opened".into(),
        version: 2,
        tags: vec!["account:ann".into()],
        payload: b"{}".to_vec(),
        id: vec![1; 16],
        occurred_at: Some(-5),
        correlation: vec![2; 16],
        causation: vec![3; 16],
        actor: Some("ann".into()),
        extra: [("device".into(), "phone".into())].into(),
    }
}

fn encoded() -> Option<EncodedEvents> {
    Some(EncodedEvents {
        bytes: vec![0, 1, b'a', 0].into(),
        sizes: vec![4],
        position_steps: vec![0],
        time_steps: vec![1_700_000_000_000_000],
        base: 300,
    })
}

fn key() -> Option<Key> {
    Some(Key { name: "request-1".into(), digest: vec![4; 16] })
}

fn tracking() -> Option<Tracking> {
    Some(Tracking { source: "orders".into(), origin: identity(), position: 12 })
}

fn unavailable() -> Unavailable {
    let (text, changed_to) = ("no".into(), identity());
    Unavailable { text, failed: true, closed: true, changed_to, temporary: true, storage: None }
}

fn call() -> Call {
    Call {
        number: 3,
        events: vec![event()],
        encoded: encoded(),
        conditions: vec![Condition { fail_if: filter(), after: 8 }],
        key: key(),
        tracking: tracking(),
        recorded_at: Some(-1),
        ..Call::default()
    }
}

fn failure(kind: failure::Kind) -> Failure {
    Failure { kind: Some(kind), head: 5 }
}

fn conflict() -> Failure {
    let conflict = Conflict { at: 9, after: 8 };
    failure(failure::Kind::Refusal(Refusal { kind: Some(refusal::Kind::Conflict(conflict)) }))
}

fn append_reply() -> AppendReply {
    let reply = |number, outcome| CallReply { number, outcome: Some(outcome) };
    let accepted = Accepted { first: 9, last: 10, recorded_at: -7, synced: true };
    AppendReply {
        opened: Some(SessionOpened { resumed: true, instance: vec![5; 16], entry: vec![8; 16] }),
        replies: vec![
            reply(1, call_reply::Outcome::Accepted(accepted)),
            reply(2, call_reply::Outcome::Synced(Synced {})),
            reply(3, call_reply::Outcome::Failure(conflict())),
        ],
        head: 10,
        ..AppendReply::default()
    }
}

fn read_reply() -> ReadReply {
    let recorded = RecordedEvent { position: 300, recorded_at: -7, event: Some(event()) };
    ReadReply {
        encoded: encoded(),
        events: vec![recorded],
        upto: 301,
        commit_end: 300,
        head: 400,
        ..ReadReply::default()
    }
}

fn feed_event() -> FeedEvent {
    FeedEvent {
        specversion: "1.0".into(),
        id: "00000000000000000300-1".into(),
        source: "diptych:07/1/orders".into(),
        r#type: "order-accepted.v1".into(),
        subject: Some("order:7".into()),
        time: Some(-5),
        datacontenttype: Some("application/json".into()),
        data: b"{}".to_vec(),
        sequence: "00000000000000000300".into(),
        previous: "00000000000000000298".into(),
        partitionkey: Some("order:7".into()),
        eventid: vec![1; 16],
        correlationid: vec![2; 16],
        causationid: vec![3; 16],
        hops: 2,
        via: "payment".into(),
    }
}

fn feed_page_request(after: feed_page_request::After) -> FeedPageRequest {
    let (feed, after) = ("orders".into(), Some(after));
    FeedPageRequest { feed, after, limit: 256, wait_ms: 30_000, ..FeedPageRequest::default() }
}

/// Checks a message against its line, or adds it to the lines that are missing.
fn compare<M: Sample>(name: &str, message: M, missing: &mut String) {
    let mut lines = VERSION_1.iter().flat_map(|file| file.lines());
    let line = lines.find_map(|line| line.strip_prefix(&format!("{name} ")));
    let Some(line) = line else {
        let _ = writeln!(missing, "{name} {}", hex(&message.bytes()));
        return;
    };
    assert_eq!(line, hex(&message.bytes()), "{name} is written in another way");
    let read = M::decode(&*bytes(line)).unwrap();
    assert_eq!(read.without_checksum(), message, "{name} is read in another way");
}

/// A message with or without a checksum.
trait Sample: Message + Default + PartialEq + Debug {
    fn bytes(&self) -> Vec<u8>;
    fn without_checksum(self) -> Self;
}

macro_rules! checksummed {
    ($($message:ident)*) => {$(
        impl Sample for $message {
            fn bytes(&self) -> Vec<u8> {
                with_checksum(self)
            }

            fn without_checksum(self) -> $message {
                $message { message_crc32c: None, ..self }
            }
        }
    )*};
}

checksummed! {
    AppendReply AppendRequest Call Description FeedPageReply FeedPageRequest HeadReply
    ReadCommitsReply ReadReply ReadRequest SubscribeReply
}

impl Sample for Failure {
    fn bytes(&self) -> Vec<u8> {
        self.encode_to_vec()
    }

    fn without_checksum(self) -> Failure {
        self
    }
}

fn compare_pages(lines: &mut String) {
    let places = [
        ("position", feed_page_request::After::Position(300)),
        ("event", feed_page_request::After::Event(FeedPlace { position: 300, part: 1 })),
        ("end", feed_page_request::After::End(FeedEnd {})),
    ];
    for (name, after) in places {
        compare(&format!("feed-page-request-{name}"), feed_page_request(after), lines);
    }
    let page = FeedPageReply {
        identity: identity(),
        events: vec![feed_event()],
        upto: 301,
        head: 400,
        ..FeedPageReply::default()
    };
    compare("feed-page-reply", page, lines);
}

#[test]
fn messages_of_version_1_are_read_and_written_as_ever() {
    let mut missing = String::new();
    let lines = &mut missing;
    compare("call", call(), lines);
    let open = OpenSession { session: vec![6; 16], identity: identity() };
    let request =
        AppendRequest { open: Some(open), calls: vec![call()], settled: 2, ..Default::default() };
    compare("append-request", request, lines);
    compare("append-reply", append_reply(), lines);
    let description = Description {
        identity: identity(),
        limits: Some(super::limits_message(&diptych_store::Limits::default())),
        head: 4,
        instance: vec![5; 16],
        version: "0.1.0".into(),
        ..Description::default()
    };
    compare("description", description, lines);
    let head = HeadReply {
        identity: identity(),
        head: 4,
        paused: Some(unavailable()),
        ..Default::default()
    };
    compare("head-reply", head, lines);
    let read = ReadRequest {
        filter: filter(),
        after: 1,
        upto: Some(0),
        backwards: true,
        limit: Some(0),
        batches: 2,
        as_messages: true,
        ..ReadRequest::default()
    };
    compare("read-request", read, lines);
    compare("read-reply", read_reply(), lines);
    let facts =
        CommitFacts { last: 300, events: 1, recorded_at: -7, key: key(), tracking: tracking() };
    let commits = ReadCommitsReply {
        encoded: encoded(),
        commits: vec![facts],
        upto: 300,
        head: 400,
        ..ReadCommitsReply::default()
    };
    compare("read-commits-reply", commits, lines);
    let deliveries = [
        ("batch", subscribe_reply::Delivery::Batch(read_reply())),
        ("caught-up", subscribe_reply::Delivery::CaughtUp(CaughtUp { upto: 3 })),
        ("fell-behind", subscribe_reply::Delivery::FellBehind(FellBehind { by: 3 })),
        ("heartbeat", subscribe_reply::Delivery::Heartbeat(Heartbeat { upto: 3 })),
    ];
    for (name, delivery) in deliveries {
        let reply = SubscribeReply { delivery: Some(delivery), ..SubscribeReply::default() };
        compare(&format!("subscribe-reply-{name}"), reply, lines);
    }
    compare_pages(lines);
    compare("failure-refused", conflict(), lines);
    let unknown = failure(failure::Kind::OutcomeUnknown(unavailable()));
    compare("failure-outcome-unknown", unknown, lines);
    let above = AboveHead { position: 9, head: 8 };
    let invalid = Invalid { kind: Some(invalid::Kind::AboveHead(above)) };
    compare("failure-above-head", failure(failure::Kind::Invalid(invalid)), lines);
    assert!(missing.is_empty(), "the files of version 1 lack:\n{missing}");
}
