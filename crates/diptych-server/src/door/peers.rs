//! The share of one peer: a number of connections, requests and streams that leaves room for
//! others.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

/// The peer of an address. A machine with IPv6 usually has a whole network of 64 bits, and is one
/// peer with all of its addresses.
fn peer(address: SocketAddr) -> IpAddr {
    const NETWORK: u128 = !(u64::MAX as u128);
    match address.ip().to_canonical() {
        IpAddr::V6(ip) if !ip.is_loopback() => Ipv6Addr::from_bits(ip.to_bits() & NETWORK).into(),
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
        let count = counts.entry(peer).or_default();
        if *count >= self.limit {
            return None;
        }
        *count += 1;
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

/// The open connections of each peer. If a peer opens one above its limit, its oldest connection
/// without a request is closed. So slow or idle connections keep no place that the peer needs, and
/// take no place from others.
#[derive(Debug)]
pub(crate) struct PeerConnections {
    limit: usize,
    /// The connections of each peer, the oldest first.
    open: Mutex<HashMap<IpAddr, Vec<Arc<OpenConnection>>>>,
}

#[derive(Debug, Default)]
struct OpenConnection {
    /// Requests whose answers are not sent completely.
    requests: AtomicUsize,
    close: Notify,
}

/// A connection in the list of its peer, until it is dropped.
#[derive(Debug)]
pub(crate) struct PeerConnection {
    all: Arc<PeerConnections>,
    peer: IpAddr,
    own: Arc<OpenConnection>,
}

/// A request on a connection, from its head to the end of its answer.
#[derive(Debug)]
pub(crate) struct RequestInProgress(Arc<OpenConnection>);

impl PeerConnections {
    pub(crate) fn new(limit: usize) -> Arc<PeerConnections> {
        Arc::new(PeerConnections { limit, open: Mutex::default() })
    }

    /// Adds a connection of this peer; `None` if all that it may have are in use.
    pub(crate) fn enter(self: &Arc<Self>, address: SocketAddr) -> Option<PeerConnection> {
        let peer = peer(address);
        let mut open = lock(&self.open);
        let connections = open.entry(peer).or_default();
        if connections.len() >= self.limit {
            let is_idle = |open: &Arc<OpenConnection>| open.requests.load(Ordering::Relaxed) == 0;
            let oldest = connections.iter().position(is_idle)?;
            connections.remove(oldest).close.notify_one();
        }
        let own = Arc::new(OpenConnection::default());
        connections.push(own.clone());
        Some(PeerConnection { all: self.clone(), peer, own })
    }
}

impl PeerConnection {
    pub(crate) fn request(&self) -> RequestInProgress {
        self.own.requests.fetch_add(1, Ordering::Relaxed);
        RequestInProgress(self.own.clone())
    }

    /// Waits until another connection of the peer needs the place of this one.
    pub(crate) async fn is_displaced(&self) {
        self.own.close.notified().await;
    }
}

impl Drop for PeerConnection {
    fn drop(&mut self) {
        let mut open = lock(&self.all.open);
        if let Some(connections) = open.get_mut(&self.peer) {
            connections.retain(|other| !Arc::ptr_eq(other, &self.own));
            if connections.is_empty() {
                open.remove(&self.peer);
            }
        }
    }
}

impl Drop for RequestInProgress {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// No code panics while it holds one of these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
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
    fn a_connection_with_a_request_keeps_its_place() {
        let connections = PeerConnections::new(2);
        let enter = || connections.enter(at("10.0.0.1:1"));
        let (first, second) = (enter().unwrap(), enter().unwrap());
        let _asking = first.request();
        let third = enter().unwrap();
        let _other = third.request();
        assert!(enter().is_none(), "the second was displaced, and both others are in use");
        drop((first, second, third));
        assert!(lock(&connections.open).is_empty());
    }
}
