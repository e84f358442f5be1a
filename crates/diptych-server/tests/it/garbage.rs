//! Whatever is sent, the server answers that it makes no sense, or closes, and goes on.

use std::time::Duration;

use fastrand::Rng;
use tokio::{io::AsyncWriteExt, time::timeout};

use crate::{
    client::{LONG, Request},
    served::TheatreServer,
};

const WHOLE: [&str; 4] = [
    "GET /queries/seats?row=a&top=3&_as_of=0&_within=1 HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "POST /commands/nothing HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
     idempotency-key: k\r\ndiptych-after: AAAA\r\ncontent-length: 12\r\n\r\n{\"text\":\"x\"}",
    "POST /queries/seats HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
     transfer-encoding: chunked\r\n\r\nb\r\n{\"row\":\"a\"}\r\n0\r\n\r\n",
    "GET /queries/who-sits/explanation?seat=%C3%A4 HTTP/1.1\r\nhost: localhost\r\n\
     diptych-session: x\r\naccept-encoding: gzip\r\n\r\n",
];

/// A request with something wrong with it, or nothing that is one.
fn garbage(random: &mut Rng) -> Vec<u8> {
    if random.u8(..8) == 0 {
        return (0..random.usize(1..2_000)).map(|_| random.u8(..)).collect();
    }
    let mut bytes = WHOLE[random.usize(..WHOLE.len())].as_bytes().to_vec();
    for _ in 0..random.usize(1..4) {
        let (at, other) = (random.usize(..bytes.len()), random.usize(..bytes.len()));
        match random.u8(..6) {
            0 => bytes[at] = random.u8(..),
            1 => bytes.insert(at, random.u8(..)),
            2 if bytes.len() > 1 => drop(bytes.remove(at)),
            3 => bytes.swap(at, other),
            4 => bytes.truncate(at.max(1)),
            2 => {}
            _ => {
                let part = bytes[at.min(other)..at.max(other)].to_vec();
                bytes.splice(at..at, part);
            }
        }
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_is_answered_or_closed_and_the_server_goes_on() {
    let seed = std::env::var("DIPTYCH_SEED")
        .map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("DIPTYCH_SEED={seed}");
    let mut random = Rng::with_seed(seed);
    let served = TheatreServer::within(|limits| {
        let soon = Duration::from_millis(200);
        (limits.head_time, limits.body_time, limits.wait_time) = (soon, soon, soon);
    });
    let served = served.await;
    for _ in 0..60 {
        let mut sent = Vec::new();
        for _ in 0..20 {
            let bytes = garbage(&mut random);
            let mut connection = served.connect().await;
            sent.push(tokio::spawn(async move {
                // The server may close before it is all there.
                let _ = connection.stream.write_all(&bytes).await;
                let _ = connection.stream.shutdown().await;
                let mut statuses = Vec::new();
                let answers = async {
                    while let Some(response) = connection.response(true).await {
                        statuses.push(response.status);
                        if response.status >= 500 && response.status != 503 {
                            return;
                        }
                    }
                };
                let is_ended = timeout(LONG, answers).await.is_ok();
                (String::from_utf8_lossy(&bytes).into_owned(), is_ended, statuses)
            }));
        }
        for sent in sent {
            let (bytes, is_ended, statuses) = sent.await.unwrap();
            assert!(is_ended, "neither answered nor closed (seed {seed}): {bytes:?}");
            for status in statuses {
                let is_fine = [200, 503].contains(&status) || (400..500).contains(&status);
                assert!(is_fine, "{status} (seed {seed}): {bytes:?}");
            }
        }
    }
    served.get("/health").await.ok();
    served.take("a1", "ada").await;
}

#[tokio::test]
async fn bytes_that_are_not_http_are_refused() {
    let served = TheatreServer::new().await;
    for bytes in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/3\r\nhost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nx\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\na b: c\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nx: a\x00b\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"POST /commands/remark HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1, 2\r\n\r\n",
        b"POST /commands/remark HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
        b"POST /commands/remark HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: gzip\r\n\r\n",
    ] {
        let mut connection = served.connect().await;
        connection.write(bytes).await;
        let text = String::from_utf8_lossy(bytes).into_owned();
        if let Some(response) = connection.response(true).await {
            assert!((400..500).contains(&response.status), "{text:?}: {response:?}");
        }
    }
    // Two lengths are how requests are smuggled past a proxy.
    let smuggled = "POST /commands/nothing HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\
                    transfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n";
    let mut connection = served.connect().await;
    connection.write(smuggled).await;
    let first = connection.response(true).await;
    assert!(first.is_none_or(|first| (400..500).contains(&first.status)));
    assert_eq!(served.head(), 0);
    let star = Request::new("OPTIONS", "*");
    assert!((400..500).contains(&served.ask(&star).await.status));
    served.get("/health").await.ok();
}
