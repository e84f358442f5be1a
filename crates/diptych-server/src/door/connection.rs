//! Limits of one connection: a write to a slow client times out, and an unread body is discarded
//! within bounds.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    runtime::Handle,
    sync::Notify,
    time::{Sleep, sleep, timeout},
};

use crate::door::peers::{PeerConnection, RequestInProgress};

/// Closes a connection from the answer of one of its requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct CloseSignal(Arc<Notify>);

impl CloseSignal {
    #[cfg(feature = "log")]
    pub(crate) fn close(&self) {
        self.0.notify_one();
    }

    /// Waits until an answer closes the connection.
    pub(crate) async fn closed(&self) {
        self.0.notified().await;
    }
}

/// A stream whose writes fail after a time without progress. Otherwise a client that reads nothing
/// would keep its connection, and its answer, for ever.
pub(crate) struct TimedStream {
    stream: TcpStream,
    write_time: Duration,
    /// The time at which the waiting write fails; `None` while no write waits.
    deadline: Option<Pin<Box<Sleep>>>,
    /// The connection, which is in use while a write waits.
    place: Arc<PeerConnection>,
}

impl TimedStream {
    pub(crate) fn new(
        stream: TcpStream,
        write_time: Duration,
        place: Arc<PeerConnection>,
    ) -> TimedStream {
        TimedStream { stream, write_time, deadline: None, place }
    }

    fn in_time<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            if self.deadline.take().is_some() {
                self.place.sends(false);
            }
            return written;
        }
        self.place.sends(true);
        let write_time = self.write_time;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(write_time)));
        ready!(deadline.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for TimedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for TimedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.in_time(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.in_time(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The body of a request. When it is dropped, a task reads and discards the rest, within bounds.
/// Otherwise the connection would close while the client still sends. TCP would then reset it, and
/// the client would lose the answer.
pub(crate) struct DrainedBody {
    body: Option<Incoming>,
    /// Maximum bytes to discard.
    bytes: usize,
    /// Maximum time to spend on discarding.
    time: Duration,
    request: RequestInProgress,
}

impl DrainedBody {
    pub(crate) fn new(
        body: Incoming,
        bytes: usize,
        time: Duration,
        request: RequestInProgress,
    ) -> DrainedBody {
        DrainedBody { body: Some(body), bytes, time, request }
    }
}

impl Body for DrainedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

impl Drop for DrainedBody {
    fn drop(&mut self) {
        let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) else { return };
        if self.bytes > 0
            && let Ok(runtime) = Handle::try_current()
        {
            let (request, discarded) = (self.request.clone(), discard(body, self.bytes));
            let discarded = timeout(self.time, discarded);
            runtime.spawn(async move {
                // A body above the bounds closes the connection.
                let _ = discarded.await;
                drop(request);
            });
        }
    }
}

async fn discard(mut body: Incoming, mut bytes: usize) {
    while let Some(Ok(frame)) = body.frame().await {
        let read = frame.data_ref().map_or(0, Bytes::len);
        match bytes.checked_sub(read) {
            Some(left) => bytes = left,
            None => return,
        }
    }
}
