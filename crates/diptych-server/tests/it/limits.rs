//! Limits: slow requests, large requests, and their number.

use std::{
    io::{self, Read},
    sync::Arc,
    time::Duration,
};

use diptych::{App, Log, LogOptions, Memory, Store};
use diptych_log::disk::simulated::SimulatedDisk;
use diptych_server::{CommandRoute, ServerLimits};
use diptych_store::{
    Unavailable,
    testing::{Call, WrappedStore},
};
use serde_json::{Value, json};

use crate::{
    client::{LONG, Request},
    domain::{LARGE, NoteRefusal, Take},
    served::{TheatreServer, with_views},
    store::{Mood, MoodyStore},
};

const SOON: Duration = Duration::from_millis(50);

#[tokio::test]
async fn a_head_has_a_limited_time_to_arrive() {
    let served = TheatreServer::within(|limits| limits.head_time = SOON).await;
    for part in ["", "GET", "GET /health HTTP/1.1\r\nhost: localhost\r\n", "\r\n"] {
        let mut connection = served.connect().await;
        connection.write(part).await;
        assert!(connection.is_closed().await, "{part:?}");
    }
    served.get("/health").await.ok();
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let served = TheatreServer::within(|limits| limits.head_time = SOON).await;
    let mut connection = served.connect().await;
    connection.ask(&Request::get("/health")).await.ok();
    assert!(connection.is_closed().await);
}

