//! The calls of the protocol as a client in any language makes them.

use std::{future::Future, time::Duration};

use diptych_remote::wire::messages::{
    AppendRequest, Call, Condition, CountRequest, DescribeRequest, Event, Filter as FilterMessage,
    FilterItem, FindKeyRequest, Key, ReadCommitsRequest, ReadReply, ReadRequest, SubscribeRequest,
    WatchRequest, call_reply, failure, log_client::LogClient, subscribe_reply::Delivery,
};
use diptych_remote::wire::{HISTORY_HEADER, LOG_HEADER, from_status, history_header};
use diptych_store::{
    Append, Epoch, Filter, Limits, LogIdentity, Memory, RawEvent, Read, Store, Tag,
};
use tokio::{runtime::Runtime, time::timeout};
use tonic::{Code, Request, Streaming, transport::Channel};

use crate::{append_stream::open_session, served_log::ServedLog};

/// A client of a server over a store in memory.
struct Raw {
    runtime: Runtime,
    log: LogClient<Channel>,
    store: Store,
    served: ServedLog,
}

impl Raw {
    fn new(memory: Memory) -> Raw {
        let store = Store::new(memory);
        let served = ServedLog::start(store.clone());
        let runtime = Runtime::new().unwrap();
        let endpoint =
            tonic::transport::Endpoint::from_shared(format!("http://{}", served.address));
        let log = runtime.block_on(endpoint.unwrap().connect()).unwrap();
        Raw { runtime, log: LogClient::new(log), store, served }
    }

    /// A log with events of the tags `n:0` to `n:4` in turn, two in each commit.
    fn filled(events: u64) -> Raw {
        let mut limits = Limits::default();
        limits.batch_events = 7;
        let raw = Raw::new(Memory::new().limits(limits));
        for number in (0..events).step_by(2) {
            let events = [number, number + 1].map(|number| {
                RawEvent::new("counted", number.to_string()).tag(Tag::new("n", number % 5))
            });
            let _ = pollster::block_on(raw.store.append(Append::events(events))).unwrap();
        }
        raw
    }

    fn run<T>(&self, ask: impl AsyncFnOnce(LogClient<Channel>) -> T) -> T {
        self.runtime.block_on(ask(self.log.clone()))
    }
}

async fn all<T>(mut stream: Streaming<T>) -> Vec<T> {
    let mut messages = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        messages.push(message);
    }
    messages
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), future).await.expect("an answer in time")
}

fn tagged(tag: &str) -> Option<FilterMessage> {
    let item = FilterItem { types: Vec::new(), tags: vec![tag.to_owned()] };
    Some(FilterMessage { items: vec![item] })
}

fn positions(replies: &[ReadReply]) -> Vec<u64> {
    let events = replies.iter().flat_map(|reply| &reply.events);
    events.map(|event| event.position).collect()
}

#[test]
fn a_read_sends_one_batch_after_another_up_to_the_head_and_ends() {
    let raw = Raw::filled(40);
    let replies = raw.run(async |mut log| {
        let request = ReadRequest { as_messages: true, ..ReadRequest::default() };
        all(log.read(request).await.unwrap().into_inner()).await
    });
    assert!(replies.len() > 3, "the batches of the store have seven events");
    assert_eq!(positions(&replies), (1..=40).collect::<Vec<_>>());
    assert_eq!(replies.last().unwrap().upto, 40);
}

#[test]
fn a_read_backwards_with_a_filter_and_a_limit_ends_at_the_limit() {
    let raw = Raw::filled(100);
    let replies = raw.run(async |mut log| {
        let request = ReadRequest {
            filter: tagged("n:3"),
            backwards: true,
            limit: Some(9),
            as_messages: true,
            ..ReadRequest::default()
        };
        all(log.read(request).await.unwrap().into_inner()).await
    });
    let wanted: Vec<u64> = (1..=100).rev().filter(|position| position % 5 == 4).take(9).collect();
    assert_eq!(positions(&replies), wanted);
}

#[test]
fn a_read_of_commits_sends_whole_commits() {
    let raw = Raw::filled(40);
    let replies = raw.run(async |mut log| {
        let request = ReadCommitsRequest { as_messages: true, ..ReadCommitsRequest::default() };
        all(log.read_commits(request).await.unwrap().into_inner()).await
    });
    let commits: Vec<(u64, u32)> = replies
        .iter()
        .flat_map(|reply| &reply.commits)
        .map(|commit| (commit.last, commit.events))
        .collect();
    assert_eq!(commits, (1..=20).map(|number| (2 * number, 2)).collect::<Vec<_>>());
}

