//! Streams of events and heads to clients.

use std::{sync::Arc, time::Duration};

use diptych::store::{
    Batch, CommitBatch, Direction, Filter, InvalidRequest, Position, Read, ReadCommits, ReadError,
    Store,
};
use diptych_remote::wire::{
    self, BatchEnds, EncodedReply,
    messages::{
        CaughtUp, FellBehind, HeadReply, Heartbeat, ReadCommitsReply, ReadCommitsRequest,
        ReadRequest, SubscribeReply, subscribe_reply::Delivery as DeliveryMessage,
    },
};
use futures_util::{Stream, stream};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tonic::Status;

use crate::{
    door::stop::Stop,
    hinge::live::{LiveFeeds, Membership},
};

/// About the bytes of one message of several. The connection sends it while the next one is read
/// and encoded, and its memory stays in the caches of the processor. Clients take messages of this
/// size without being told to. Smaller ones cost more: each looks for the end of its last commit.
const MESSAGE_BYTES: usize = 1 << 20;
/// Events of the first message, and the bounds for the others.
const MESSAGE_EVENTS: (usize, usize, usize) = (512, 16, 8_192);
/// Pause before a head that ended is asked for again.
pub(crate) const ENDED_PAUSE: Duration = Duration::from_millis(100);

/// The messages of a channel.
pub(crate) fn received<T: Send>(
    waiting: mpsc::Receiver<Result<T, Status>>,
) -> impl Stream<Item = Result<T, Status>> + Send {
    stream::unfold(waiting, async |mut waiting| {
        let message = waiting.recv().await?;
        Some((message, waiting))
    })
}

/// The head of a log as a message.
pub(crate) fn head_reply(store: &Store) -> HeadReply {
    let head = store.head();
    HeadReply {
        identity: Some(wire::identity_message(store.identity())),
        head: head.position().get(),
        paused: head.paused().as_ref().map(wire::unavailable_message),
        ..HeadReply::default()
    }
}

fn stopping() -> Status {
    Status::unavailable("the server stops: connect again, and go on after the last position")
}

/// Follows the head of a log.
pub(crate) struct HeadWatch {
    store: Store,
    heartbeat: Duration,
    stop: Stop,
    /// The head that was sent last.
    sent: Option<HeadReply>,
}

impl HeadWatch {
    pub(crate) fn new(store: Store, heartbeat: Duration, stop: Stop) -> HeadWatch {
        HeadWatch { store, heartbeat, stop, sent: None }
    }

    pub(crate) fn into_stream(self) -> impl Stream<Item = Result<HeadReply, Status>> + Send {
        stream::unfold(Some(self), async |watch| {
            let mut watch = watch?;
            match watch.next().await {
                Some(reply) => Some((Ok(reply), Some(watch))),
                None => Some((Err(stopping()), None)),
            }
        })
    }

    /// The next head, at the latest with the heartbeat. `None` if the server stops.
    async fn next(&mut self) -> Option<HeadReply> {
        if let Some(sent) = &self.sent {
            let head = self.store.head();
            let moved = async {
                if head.after(Position::new(sent.head)).await.is_err() {
                    // The log ended, or has another history. A new head may follow.
                    sleep(ENDED_PAUSE).await;
                }
            };
            tokio::select! {
                _ = timeout(self.heartbeat, moved) => {}
                () = self.stop.begun() => return None,
            }
        }
        let reply = head_reply(&self.store);
        self.sent = Some(reply.clone());
        Some(reply)
    }
}

/// The number of events that make a message of about the wanted size.
pub(crate) struct MessageSize {
    events: usize,
}

impl Default for MessageSize {
    fn default() -> MessageSize {
        MessageSize { events: MESSAGE_EVENTS.0 }
    }
}

impl MessageSize {
    /// Learns the size of an event from a message.
    fn learn(&mut self, message: &EncodedReply, events: usize) {
        if let Some(event_bytes) = message.bytes().len().checked_div(events) {
            let (_, least, most) = MESSAGE_EVENTS;
            self.events = (MESSAGE_BYTES / event_bytes.max(1)).clamp(least, most);
        }
    }
}

/// A read of several batches, up to the head at its begin.
pub(crate) struct LogRead {
    store: Store,
    filter: Filter,
    read: Read,
    /// The number of batches to come; `None` without a limit.
    batches: Option<u32>,
    /// The most events of one message that the client takes.
    most_events: usize,
    size: MessageSize,
    as_messages: bool,
}

