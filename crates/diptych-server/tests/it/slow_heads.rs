//! A thousand clients that never finish the head of a request, with the limits that a server has by
//! default.

use std::net::SocketAddr;

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::TcpSocket;

use crate::{
    client::{Connection, LONG},
    served::TheatreServer,
};

const CLIENTS: usize = 1_000;
/// Both ends of each connection, and room for the tests beside these.
const OPEN_FILES: u64 = 8_192;

/// Lets this process open enough files.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= OPEN_FILES) {
        return;
    }
    limit.current = Some(limit.maximum.map_or(OPEN_FILES, |most| most.min(OPEN_FILES)));
    setrlimit(Resource::Nofile, limit).unwrap();
    let enough = limit.current >= Some(3 * CLIENTS as u64);
    assert!(enough, "the test needs {OPEN_FILES} open files: raise the hard limit (ulimit -Hn)");
}

/// Default limits. Only the time for a head is longer, so that no slow client is closed by it,
/// however slow the machine is.
async fn server() -> TheatreServer {
    TheatreServer::within(|limits| limits.head_time = LONG * 100).await
}

/// A connection from this address of the machine, with a part of a head.
async fn slow_head(server: &TheatreServer, from: &str) -> Connection {
    let socket = TcpSocket::new_v4().unwrap();
    // Thousands of closed connections would otherwise keep their ports for a minute, and other
    // tests would find none.
    socket.set_zero_linger().unwrap();
    socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
    let mut connection = Connection::over(socket.connect(server.address).await.unwrap());
    connection.write("GET /health HTTP/1.1\r\nhost: local").await;
    connection
}

/// The server works for a client from `127.0.0.1`.
async fn assert_working(server: &TheatreServer) {
    server.get("/health").await.ok();
    let receipt = server.take("a1", "ada").await.need("diptych-receipt");
    let who = server.get(&format!("/queries/who-sits?seat=a1&_after={receipt}")).await;
    assert_eq!(who.ok(), "ada");
}

/// These clients were not closed: they finish their heads, and are answered.
async fn assert_open(slow: &mut [Connection]) {
    for connection in slow {
        connection.write("host\r\n\r\n").await;
        connection.response(true).await.expect("a slow client was closed").ok();
    }
}

/// The oldest slow clients give way to the new ones of their address.
#[tokio::test]
async fn a_thousand_slow_heads_of_one_address_stop_no_other_client() {
    raise_file_limit();
    let server = server().await;
    let most = diptych_server::ServerLimits::default().peer_connections;
    assert!(most < CLIENTS, "the address has more clients than connections");
    let mut slow = Vec::new();
    for _ in 0..CLIENTS {
        slow.push(slow_head(&server, "127.0.0.1").await);
    }
    assert_working(&server).await;
    // The server closes as few as it has to: a place for each of the three requests above.
    let kept = slow.len() - most + 3;
    assert_open(&mut slow[kept..]).await;
    assert!(slow[0].is_closed().await);
}

/// Only Linux has each address of `127.0.0.0/8`.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_thousand_slow_heads_of_several_addresses_stop_no_other_client() {
    raise_file_limit();
    let server = server().await;
    let mut slow = Vec::new();
    for at in 0..CLIENTS {
        slow.push(slow_head(&server, &format!("127.0.0.{}", 1 + at % 5)).await);
    }
    assert_working(&server).await;
    assert_open(&mut slow).await;
}
