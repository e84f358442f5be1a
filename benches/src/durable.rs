//! Logs whose events are durable before a measurement goes on.

use std::{collections::VecDeque, ops::Range};

use diptych_store::{Append, Position, RawEvent, Store};
use tokio::runtime::Runtime;

/// Events in one commit of a load.
const TOGETHER: u64 = 1_000;
/// Commits of a load in flight.
const IN_FLIGHT: usize = 8;

/// A runtime with two threads.
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Appends the events of these numbers, a thousand in a commit, and waits until they are durable.
pub async fn load(store: &Store, numbers: Range<u64>, event: impl Fn(u64) -> RawEvent) {
    let (mut waiting, mut first) = (VecDeque::new(), numbers.start);
    while first < numbers.end {
        let last = (first + TOGETHER).min(numbers.end);
        let append = Append::events((first..last).map(&event));
        waiting.push_back(store.append(append).await.unwrap());
        if waiting.len() > IN_FLIGHT {
            waiting.pop_front().unwrap().synced().await.unwrap();
        }
        first = last;
    }
    for accepted in waiting {
        accepted.synced().await.unwrap();
    }
}

/// Waits until the log has this number of positions. The head of a log is durable.
pub async fn grown_to(store: &Store, head: Position) {
    let live = store.head();
    let mut at = live.position();
    while at < head {
        at = live.after(at).await.unwrap();
    }
}