#[tokio::test]
async fn a_body_has_a_limited_time_to_arrive() {
    let served = TheatreServer::within(|limits| limits.body_time = SOON).await;
    for target in ["/commands/remark", "/queries/seats"] {
        let whole = Request::post(target, r#"{"text":"x"}"#).bytes();
        for left_out in [12, 1] {
            let mut connection = served.connect().await;
            connection.write(&whole[..whole.len() - left_out]).await;
            connection.response(true).await.unwrap().problem(408, "slow");
            assert!(connection.is_closed().await);
        }
    }
    assert_eq!(served.head(), 0);
}

#[tokio::test]
async fn a_command_with_a_truncated_body_is_not_executed() {
    let served = TheatreServer::new().await;
    for bytes in [
        b"content-length: 20\r\n\r\n{\"text\":\"x\"}".as_slice(),
        b"transfer-encoding: chunked\r\n\r\nc\r\n{\"text\":\"x\"}\r\n",
        b"transfer-encoding: chunked\r\n\r\nc\r\n{\"text\":\"x\"}\r\nzz\r\n",
    ] {
        let mut connection = served.connect().await;
        connection.write("POST /commands/remark HTTP/1.1\r\nhost: localhost\r\n").await;
        connection.write("content-type: application/json\r\n").await;
        connection.write(bytes).await;
        tokio::io::AsyncWriteExt::shutdown(&mut connection.stream).await.unwrap();
        if let Some(response) = connection.response(true).await {
            assert_eq!(response.status, 400, "{}", response.text());
        }
    }
    assert_eq!(served.head(), 0);
}

#[tokio::test]
async fn a_body_above_the_limit_is_a_problem_and_the_connection_stays_open() {
    let served = TheatreServer::within(|limits| limits.body_bytes = 1_000).await;
    let text = |bytes: usize| json!({ "text": "x".repeat(bytes) }).to_string();
    let mut connection = served.connect().await;
    for bytes in [1_000, 100_000, 3_000_000] {
        let response = connection.ask(&Request::send("remark", text(bytes))).await;
        let problem = response.problem(413, "too-large");
        assert_eq!(problem["limit_bytes"], 1_000);
    }
    let query = Request::post("/queries/seats", json!({ "row": "x".repeat(1_000) }));
    connection.ask(&query).await.problem(413, "too-large");
    let fits = text(1_000 - r#"{"text":""}"#.len());
    assert_eq!(fits.len(), 1_000);
    connection.ask(&Request::send("remark", fits)).await.ok();
    // A body in chunks does not announce its length.
    connection.write("POST /commands/remark HTTP/1.1\r\nhost: localhost\r\n").await;
    connection.write("content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n").await;
    for _ in 0..2_000 {
        connection.write(format!("64\r\n{}\r\n", "x".repeat(100))).await;
    }
    connection.write("0\r\n\r\n").await;
    connection.response(true).await.unwrap().problem(413, "too-large");
    connection.ask(&Request::get("/health")).await.ok();
    assert_eq!(served.head(), 1);
}

#[tokio::test]
async fn an_unread_body_does_not_hide_the_answer() {
    let served = TheatreServer::new().await;
    let mut connection = served.connect().await;
    let body = "x".repeat(2_000_000);
    for request in [
        Request::new("POST", "/commands/remark").body(body.clone()),
        Request::send("nothing", &body),
        Request::send("remark", &body).header("host", "evil.example"),
        Request::new("PUT", "/status").body(body.clone()),
        Request::get("/health").body(body.clone()),
    ] {
        let response = connection.ask(&request).await;
        assert!([415, 404, 403, 405, 200].contains(&response.status), "{response:?}");
    }
    connection.ask(&Request::get("/health")).await.ok();
}

#[tokio::test]
async fn a_body_without_end_closes_the_connection() {
    let served = TheatreServer::within(|limits| {
        (limits.body_bytes, limits.discarded_bytes) = (1_000, 10_000);
    });
    let served = served.await;
    let mut connection = served.connect().await;
    connection.write("POST /commands/remark HTTP/1.1\r\nhost: localhost\r\n").await;
    connection.write("content-type: application/json\r\ncontent-length: 999999999\r\n\r\n").await;
    let (_, mut write) = connection.stream.into_split();
    let endless = async {
        while tokio::io::AsyncWriteExt::write_all(&mut write, &[b'x'; 1_000]).await.is_ok() {}
    };
    tokio::time::timeout(LONG, endless).await.expect("the server reads for ever");
    served.get("/health").await.ok();
}

#[tokio::test]
async fn a_refused_request_gets_no_100_continue() {
    let served = TheatreServer::new().await;
    let mut connection = served.connect().await;
    connection.write("POST /commands/nothing HTTP/1.1\r\nhost: localhost\r\n").await;
    connection.write("expect: 100-continue\r\ncontent-length: 10\r\n\r\n").await;
    connection.response(true).await.unwrap().problem(404, "unknown");
    let mut connection = served.connect().await;
    connection.write("POST /commands/remark HTTP/1.1\r\nhost: localhost\r\n").await;
    connection.write("content-type: application/json\r\n").await;
    connection.write("expect: 100-continue\r\ncontent-length: 12\r\n\r\n").await;
    assert_eq!(connection.head().await.unwrap().status, 100);
    connection.write(r#"{"text":"x"}"#).await;
    connection.response(true).await.unwrap().ok();
}

#[tokio::test]
async fn a_head_above_the_limit_is_refused() {
    let served = TheatreServer::new().await;
    for request in [
        Request::get("/health").header("x-large", "x".repeat(100_000)),
        Request::get(&format!("/queries/seats?row={}", "x".repeat(100_000))),
        (0..200).fold(Request::get("/health"), |request, n| request.header(&format!("x-{n}"), n)),
    ] {
        let mut connection = served.connect().await;
        let _ = tokio::io::AsyncWriteExt::write_all(&mut connection.stream, &request.bytes()).await;
        if let Some(response) = connection.response(true).await {
            assert!([414, 431].contains(&response.status), "{response:?}");
        }
    }
    served.get("/health").await.ok();
}

#[tokio::test]
async fn requests_above_the_limit_are_busy() {
    let store = MoodyStore::new();
    let served = TheatreServer::over_within(store.store(), |limits| limits.requests = 2).await;
    store.set(Mood::Held);
    let mut held = Vec::new();
    for seat in ["a1", "a2"] {
        let mut connection = served.connect().await;
        let take = Request::send("take-seat", json!({ "seat": seat, "by": "ada" }));
        connection.write(take.bytes()).await;
        held.push(connection);
    }
    store.held(2).await;
    let busy = served.get("/queries/how-many").await;
    busy.problem(503, "busy");
    assert_eq!(busy.need("retry-after"), "1");
    served.get("/health").await.ok();
    store.set(Mood::Well);
    for connection in &mut held {
        connection.response(true).await.unwrap().ok();
    }
    served.get("/queries/how-many").await.ok();
}

#[tokio::test]
async fn a_connection_above_the_limit_takes_the_place_of_an_idle_one_or_waits() {
    let store = MoodyStore::new();
    let served = TheatreServer::over_within(store.store(), |limits| limits.connections = 1).await;
    let mut idle = served.connect().await;
    idle.ask(&Request::get("/health")).await.ok();
    let mut first = served.connect().await;
    first.ask(&Request::get("/health")).await.ok();
    assert!(idle.is_closed().await);
    store.set(Mood::Held);
    first.write(Request::send("remark", json!({ "text": "x" })).bytes()).await;
    store.held(1).await;
    let mut second = served.connect().await;
    second.write(Request::get("/health").bytes()).await;
    let waits = tokio::time::timeout(SOON, second.response(true)).await;
    assert!(waits.is_err(), "the first one is in use");
    store.set(Mood::Well);
    first.response(true).await.unwrap().ok();
    second.response(true).await.unwrap().ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_nothing_is_disconnected() {
    let served = TheatreServer::within(|limits| {
        (limits.write_time, limits.connections) = (SOON, 1);
    });
    let served = served.await;
    let mut greedy = served.connect().await;
    // More answers than fit into the buffers on the way, and none is read.
    let many = Request::get("/large.txt").bytes().repeat(1_000);
    let endless = async {
        while tokio::io::AsyncWriteExt::write_all(&mut greedy.stream, &many).await.is_ok() {}
    };
    tokio::time::timeout(LONG, endless).await.expect("it is kept for ever");
    served.get("/health").await.ok();
}

#[tokio::test]
async fn answers_are_compressed_on_request() {
    let served = TheatreServer::new().await;
    let plain = served.get("/large.txt").await;
    assert_eq!((plain.header("content-encoding"), plain.text().as_str()), (None, LARGE));
    let request = Request::get("/large.txt").header("accept-encoding", "gzip");
    let packed = served.ask(&request).await;
    assert_eq!(packed.need("content-encoding"), "gzip");
    assert!(packed.body.len() < 1_000);
    let mut text = String::new();
    flate2::read::GzDecoder::new(&packed.body[..]).read_to_string(&mut text).unwrap();
    assert_eq!(text, LARGE);
    let small = served.ask(&Request::get("/").header("accept-encoding", "gzip")).await;
    assert_eq!(small.header("content-encoding"), None);
}

#[tokio::test]
async fn a_body_that_announces_too_much_is_refused_before_it_is_sent() {
    let served = TheatreServer::within(|limits| limits.body_bytes = 1_000).await;
    let mut connection = served.connect().await;
    connection.write("POST /commands/remark HTTP/1.1\r\nhost: localhost\r\n").await;
    connection.write("content-type: application/json\r\ncontent-length: 1001\r\n\r\n").await;
    let problem = connection.response(true).await.unwrap().problem(413, "too-large");
    assert_eq!(problem["limit_bytes"], 1_000);
}

#[tokio::test]
async fn bodies_in_other_charsets_and_encodings_are_refused_with_words() {
    let served = TheatreServer::new().await;
    let send = |content_type: &str| {
        let request = Request::new("POST", "/commands/remark").body(r#"{"text":"x"}"#);
        request.header("content-type", content_type)
    };
    for charset in ["iso-8859-1", "utf-16", "\"UTF-16LE\"", ""] {
        let response = served.ask(&send(&format!("application/json; charset={charset}"))).await;
        let problem = response.problem(415, "content-type");
        assert!(problem["detail"].as_str().unwrap().contains("UTF-8"), "{problem}");
        assert_eq!(problem["header"], "content-type");
    }
    for encoding in ["gzip", "br", "identity, gzip"] {
        let packed = send("application/json").header("content-encoding", encoding);
        let response = served.ask(&packed).await;
        let problem = response.problem(415, "content-type");
        assert!(problem["detail"].as_str().unwrap().contains(encoding), "{problem}");
        assert_eq!(problem["header"], "content-encoding");
        assert_eq!(response.need("accept-encoding"), "identity");
    }
    assert_eq!(served.head(), 0);
    for content_type in [
        "application/json; charset=utf-8",
        "application/json;charset=\"UTF-8\"",
        "application/json; version=1",
    ] {
        served.ask(&send(content_type).header("content-encoding", "identity")).await.ok();
    }
}

/// The clients open connections and never finish the head of a request.
#[tokio::test]
async fn health_answers_beside_slow_heads_of_the_same_peer() {
    let served = TheatreServer::within(|limits| {
        (limits.head_time, limits.connections, limits.peer_connections) = (LONG * 100, 40, 30);
    });
    let served = served.await;
    let mut asking = served.connect().await;
    asking.ask(&Request::get("/health")).await.ok();
    let mut stream = served.events("/queries/how-many/live").await;
    stream.next().await.unwrap();
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut connection = served.connect().await;
        let head = b"GET /health HTTP/1.1\r\n";
        drop(tokio::io::AsyncWriteExt::write_all(&mut connection.stream, head).await);
        slow.push(connection);
    }
    served.get("/health").await.ok();
    // A connection that is in use keeps its place.
    served.take("a1", "ada").await;
    stream.next().await.unwrap();
}

/// A client that sends a command and goes away, again and again, must not fill the memory.
#[tokio::test]
async fn a_command_without_its_client_keeps_its_place() {
    let store = MoodyStore::new();
    for of_peer in [false, true] {
        let served = TheatreServer::over_within(store.store(), |limits| {
            let limit = if of_peer { &mut limits.peer_requests } else { &mut limits.requests };
            *limit = 1;
        })
        .await;
        store.set(Mood::Held);
        let mut connection = served.connect().await;
        connection.write(Request::send("remark", json!({ "text": "x" })).bytes()).await;
        store.held(1).await;
        drop(connection);
        for _ in 0..20 {
            served.get("/queries/how-many").await.problem(503, "busy");
        }
        store.set(Mood::Well);
        store.free().await;
        let free = async {
            while served.get("/queries/how-many").await.status == 503 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, free).await.unwrap();
    }
}

#[tokio::test]
async fn one_peer_has_a_share_of_streams_and_requests() {
    let store = MoodyStore::new();
    let served = TheatreServer::over_within(store.store(), |limits| {
        (limits.peer_streams, limits.peer_requests) = (1, 1);
    });
    let served = served.await;
    let stream = served.events("/queries/how-many/live").await;
    let busy = served.get("/queries/how-many/live").await.problem(503, "busy");
    assert!(busy["detail"].as_str().unwrap().contains("of one address"), "{busy}");
    served.get("/status/live").await.problem(503, "busy");
    drop(stream);
    store.set(Mood::Held);
    let mut held = served.connect().await;
    held.write(Request::send("take-seat", json!({ "seat": "a1", "by": "ada" })).bytes()).await;
    store.held(1).await;
    let busy = served.get("/queries/how-many").await.problem(503, "busy");
    assert!(busy["detail"].as_str().unwrap().contains("of one address"), "{busy}");
    served.get("/health").await.ok();
    store.set(Mood::Well);
    held.response(true).await.unwrap().ok();
    served.get("/queries/how-many").await.ok();
}

/// Each recorded rejection is an event for ever.
#[tokio::test]
async fn a_loop_of_refused_commands_is_not_recorded_without_end() {
    let served = TheatreServer::within(|limits| limits.noted_rejections = 3).await;
    served.take("a1", "ada").await;
    let take = Request::send("take-seat-noting", json!({ "seat": "a1", "by": "eve" }));
    let mut noted = 0;
    for _ in 0..20 {
        let problem = served.ask(&take).await.problem(422, "rejected");
        assert_eq!(problem["rejection"]["rule"], "seat-is-taken");
        match problem["noted"] == true {
            true => noted += 1,
            false => assert_eq!(problem["note_problem"], "urn:diptych:busy"),
        }
    }
    // More than three only if the minute ended in between.
    assert!((3..20).contains(&noted), "{noted}");
    assert_eq!(served.head(), 1 + noted);
}

/// A note costs about 1,100 bytes here, and the budget of a day is not whole again in a test.
const NOTE: usize = 1_200;

fn take_noting(seat: &str) -> Request {
    Request::send("take-seat-noting", json!({ "seat": seat, "by": "eve" }))
}

/// The budget counted notes, and one caller could send 120 notes of a MiB in each minute.
#[tokio::test]
async fn the_bytes_of_recorded_rejections_have_a_budget() {
    let mut limits = ServerLimits::default();
    limits.noted_bytes = 50_000;
    let app = with_views(App::over(Memory::new())).start().await.unwrap();
    let served = TheatreServer::of(app, |server| {
        let route = CommandRoute::new("take-seat-copying");
        server.limits(limits).command(route.record_rejections(|take: &Take, _| NoteRefusal {
            seat: take.seat.clone(),
            rule: take.by.clone(),
        }))
    });
    let served = served.await;
    served.take("a1", "ada").await;
    let take = json!({ "seat": "a1", "by": "e".repeat(20_000) });
    for is_noted in [true, true, false, false] {
        let refused = served.ask(&Request::send("take-seat-copying", take.clone())).await;
        let problem = refused.problem(422, "rejected");
        assert_eq!((&problem["noted"], problem["rejection"].is_object()), (&is_noted.into(), true));
        if !is_noted {
            assert_eq!(problem["note_problem"], "urn:diptych:busy");
        }
    }
    assert_eq!(served.head(), 3);
    // The rest is enough for small notes.
    assert_eq!(served.ask(&take_noting("a1")).await.problem(422, "rejected")["noted"], true);
}

/// The space counts with the index and what the log prepares. A small note with a key is the worst
/// case, because it consists of the parts that its text does not tell.
#[tokio::test]
async fn notes_take_no_more_space_in_the_log_than_their_budget() {
    let disk = Arc::new(SimulatedDisk::new(1));
    let options = LogOptions { disk, index_bytes: 2_000, ..LogOptions::default() };
    let log = Log::open("/log", options).unwrap();
    let served = TheatreServer::over_within(log.clone(), |limits| {
        (limits.noted_bytes, limits.noted_rejections) = (100_000, usize::MAX);
    });
    let served = served.await;
    served.take("a1", "ada").await;
    let mut connection = served.connect().await;
    for key in 0.. {
        let take = take_noting("a1").header("idempotency-key", key);
        if connection.ask(&take).await.problem(422, "rejected")["noted"] == false {
            break;
        }
    }
    let stats = log.blocking().stats().unwrap();
    let bytes = stats.segment_bytes + stats.index_bytes;
    assert!(served.head() > 80 && bytes <= 100_000, "{} events, {bytes} bytes", served.head());
}

/// A repeat wrote nothing but took a share, and was then answered as if it were not on record.
#[tokio::test]
async fn a_repeat_under_one_key_costs_nothing_and_is_on_record_above_the_budget() {
    let served = TheatreServer::within(|limits| limits.noted_bytes = 2 * NOTE).await;
    for seat in ["a1", "a2", "a3"] {
        served.take(seat, "ada").await;
    }
    let noted = async |seat: &str| {
        let take = take_noting(seat).header("idempotency-key", "k");
        let problem = served.ask(&take).await.problem(422, "rejected");
        (problem["noted"].clone(), problem.get("note_problem").cloned(), served.head())
    };
    for _ in 0..5 {
        assert_eq!(noted("a1").await, (true.into(), None, 4));
    }
    let busy = Some("urn:diptych:busy".into());
    assert_eq!(noted("a2").await, (true.into(), None, 5));
    assert_eq!(noted("a3").await, (false.into(), busy, 5));
    assert_eq!(noted("a1").await, (true.into(), None, 5));
    assert_eq!(noted("a2").await, (true.into(), None, 5));
}

#[tokio::test]
async fn a_note_that_was_not_written_costs_nothing() {
    let store = MoodyStore::new();
    let mut limits = ServerLimits::default();
    limits.noted_bytes = NOTE;
    let app = with_views(App::over(store.store())).start().await.unwrap();
    let served = TheatreServer::of(app, |server| {
        let panics = CommandRoute::new("take-seat-panicking");
        let rejected = CommandRoute::new("take-seat-twice");
        let panics = panics.record_rejections(|_: &Take, _| -> NoteRefusal { panic!("no note") });
        let rejected = rejected.record_rejections(|take: &Take, _| take.clone());
        server.limits(limits).command(panics).command(rejected)
    });
    let served = served.await;
    served.take("a1", "ada").await;
    let body = json!({ "seat": "a1", "by": "eve" });
    let noted = async |name: &str| {
        let refused = served.ask(&Request::send(name, body.clone())).await;
        let problem = refused.problem(422, "rejected");
        (problem["noted"] == true, problem["note_problem"].as_str().unwrap_or("none").to_owned())
    };
    for _ in 0..3 {
        store.set(Mood::Full);
        let unavailable = (false, "urn:diptych:unavailable".to_owned());
        assert_eq!(noted("take-seat-noting").await, unavailable);
        store.set(Mood::Well);
        assert_eq!(noted("take-seat-panicking").await, (false, "urn:diptych:mistake".to_owned()));
        assert_eq!(noted("take-seat-twice").await, (false, "urn:diptych:rejected".to_owned()));
    }
    assert_eq!(served.head(), 1);
    assert_eq!(noted("take-seat-noting").await, (true, "none".to_owned()));
    assert_eq!(noted("take-seat-noting").await, (false, "urn:diptych:busy".to_owned()));
}

#[tokio::test]
async fn a_note_that_cannot_be_looked_up_is_not_known() {
    let store = WrappedStore::over(Store::new(Memory::new())).before(|call| {
        let is_note = matches!(call, Call::Keyed(key) if key.starts_with("diptych:"));
        let cause = || Unavailable::Backend(Arc::new(io::Error::other("no look-ups")));
        std::future::ready(if is_note { Err(cause().into()) } else { Ok(()) })
    });
    let served = TheatreServer::over(store).await;
    served.take("a1", "ada").await;
    let take = take_noting("a1").header("idempotency-key", "k");
    let problem = served.ask(&take).await.problem(422, "rejected");
    assert_eq!(problem.get("noted"), Some(&Value::Null), "{problem}");
    assert_eq!(problem["note_problem"], "urn:diptych:unavailable");
    assert_eq!(served.head(), 1);
}
