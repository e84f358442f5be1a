//! The body of an answer, which holds a place until it ends, and ends when it has to.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::{
    task::AbortHandle,
    time::{Instant, Sleep, sleep},
};

use crate::{
    door::{
        connection::CloseSignal,
        entrance::{RequestPermit, StreamPermit},
        problem::Problem,
    },
    hinge::admission::Revocation,
};

/// The most bytes that are given to a connection at once. A connection with HTTP/2 takes what it is
/// given, whether its client reads or not. So an answer in small parts keeps its place, and its
/// memory is bounded, until its client has read nearly all.
const PART_BYTES: usize = 64 << 10;

/// A place among the requests or the streams, until its last clone is dropped. A service that takes
/// the place itself puts it into the extensions of its answer.
#[derive(Clone)]
pub(crate) enum CallPlace {
    Request(#[expect(dead_code, reason = "it is only held")] RequestPermit),
    Stream(#[expect(dead_code, reason = "it is only held")] Arc<StreamPermit>),
}

impl CallPlace {
    pub(crate) fn stream(permit: StreamPermit) -> CallPlace {
        CallPlace::Stream(Arc::new(permit))
    }
}

/// Why an answer ends before its handler ended it.
#[derive(Debug)]
pub(crate) enum EarlyEnd {
    /// The token is no longer valid, or lost a scope.
    Revoked,
    /// The stream has lasted as long as a stream may.
    TimeOver,
    /// The answer takes long enough to count as a stream, and there is no place for one.
    NoPlace(Problem),
}

/// Takes the place of a stream.
pub(crate) type StreamPlace = Box<dyn FnOnce() -> Result<StreamPermit, Problem> + Send>;

/// The end of an answer in the form of its protocol.
pub(crate) type Ending = fn(EarlyEnd) -> Result<Frame<Bytes>, axum::Error>;

/// The conditions under which an answer goes on.
pub(crate) struct HoldTerms {
    /// `None` if the service that answered has not kept one.
    pub(crate) place: Option<CallPlace>,
    pub(crate) revocation: Option<Revocation>,
    /// The longest time of a stream.
    pub(crate) stream_time: Duration,
    /// After this time a request counts as a stream.
    pub(crate) becomes_stream: Option<(Duration, StreamPlace)>,
    /// The longest time in which the client takes nothing, and the connection that is closed then.
    pub(crate) stall: Option<(Duration, CloseSignal)>,
    pub(crate) ending: Ending,
}

/// A body that ends when its token is revoked or its time is over.
pub(crate) struct HeldBody {
    /// `None` after the end.
    body: Option<Body>,
    /// Bytes of the body that are not given to the connection yet.
    rest: Bytes,
    place: Option<CallPlace>,
    revocation: Option<Revocation>,
    time_over: Pin<Box<Sleep>>,
    becomes_stream: Option<(Pin<Box<Sleep>>, StreamPlace)>,
    stall: Option<StallWatch>,
    ending: Ending,
}

impl HeldBody {
    pub(crate) fn new(body: Body, terms: HoldTerms) -> HeldBody {
        let HoldTerms { place, revocation, stream_time, becomes_stream, stall, ending } = terms;
        HeldBody {
            body: Some(body),
            rest: Bytes::new(),
            place,
            revocation,
            time_over: Box::pin(sleep(stream_time)),
            becomes_stream: becomes_stream.map(|(after, take)| (Box::pin(sleep(after)), take)),
            stall: stall.map(|(time, close)| StallWatch::new(time, close)),
            ending,
        }
    }

    /// The next frame, of which data has a bounded size.
    fn next_part(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            let Some(body) = &mut self.body else { return Poll::Ready(None) };
            match ready!(Pin::new(body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.len() > PART_BYTES => self.rest = data,
                    Ok(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        let part = self.rest.split_to(PART_BYTES.min(self.rest.len()));
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    /// The reason to end now, if there is one.
    fn early_end(&mut self, context: &mut Context<'_>) -> Option<EarlyEnd> {
        if let Some(revocation) = &mut self.revocation
            && revocation.as_mut().poll(context).is_ready()
        {
            return Some(EarlyEnd::Revoked);
        }
        if self.time_over.as_mut().poll(context).is_ready() {
            return Some(EarlyEnd::TimeOver);
        }
        let is_long = self
            .becomes_stream
            .as_mut()
            .is_some_and(|(after, _)| after.as_mut().poll(context).is_ready());
        if is_long && let Some((_, take)) = self.becomes_stream.take() {
            match take() {
                Ok(permit) => self.place = Some(CallPlace::stream(permit)),
                Err(problem) => return Some(EarlyEnd::NoPlace(problem)),
            }
        }
        None
    }
}

impl HttpBody for HeldBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let held = &mut *self;
        if let Some(stall) = &held.stall {
            stall.taken();
        }
        if held.body.is_none() {
            return Poll::Ready(None);
        }
        if let Some(end) = held.early_end(context) {
            // Dropping the body ends the handler's stream.
            (held.body, held.rest) = (None, Bytes::new());
            return Poll::Ready(Some((held.ending)(end)));
        }
        let frame = held.next_part(context);
        if let (Poll::Ready(Some(_)), Some(stall)) = (&frame, &mut held.stall) {
            stall.given();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        // An early end makes the body shorter.
        SizeHint::default()
    }
}

/// Closes the connection of a client that takes nothing of an answer. With HTTP/2 such a client can
/// still answer pings, and take other answers, so no write to the connection waits.
struct StallWatch {
    /// Milliseconds from the begin to the moment when the answer had more to send, and one more;
    /// 0 while the connection has taken everything.
    since_ms: Arc<AtomicU64>,
    begin: Instant,
    time: Duration,
    close: CloseSignal,
    task: Option<AbortHandle>,
}

impl StallWatch {
    fn new(time: Duration, close: CloseSignal) -> StallWatch {
        let (since_ms, begin) = (Arc::new(AtomicU64::new(0)), Instant::now());
        StallWatch { since_ms, begin, time, close, task: None }
    }

    fn taken(&self) {
        self.since_ms.store(0, Ordering::Relaxed);
    }

    fn given(&mut self) {
        self.since_ms.store(millis(self.begin) + 1, Ordering::Relaxed);
        if self.task.is_none() {
            let (since_ms, begin) = (self.since_ms.clone(), self.begin);
            let (time, close) = (self.time, self.close.clone());
            let time_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            let watch = tokio::spawn(async move {
                loop {
                    sleep(time / 2).await;
                    let since = since_ms.load(Ordering::Relaxed);
                    if since > 0 && millis(begin).saturating_sub(since) >= time_ms {
                        tracing::debug!("a client takes nothing of an answer");
                        close.close();
                    }
                }
            });
            self.task = Some(watch.abort_handle());
        }
    }
}

fn millis(begin: Instant) -> u64 {
    u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Drop for StallWatch {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
