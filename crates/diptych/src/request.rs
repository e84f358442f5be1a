//! A request that is built step by step, and is then one future that carries it out.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A request with the parts `B` and the outcome `T`.
pub(crate) enum Request<B, T> {
    Building(B),
    Running(BoxFuture<T>),
    Ended,
}

impl<B, T> Request<B, T> {
    /// Changes the parts. A request that was polled stays as it is.
    #[must_use]
    pub(crate) fn with(mut self, change: impl FnOnce(&mut B)) -> Request<B, T> {
        if let Request::Building(parts) = &mut self {
            change(parts);
        }
        self
    }

    /// The parts, before the request was polled.
    pub(crate) fn parts(&self) -> Option<&B> {
        match self {
            Request::Building(parts) => Some(parts),
            Request::Running(_) | Request::Ended => None,
        }
    }

    /// The parts of a request that was not polled.
    ///
    /// # Panics
    /// If it was polled.
    pub(crate) fn into_parts(self) -> B {
        match self {
            Request::Building(parts) => parts,
            Request::Running(_) | Request::Ended => panic!("a request that was polled has begun"),
        }
    }

    /// Begins the request at the first poll, and goes on with it at the following ones.
    pub(crate) fn poll(
        &mut self,
        context: &mut Context<'_>,
        begin: impl FnOnce(B) -> BoxFuture<T>,
    ) -> Poll<T> {
        let mut running = match std::mem::replace(self, Request::Ended) {
            Request::Building(parts) => begin(parts),
            Request::Running(running) => running,
            Request::Ended => panic!("a request that has its answer is not polled again"),
        };
        let outcome = running.as_mut().poll(context);
        if outcome.is_pending() {
            *self = Request::Running(running);
        }
        outcome
    }
}