impl LogRead {
    pub(crate) fn new(store: Store, filter: Filter, request: &ReadRequest) -> LogRead {
        let mut read = wire::read_of(request);
        // A single batch is read as the store reads it, which may be beyond the head of now.
        if request.batches != 1 {
            read.upto = read.upto.min(store.head().position()).max(read.after);
        }
        let batches = (request.batches > 0).then_some(request.batches);
        let most_events = match usize::try_from(request.batch_events) {
            Ok(events @ 1..) => events,
            _ => usize::MAX,
        };
        // A single batch is as large as the store makes it.
        let size = match batches {
            Some(1) => MessageSize { events: usize::MAX },
            _ => MessageSize::default(),
        };
        let as_messages = request.as_messages;
        LogRead { store, filter, read, batches, most_events, size, as_messages }
    }

    /// The next batch, and the rest of the read if there is one.
    pub(crate) async fn next(mut self) -> Result<(EncodedReply, Option<LogRead>), ReadError> {
        let most = self.size.events.min(self.most_events).min(self.read.limit);
        let batch = self.store.read(&self.filter, self.read.clone().limit(most)).await?;
        let head = self.store.head().position();
        let reply = match self.as_messages {
            true => EncodedReply::of(&wire::read_reply(&batch, head, true)),
            false => {
                let (upto, commit_end) = (batch.upto(), batch.commit_end());
                EncodedReply::read(|| batch.iter(), BatchEnds { upto, commit_end, head })
            }
        };
        self.size.learn(&reply, batch.len());
        let rest = self.is_continued(&batch, head).then_some(self);
        Ok((reply, rest))
    }

    /// Moves behind the batch. Returns whether there is more to read.
    fn is_continued(&mut self, batch: &Batch, head: Position) -> bool {
        if let Some(batches) = &mut self.batches {
            *batches -= 1;
            if *batches == 0 {
                return false;
            }
        }
        let Read { after, upto, direction, limit, .. } = &mut self.read;
        *limit = limit.saturating_sub(batch.len());
        match direction {
            Direction::Forwards => *after = batch.upto(),
            Direction::Backwards => *upto = batch.upto().before(),
        }
        *limit > 0 && *after < (*upto).min(head)
    }
}

/// This batch and those after it.
pub(crate) fn batches(
    first: EncodedReply,
    rest: Option<LogRead>,
) -> impl Stream<Item = Result<EncodedReply, Status>> + Send {
    let store = rest.as_ref().map(|rest| rest.store.clone());
    stream::unfold((Some(first), rest), move |(first, rest)| {
        let store = store.clone();
        async move {
            if let Some(first) = first {
                return Some((Ok(first), (None, rest)));
            }
            let read_failed = |error: ReadError| failed(store.as_ref(), &error);
            match rest?.next().await {
                Ok((reply, rest)) => Some((Ok(reply), (None, rest))),
                Err(error) => Some((Err(read_failed(error)), (None, None))),
            }
        }
    })
}

fn failed(store: Option<&Store>, error: &ReadError) -> Status {
    let head = store.map_or(Position::START, |store| store.head().position());
    wire::status(&wire::failure_of(error, head))
}

/// These commits and those after them, up to the head.
pub(crate) fn commit_batches(
    store: Store,
    first: CommitBatch,
    read: ReadCommits,
    request: &ReadCommitsRequest,
) -> impl Stream<Item = Result<ReadCommitsReply, Status>> + Send + use<> {
    let (most, as_messages) = (request.batches, request.as_messages);
    let bound = store.head().position();
    stream::unfold(Some((Some(first), read, 0_u32)), move |state| {
        let store = store.clone();
        async move {
            let (first, mut read, sent) = state?;
            let batch = match first {
                Some(first) => Ok(first),
                None => store.commits(read.clone()).await,
            };
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => return Some((Err(failed(Some(&store), &error)), None)),
            };
            let reply = wire::read_commits_reply(&batch, store.head().position(), as_messages);
            let events = batch.iter().map(|commit| commit.events().len()).sum();
            read.limit_events = read.limit_events.saturating_sub(events);
            read.after = batch.upto();
            let sent = sent.saturating_add(1);
            let is_continued = read.after < bound && read.limit_events > 0 && sent != most;
            Some((Ok(reply), is_continued.then_some((None, read, sent))))
        }
    })
}

/// Follows the events that match a filter, without end. It reads the log until it has caught up.
/// Then it takes live events from a feed.
pub(crate) struct LogFollower {
    pub(crate) store: Store,
    pub(crate) feeds: Arc<LiveFeeds>,
    pub(crate) filter: Filter,
    /// The position up to which every matching event was sent.
    pub(crate) after: Position,
    pub(crate) heartbeat: Duration,
    pub(crate) as_messages: bool,
    pub(crate) stop: Stop,
    /// Whether the client was told that it caught up.
    pub(crate) is_live: bool,
    /// The place in the feed, once the follower has caught up.
    pub(crate) member: Option<Membership>,
    pub(crate) size: MessageSize,
}

