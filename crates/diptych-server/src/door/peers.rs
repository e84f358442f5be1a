//! The share of one peer: a number of connections, requests and streams that leaves room for
//! others.

use std::{
    cmp::Reverse,
    collections::HashMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

/// The peer of an address. A machine with IPv6 usually has a whole network of 64 bits, and is one
/// peer with all of its addresses. Addresses that hold in one local network only are machines.
fn peer(address: SocketAddr) -> IpAddr {
    const NETWORK: u128 = !(u64::MAX as u128);
    match address.ip().to_canonical() {
        IpAddr::V6(ip) if !ip.is_loopback() && !ip.is_unicast_link_local() => {
            Ipv6Addr::from_bits(ip.to_bits() & NETWORK).into()
        }
        ip => ip,
    }
}

/// Counts what each peer has at one time, up to a limit.
#[derive(Debug)]
pub(crate) struct PeerCounts {
    limit: usize,
    counts: Mutex<HashMap<IpAddr, usize>>,
}

/// One of the things that a peer has, until it is dropped.
#[derive(Debug)]
pub(crate) struct PeerPermit {
    counts: Arc<PeerCounts>,
    peer: IpAddr,
}

impl PeerCounts {
    pub(crate) fn new(limit: usize) -> Arc<PeerCounts> {
        Arc::new(PeerCounts { limit, counts: Mutex::default() })
    }

    /// A permit for this peer; `None` if it has as many as it may.
    pub(crate) fn enter(self: &Arc<Self>, address: SocketAddr) -> Option<PeerPermit> {
        let peer = peer(address);
        let mut counts = lock(&self.counts);
        let count = counts.get(&peer).copied().unwrap_or_default();
        if count >= self.limit {
            return None;
        }
        counts.insert(peer, count + 1);
        Some(PeerPermit { counts: self.clone(), peer })
    }
}

impl Drop for PeerPermit {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts.counts);
        if let Some(count) = counts.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.peer);
            }
        }
    }
}

/// The open connections of each peer, and their number.
///
/// If a peer opens one above its limit, its oldest connection that is not in use is closed. If all
/// places are taken, that of the peer with the most connections is. So slow or idle connections
/// keep no place that others need.
#[derive(Debug)]
pub(crate) struct PeerConnections {
    of_peer: usize,
    of_all: usize,
    open: Mutex<OpenConnections>,
    /// Signals that a connection ended, or is no longer in use.
    freed: Notify,
}

#[derive(Debug, Default)]
struct OpenConnections {
    /// The connections of each peer, the oldest first.
    of_peers: HashMap<IpAddr, Vec<Arc<OpenConnection>>>,
    all: usize,
    /// The number of connections that were opened.
    opened: u64,
}

#[derive(Debug)]
struct OpenConnection {
    /// Its place in the order in which the connections were opened.
    number: u64,
    /// Requests whose answers are not given to the connection completely, and bodies that are being
    /// discarded.
    requests: AtomicUsize,
    /// Whether the client has to read before more of an answer can be sent.
    is_sending: AtomicBool,
    close: Notify,
    /// Signals that a request ended.
    ended: Notify,
}

/// A connection in the list of its peer, until it is dropped.
#[derive(Debug)]
pub(crate) struct PeerConnection {
    all: Arc<PeerConnections>,
    peer: IpAddr,
    own: Arc<OpenConnection>,
}

