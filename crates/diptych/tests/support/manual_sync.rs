//! Futures that a test polls by hand, over a log that syncs only on demand. Accepted commits stay
//! unsynced for as long as a test wants.

use std::{
    error::Error,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use diptych::{
    App, AppBuilder, Command, Execute, ExecuteError, Filter, Log, LogOptions, Receipt, Tag,
    event::{Codec, Json},
};
use diptych_log::{
    Background,
    disk::simulated::{Fault, Operation, SimulatedDisk},
};
use diptych_store::{Append, EventStore, RawEvent, Read};
use serde::Serialize;

const FOLDER: &str = "/data/log";

/// An app over a log on a simulated disk.
pub(crate) struct Rig {
    pub(crate) disk: SimulatedDisk,
    pub(crate) log: Log,
    pub(crate) app: App,
}

impl Rig {
    pub(crate) fn new() -> Rig {
        Rig::on(SimulatedDisk::new(1))
    }

    /// Opens the log on this disk.
    pub(crate) fn on(disk: SimulatedDisk) -> Rig {
        Rig::with(disk, |builder| builder)
    }

    pub(crate) fn with(disk: SimulatedDisk, set: impl FnOnce(AppBuilder) -> AppBuilder) -> Rig {
        let log = open(&disk);
        let app = now(set(App::over(log.clone())).start()).unwrap();
        Rig { disk, log, app }
    }

    /// Makes everything accepted durable.
    pub(crate) fn flush(&self) {
        self.log.blocking().flush().unwrap();
    }

    /// Lets the next sync fail, and requests it.
    pub(crate) fn fail(&self) {
        self.disk.fail_after(0, Fault::Io(Operation::Sync));
        self.log.blocking().flush().unwrap_err();
    }

    /// Opens the log again, on the disk as it is after a loss of power.
    pub(crate) fn after_power_loss(self, seed: u64) -> Rig {
        Rig::on(self.disk.power_loss(seed))
    }

    pub(crate) fn head(&self) -> u64 {
        EventStore::head(&self.log).position().get()
    }

    /// The types of all durable events, in order.
    pub(crate) fn types(&self) -> Vec<String> {
        let batch = self.log.blocking().read(&Filter::everything(), Read::all()).unwrap();
        batch.iter().map(|event| event.event_type().to_owned()).collect()
    }

    /// Another writer appends this event directly to the log, without any app.
    pub(crate) fn write(&self, event: RawEvent) -> u64 {
        self.log.blocking().append(Append::event(event)).unwrap().first.get()
    }
}

pub(crate) fn open(disk: &SimulatedDisk) -> Log {
    let options = LogOptions {
        background: Background::Inline,
        disk: Arc::new(disk.clone()),
        ..LogOptions::default()
    };
    Log::open(FOLDER, options).unwrap()
}

/// An event as another program writes it.
pub(crate) fn raw(event_type: &'static str, payload: &impl Serialize, tags: &[&str]) -> RawEvent {
    let event = RawEvent::new(event_type, Json::encode(payload).unwrap());
    tags.iter().map(|tag| Tag::parse(tag).unwrap()).fold(event, RawEvent::tag)
}

/// A future that a test polls when it wants to.
pub(crate) struct HeldFuture<T>(Pin<Box<dyn Future<Output = T> + Send>>);

/// The future of a command.
pub(crate) type SentCommand<R> = HeldFuture<Result<Receipt, ExecuteError<R>>>;

impl<T> HeldFuture<T> {
    pub(crate) fn new(future: impl Future<Output = T> + Send + 'static) -> HeldFuture<T> {
        HeldFuture(Box::pin(future))
    }

    pub(crate) fn poll(&mut self) -> Poll<T> {
        self.0.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    /// Polls the future once and asserts that it is pending.
    #[track_caller]
    pub(crate) fn waits(&mut self) {
        assert!(self.poll().is_pending(), "the future should be pending");
    }

    /// Polls the future once and returns its answer. Panics if it is pending.
    #[track_caller]
    pub(crate) fn done(&mut self) -> T {
        match self.poll() {
            Poll::Ready(answer) => answer,
            Poll::Pending => panic!("the future should be ready"),
        }
    }
}

/// Sends a command and polls it once. Asserts that it waits for the sync.
#[track_caller]
pub(crate) fn send<C: Command>(execute: Execute<C>) -> SentCommand<C::Rejection> {
    let mut sent = begin(execute);
    sent.waits();
    sent
}

/// A command that is not polled yet.
pub(crate) fn begin<C: Command>(execute: Execute<C>) -> SentCommand<C::Rejection> {
    HeldFuture(Box::pin(execute))
}

/// The answer of a future that is ready at its first poll.
#[track_caller]
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("the future should be ready at its first poll"),
    }
}

/// Extracts the rejection from an answer. Panics on any other answer.
#[track_caller]
pub(crate) fn rejected<R: Error + Clone>(answer: Result<Receipt, ExecuteError<R>>) -> R {
    match answer {
        Err(ExecuteError::Rejected(reason)) => reason,
        other => panic!("not a rejection: {other:?}"),
    }
}

/// First and last position of a receipt.
pub(crate) fn positions(receipt: &Receipt) -> (u64, u64) {
    (receipt.first().get(), receipt.last().get())
}