/// A live client that is more than this number of positions behind is told that it fell behind.
const BEHIND_EVENTS: u64 = 65_536;

impl LogFollower {
    pub(crate) fn into_stream(
        self,
    ) -> impl Stream<Item = Result<EncodedReply, Status>> + Send + use<> {
        stream::unfold(Some(self), async |follower| {
            let mut follower = follower?;
            match follower.next().await {
                Ok(reply) => Some((Ok(reply), Some(follower))),
                Err(status) => Some((Err(status), None)),
            }
        })
    }

    async fn next(&mut self) -> Result<EncodedReply, Status> {
        let (heartbeat, stop) = (self.heartbeat, self.stop.clone());
        tokio::select! {
            delivery = timeout(heartbeat, self.delivery()) => if let Ok(delivery) = delivery {
                return delivery;
            },
            () = stop.begun() => return Err(stopping()),
        }
        if let Some(member) = &self.member
            && member.from() <= self.after
            && let Some(settled) = member.settled()
        {
            self.after = self.after.max(settled);
        }
        Ok(told(DeliveryMessage::Heartbeat(Heartbeat { upto: self.after.get() })))
    }

    /// Waits for the next delivery. Dropping the future loses no event.
    async fn delivery(&mut self) -> Result<EncodedReply, Status> {
        loop {
            let delivery = match &self.member {
                // Events from before the feed took the subscriber are in the log only.
                Some(member) if self.after < member.from() => self.page(member.from()).await?,
                Some(_) if !self.is_live => {
                    self.is_live = true;
                    let upto = self.after.get();
                    Some(told(DeliveryMessage::CaughtUp(CaughtUp { upto })))
                }
                Some(_) => self.live_page().await,
                None => self.catch_up().await?,
            };
            // A page without events only moves the position, which a heartbeat tells.
            if let Some(delivery) = delivery {
                return Ok(delivery);
            }
        }
    }

    /// The next page of the feed. Without one, the follower reads from the log again.
    async fn live_page(&mut self) -> Option<EncodedReply> {
        let Some(page) = self.member.as_ref()?.next().await else {
            self.member = None;
            return None;
        };
        let after = self.after;
        self.after = after.max(page.upto());
        page.delivery(after, self.as_messages)
    }

    /// Reads from the log, or joins the feed if there is no more to read.
    async fn catch_up(&mut self) -> Result<Option<EncodedReply>, Status> {
        let head = self.store.head();
        let mut position = head.position();
        if self.after > position {
            // Another process may have written up to there.
            let fresh = self.store.fresh_head().await;
            position = fresh.map_err(|error| failed(Some(&self.store), &error))?;
            if self.after > position {
                let (position, head) = (self.after, position);
                let error = InvalidRequest::AboveHead { position, head }.into();
                return Err(failed(Some(&self.store), &error));
            }
        }
        let behind = position.get() - self.after.get();
        if self.is_live && behind > BEHIND_EVENTS {
            self.is_live = false;
            return Ok(Some(told(DeliveryMessage::FellBehind(FellBehind { by: behind }))));
        }
        if behind > 0 {
            return self.page(Position::MAX).await;
        }
        let changed = self.store.check_history().err();
        if let Some(cause) = changed.or_else(|| head.ended()) {
            return Err(wire::status(&wire::failure_of(&cause, position)));
        }
        self.member = Some(self.feeds.join(&self.store, &self.filter));
        Ok(None)
    }

    /// The next page of the log, or `None` if no event of it matches.
    async fn page(&mut self, upto: Position) -> Result<Option<EncodedReply>, Status> {
        let read = Read::after(self.after).upto(upto).limit(self.size.events);
        let batch = self.store.read(&self.filter, read).await;
        let batch = batch.map_err(|error| failed(Some(&self.store), &error))?;
        self.after = batch.upto();
        if batch.is_empty() {
            return Ok(None);
        }
        let head = self.store.head().position();
        let (upto, commit_end) = (batch.upto(), batch.commit_end());
        let reply = match self.as_messages {
            true => told(DeliveryMessage::Batch(wire::read_reply(&batch, head, true))),
            false => EncodedReply::delivery(|| batch.iter(), BatchEnds { upto, commit_end, head }),
        };
        self.size.learn(&reply, batch.len());
        Ok(Some(reply))
    }
}

fn told(delivery: DeliveryMessage) -> EncodedReply {
    EncodedReply::of(&SubscribeReply { delivery: Some(delivery), ..SubscribeReply::default() })
}