/// A request on a connection, from its head to the end of its answer.
#[derive(Clone, Debug)]
pub(crate) struct RequestInProgress(#[expect(dead_code, reason = "it is only held")] Arc<InUse>);

#[derive(Debug)]
struct InUse {
    all: Arc<PeerConnections>,
    own: Arc<OpenConnection>,
}

/// The outcome for a new connection.
#[derive(Debug)]
pub(crate) enum ConnectionPlace {
    Connection(PeerConnection),
    /// The peer has as many as it may, and all are in use.
    Refused,
    /// There are as many as may be, and all are in use.
    NoPlace,
}

impl PeerConnections {
    pub(crate) fn new(of_peer: usize, of_all: usize) -> Arc<PeerConnections> {
        let (open, freed) = (Mutex::default(), Notify::new());
        Arc::new(PeerConnections { of_peer, of_all, open, freed })
    }

    /// Adds a connection of this peer. If there is no place for it, takes one that is not in use.
    pub(crate) fn enter(self: &Arc<Self>, address: SocketAddr) -> ConnectionPlace {
        let peer = peer(address);
        let mut open = lock(&self.open);
        let of_peer = open.of_peers.get(&peer).map_or(0, Vec::len);
        if of_peer >= self.of_peer && !open.displace(peer) {
            return ConnectionPlace::Refused;
        }
        if open.all >= self.of_all && !open.displace_largest() {
            return ConnectionPlace::NoPlace;
        }
        open.opened += 1;
        let own = Arc::new(OpenConnection {
            number: open.opened,
            requests: AtomicUsize::new(0),
            is_sending: AtomicBool::new(false),
            close: Notify::new(),
            ended: Notify::new(),
        });
        open.of_peers.entry(peer).or_default().push(own.clone());
        open.all += 1;
        ConnectionPlace::Connection(PeerConnection { all: self.clone(), peer, own })
    }

    /// Waits until a connection ended, or is no longer in use.
    pub(crate) async fn freed(&self) {
        self.freed.notified().await;
    }
}

impl OpenConnections {
    /// Closes the oldest connection of this peer that is not in use, if there is one.
    fn displace(&mut self, peer: IpAddr) -> bool {
        let Some(connections) = self.of_peers.get_mut(&peer) else { return false };
        let Some(oldest) = connections.iter().position(|open| !open.is_in_use()) else {
            return false;
        };
        connections.remove(oldest).close.notify_one();
        if connections.is_empty() {
            self.of_peers.remove(&peer);
        }
        self.all -= 1;
        true
    }

    /// Like [`displace`](OpenConnections::displace), for the peer with the most connections that
    /// has one; among several, for the one with the oldest such connection.
    fn displace_largest(&mut self) -> bool {
        let idle = self.of_peers.iter().filter_map(|(peer, connections)| {
            let oldest = connections.iter().find(|open| !open.is_in_use())?;
            Some((connections.len(), Reverse(oldest.number), *peer))
        });
        idle.max().is_some_and(|(.., peer)| self.displace(peer))
    }
}

impl OpenConnection {
    fn is_in_use(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > 0 || self.is_sending.load(Ordering::Relaxed)
    }
}

impl PeerConnection {
    pub(crate) fn request(&self) -> RequestInProgress {
        self.own.requests.fetch_add(1, Ordering::Relaxed);
        RequestInProgress(Arc::new(InUse { all: self.all.clone(), own: self.own.clone() }))
    }

    /// Says whether the client has to read before more of an answer can be sent.
    pub(crate) fn sends(&self, is_sending: bool) {
        let was_sending = self.own.is_sending.swap(is_sending, Ordering::Relaxed);
        if was_sending && !is_sending {
            self.own.ended.notify_one();
            self.all.freed.notify_one();
        }
    }

    /// Waits until another connection needs the place of this one, and this one is not in use. A
    /// request that came at the same moment is answered.
    pub(crate) async fn is_displaced(&self) {
        self.own.close.notified().await;
        while self.own.is_in_use() {
            self.own.ended.notified().await;
        }
    }
}

impl Drop for PeerConnection {
    fn drop(&mut self) {
        let mut open = lock(&self.all.open);
        if let Some(connections) = open.of_peers.get_mut(&self.peer) {
            let before = connections.len();
            connections.retain(|other| !Arc::ptr_eq(other, &self.own));
            let (after, is_last) = (connections.len(), connections.is_empty());
            if is_last {
                open.of_peers.remove(&self.peer);
            }
            open.all -= before - after;
        }
        drop(open);
        self.all.freed.notify_one();
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.own.requests.fetch_sub(1, Ordering::Relaxed);
        self.own.ended.notify_one();
        self.all.freed.notify_one();
    }
}

/// No code panics while it holds one of these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        task::{Context, Waker},
    };

    use super::*;

    fn at(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }

    #[test]
    fn a_peer_has_a_share_and_gives_it_back() {
        let counts = PeerCounts::new(2);
        let (first, second) = (counts.enter(at("10.0.0.1:1")), counts.enter(at("10.0.0.1:2")));
        assert!(first.is_some() && second.is_some());
        assert!(counts.enter(at("10.0.0.1:3")).is_none());
        assert!(counts.enter(at("[::ffff:10.0.0.1]:3")).is_none(), "it is the same machine");
        assert!(counts.enter(at("10.0.0.2:1")).is_some());
        drop(first);
        assert!(counts.enter(at("10.0.0.1:3")).is_some());
        drop(second);
        assert!(lock(&counts.counts).is_empty());
    }

    #[test]
    fn the_addresses_of_one_network_of_ipv6_are_one_peer() {
        let counts = PeerCounts::new(1);
        let first = counts.enter(at("[2001:db8:0:1::1]:1"));
        assert!(first.is_some());
        assert!(counts.enter(at("[2001:db8:0:1:ffff::9]:1")).is_none());
        assert!(counts.enter(at("[2001:db8:0:2::1]:1")).is_some());
    }

    #[test]
    fn a_limit_of_nothing_keeps_no_list_of_peers() {
        let counts = PeerCounts::new(0);
        assert!(counts.enter(at("10.0.0.1:1")).is_none());
        assert!(lock(&counts.counts).is_empty());
        let connections = PeerConnections::new(0, 9);
        assert!(matches!(connections.enter(at("10.0.0.1:1")), ConnectionPlace::Refused));
        assert!(lock(&connections.open).of_peers.is_empty());
    }

    #[test]
    fn machines_of_one_local_network_are_not_one_peer() {
        assert_ne!(peer(at("[fe80::1]:1")), peer(at("[fe80::2]:1")));
    }

    fn entered(connections: &Arc<PeerConnections>, address: &str) -> PeerConnection {
        match connections.enter(at(address)) {
            ConnectionPlace::Connection(connection) => connection,
            other => panic!("{address} has no place: {other:?}"),
        }
    }

    fn is_displaced(connection: &PeerConnection) -> bool {
        let displaced = std::pin::pin!(connection.is_displaced());
        displaced.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn a_connection_with_a_request_keeps_its_place() {
        let connections = PeerConnections::new(2, 9);
        let enter = || entered(&connections, "10.0.0.1:1");
        let (first, second) = (enter(), enter());
        let _asking = first.request();
        let third = enter();
        assert!(is_displaced(&second) && !is_displaced(&first));
        third.sends(true);
        assert!(matches!(connections.enter(at("10.0.0.1:1")), ConnectionPlace::Refused));
        third.sends(false);
        let fourth = enter();
        assert!(is_displaced(&third));
        drop((first, second, third, fourth));
        let open = lock(&connections.open);
        assert!(open.of_peers.is_empty() && open.all == 0);
    }

    #[test]
    fn a_displaced_connection_answers_a_request_that_came_at_the_same_moment() {
        let connections = PeerConnections::new(1, 9);
        let first = entered(&connections, "10.0.0.1:1");
        let _second = entered(&connections, "10.0.0.1:1");
        let asking = first.request();
        let draining = asking.clone();
        assert!(!is_displaced(&first));
        // The signal was taken by the call above, so wait on one future as the server does.
        first.own.close.notify_one();
        let mut displaced = Box::pin(first.is_displaced());
        let mut context = Context::from_waker(Waker::noop());
        assert!(displaced.as_mut().poll(&mut context).is_pending());
        drop(asking);
        assert!(displaced.as_mut().poll(&mut context).is_pending(), "a body is discarded");
        drop(draining);
        assert!(displaced.as_mut().poll(&mut context).is_ready());
    }

    /// Two peers with many slow connections must not keep a third one out.
    #[test]
    fn if_all_places_are_taken_the_largest_peer_gives_one() {
        let connections = PeerConnections::new(4, 6);
        let large: Vec<_> = (0..4).map(|_| entered(&connections, "10.0.0.1:1")).collect();
        let small: Vec<_> = (0..2).map(|_| entered(&connections, "10.0.0.2:1")).collect();
        let _used = large[0].request();
        let third = entered(&connections, "10.0.0.3:1");
        assert!(is_displaced(&large[1]), "its oldest one that is not in use");
        assert_eq!(large.iter().chain(&small).filter(|open| is_displaced(open)).count(), 0);
        let all: Vec<_> = large.iter().chain(&small).chain([&third]).collect();
        let _in_use: Vec<_> = all.iter().map(|connection| connection.request()).collect();
        assert!(matches!(connections.enter(at("10.0.0.4:1")), ConnectionPlace::NoPlace));
    }
}
