//! The pages that wait for one subscriber.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::hinge::live::page::LivePage;

/// The most bytes of pages that wait for one subscriber. That is about a second of many events.
pub(crate) const MAILBOX_BYTES: usize = 4 << 20;
/// The most pages that wait for one subscriber. A small page takes memory, too.
const MAILBOX_PAGES: usize = 4_096;
/// The most bytes of pages that wait for all subscribers. Above it, only a subscriber that has read
/// everything gets a further page.
const ALL_BYTES: usize = 128 << 20;

#[derive(Default)]
pub(crate) struct Mailbox {
    waiting: Mutex<WaitingPages>,
    arrived: Notify,
}

#[derive(Default)]
struct WaitingPages {
    pages: VecDeque<Arc<LivePage>>,
    bytes: usize,
    is_closed: bool,
}

impl Mailbox {
    /// Puts a page, unless there is no room for it. Then the mailbox is closed. Returns whether it
    /// is open.
    pub(crate) fn put(&self, page: &Arc<LivePage>) -> bool {
        let mut waiting = self.waiting.lock();
        let is_open = !waiting.is_closed
            && waiting.pages.len() < MAILBOX_PAGES
            // A subscriber that has read everything gets the page, whatever its size.
            && (waiting.pages.is_empty()
                || (waiting.bytes + page.bytes() <= MAILBOX_BYTES
                    && page.all_bytes() <= ALL_BYTES));
        match is_open {
            true => {
                waiting.bytes += page.bytes();
                waiting.pages.push_back(page.clone());
            }
            // The subscriber reads them from the log.
            false => *waiting = WaitingPages { is_closed: true, ..WaitingPages::default() },
        }
        drop(waiting);
        self.arrived.notify_one();
        is_open
    }

    /// Takes no more pages, and drops those that wait.
    pub(crate) fn close(&self) {
        *self.waiting.lock() = WaitingPages { is_closed: true, ..WaitingPages::default() };
        self.arrived.notify_one();
    }

    /// Whether the mailbox is open, and no page waits.
    pub(crate) fn is_empty(&self) -> bool {
        let waiting = self.waiting.lock();
        !waiting.is_closed && waiting.pages.is_empty()
    }

    /// Waits for the next page; `None` once the mailbox is closed. Dropping the future loses
    /// nothing.
    pub(crate) async fn next(&self) -> Option<Arc<LivePage>> {
        loop {
            {
                let mut waiting = self.waiting.lock();
                if waiting.is_closed {
                    return None;
                }
                if let Some(page) = waiting.pages.pop_front() {
                    waiting.bytes -= page.bytes();
                    return Some(page);
                }
            }
            self.arrived.notified().await;
        }
    }
}