#[test]
fn a_subscription_catches_up_and_then_sends_what_comes() {
    let raw = Raw::filled(20);
    raw.run(async |mut log| {
        let request = SubscribeRequest {
            filter: tagged("n:1"),
            as_messages: true,
            heartbeat_ms: 100,
            ..SubscribeRequest::default()
        };
        let mut stream = log.subscribe(request).await.unwrap().into_inner();
        let mut seen = Vec::new();
        let caught_up = loop {
            match in_time(stream.message()).await.unwrap().unwrap().delivery.unwrap() {
                Delivery::Batch(batch) => seen.extend(positions(&[batch])),
                Delivery::CaughtUp(caught_up) => break caught_up.upto,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((seen, caught_up), (vec![2, 7, 12, 17], 20));

        // An event that does not match moves the heartbeat only.
        let other = RawEvent::new("counted", "x").tag(Tag::new("n", 4));
        let _ = raw.store.append(Append::event(other)).await.unwrap();
        let heartbeat = loop {
            match in_time(stream.message()).await.unwrap().unwrap().delivery.unwrap() {
                Delivery::Heartbeat(heartbeat) if heartbeat.upto == 21 => break heartbeat.upto,
                Delivery::Heartbeat(_) => {}
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(heartbeat, 21);
        let matching = RawEvent::new("counted", "y").tag(Tag::new("n", 1));
        let _ = raw.store.append(Append::event(matching)).await.unwrap();
        loop {
            match in_time(stream.message()).await.unwrap().unwrap().delivery.unwrap() {
                Delivery::Batch(batch) => break assert_eq!(positions(&[batch]), [22]),
                Delivery::Heartbeat(_) => {}
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn a_watch_tells_each_head_and_stays_alive_without_one() {
    let raw = Raw::filled(4);
    raw.run(async |mut log| {
        let request = WatchRequest { heartbeat_ms: 100, ..WatchRequest::default() };
        let mut stream = log.watch(request).await.unwrap().into_inner();
        for _ in 0..3 {
            assert_eq!(in_time(stream.message()).await.unwrap().unwrap().head, 4);
        }
        let _ = raw.store.append(Append::event(RawEvent::new("a", ""))).await.unwrap();
        while in_time(stream.message()).await.unwrap().unwrap().head < 5 {}
    });
}

fn opened() -> Call {
    let event = Event {
        r#type: "opened".to_owned(),
        tags: vec!["account:ann".to_owned()],
        payload: b"{}".to_vec(),
        ..Event::default()
    };
    Call { events: vec![event], ..Call::default() }
}

#[test]
fn a_commit_of_readable_events_is_made_and_refused_by_its_condition() {
    let raw = Raw::new(Memory::new());
    let condition = Condition { fail_if: tagged("account:ann"), after: 0 };
    let key = Key { name: "request-1".to_owned(), digest: vec![7; 16] };
    let call = Call { conditions: vec![condition], key: Some(key), ..opened() };
    let committed = raw.run(async |mut log| log.commit(call.clone()).await.unwrap().into_inner());
    assert_eq!((committed.first, committed.last, committed.head), (1, 1, 1));
    let found = raw.run(async |mut log| {
        let request = FindKeyRequest { key: "request-1".to_owned(), ..Default::default() };
        log.find_key(request).await.unwrap().into_inner().commit.unwrap()
    });
    assert_eq!((found.first, found.last), (1, 1));

    let refused =
        raw.run(async |mut log| log.commit(Call { key: None, ..call.clone() }).await.unwrap_err());
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("read on from there"), "{}", refused.message());
    let failure = from_status(refused).unwrap();
    assert!(matches!(failure.kind, Some(failure::Kind::Refusal(_))), "{failure:?}");
    assert_eq!(failure.head, 1);

    let batch = pollster::block_on(raw.store.read(&Filter::everything(), Read::all())).unwrap();
    let event = batch.get(0).unwrap();
    assert_eq!((event.event_type(), event.version(), event.payload()), ("opened", 1, &b"{}"[..]));
}

#[test]
fn a_call_that_has_no_meaning_is_an_invalid_argument_and_writes_nothing() {
    let raw = Raw::new(Memory::new());
    let no_key =
        Event { r#type: "a".to_owned(), tags: vec!["plain".to_owned()], ..Event::default() };
    let no_filter = Condition { fail_if: None, after: 0 };
    let short = Key { name: "k".to_owned(), digest: vec![7; 3] };
    for wrong in [
        Call { events: vec![no_key], ..Call::default() },
        Call { events: vec![Event::default()], ..Call::default() },
        Call { conditions: vec![no_filter], ..opened() },
        Call { key: Some(short), ..opened() },
    ] {
        let status = raw.run(async |mut log| log.commit(wrong).await.unwrap_err());
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    }
    let status = raw.run(async |mut log| {
        let request = CountRequest { tag: "plain".to_owned(), ..Default::default() };
        log.count(request).await.unwrap_err()
    });
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(raw.store.head().position().get(), 0);
}

#[test]
fn a_call_for_another_log_or_another_history_is_refused() {
    let raw = Raw::new(Memory::new());
    let ask = |name: &'static str, value: String| {
        raw.run(async |mut log| {
            let mut request = Request::new(DescribeRequest::default());
            request.metadata_mut().insert(name, value.parse().unwrap());
            log.describe(request).await
        })
    };
    assert!(ask(LOG_HEADER, "log".to_owned()).is_ok());
    assert_eq!(ask(LOG_HEADER, "other".to_owned()).unwrap_err().code(), Code::NotFound);
    let present = raw.store.identity();
    assert!(ask(HISTORY_HEADER, history_header(present)).is_ok());
    let former = LogIdentity { epoch: Epoch::from_u64(present.epoch.to_u64() ^ 1), ..present };
    let status = ask(HISTORY_HEADER, history_header(former)).unwrap_err();
    let Some(failure::Kind::Unavailable(unavailable)) = from_status(status).unwrap().kind else {
        panic!("no failure of that kind")
    };
    assert!(unavailable.changed_to.is_some());
    assert_eq!(ask(HISTORY_HEADER, "x".to_owned()).unwrap_err().code(), Code::InvalidArgument);
}

/// The outcomes of the calls of a stream, by number: the first position of a commit.
async fn append(
    log: &mut LogClient<Channel>,
    session: u8,
    numbers: std::ops::RangeInclusive<u64>,
    settled: u64,
) -> Vec<(u64, u64)> {
    let calls: Vec<_> = numbers.map(|number| Call { number, ..opened() }).collect();
    let wanted = calls.len();
    let first = AppendRequest { calls, settled, ..AppendRequest::default() };
    let (_requests, mut replies) = open_session(log, session, first).await;
    let mut accepted = Vec::new();
    while accepted.len() < wanted {
        for reply in in_time(replies.message()).await.unwrap().unwrap().replies {
            if let Some(call_reply::Outcome::Accepted(place)) = reply.outcome {
                accepted.push((reply.number, place.first));
            }
        }
    }
    accepted
}

#[test]
fn a_session_executes_each_number_once_and_another_session_executes_it_again() {
    let raw = Raw::new(Memory::new());
    raw.run(async |mut log| {
        let first = append(&mut log, 1, 1..=5, 0).await;
        assert_eq!(first, (1..=5).map(|number| (number, number)).collect::<Vec<_>>());
        // A second stream of the session sends some again, with new ones.
        let again = append(&mut log, 1, 4..=7, 3).await;
        assert_eq!(again, [(4, 4), (5, 5), (6, 6), (7, 7)]);
        assert_eq!(append(&mut log, 2, 1..=1, 0).await, [(1, 8)]);
    });
    assert_eq!(raw.store.head().position().get(), 8);
    drop(raw.served);
}

#[test]
fn a_number_that_cannot_be_used_is_an_invalid_call() {
    let raw = Raw::new(Memory::new());
    raw.run(async |mut log| {
        append(&mut log, 1, 1..=3, 0).await;
        let calls = [0, 2, 4, 4].map(|number| Call { number, ..opened() }).to_vec();
        let first = AppendRequest { calls, settled: 3, ..AppendRequest::default() };
        let (_requests, mut replies) = open_session(&mut log, 1, first).await;
        let (mut refused, mut accepted) = (Vec::new(), Vec::new());
        while refused.len() < 2 || accepted.is_empty() {
            for reply in in_time(replies.message()).await.unwrap().unwrap().replies {
                match reply.outcome.unwrap() {
                    call_reply::Outcome::Accepted(_) => accepted.push(reply.number),
                    call_reply::Outcome::Failure(_) => refused.push(reply.number),
                    call_reply::Outcome::Synced(_) => {}
                }
            }
        }
        // The second call with number 4 may be answered with the outcome of the first.
        accepted.dedup();
        assert_eq!((refused, accepted), (vec![0, 2], vec![4]));
    });
    assert_eq!(raw.store.head().position().get(), 4, "a number under way was executed twice");
}

/// A page in a browser can send such a request to any address of its machine.
#[test]
fn a_request_without_http_2_or_with_another_content_is_refused() {
    let raw = Raw::new(Memory::new());
    let answer = raw.runtime.block_on(async {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(raw.served.address).await.unwrap();
        let head = "POST /diptych.v1.Log/Commit HTTP/1.1\r\nhost: localhost\r\n\
                    content-type: text/plain\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    });
    assert!(answer.starts_with("HTTP/1.1 415"), "{answer}");
    assert!(answer.contains("connect with HTTP/2"), "{answer}");
}
