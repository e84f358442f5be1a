//! The thread of one follower: it reads the log, passes the events to the follower, and serves
//! requests in between.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    thread,
    time::Duration,
};

use diptych_store::{Filter, Position, ReadError, Tag, Unavailable};
use tokio::{runtime::Handle, sync::mpsc::error::TryRecvError, time::Instant};

use super::{
    FollowState, FollowerFeed, FollowerStop, Progress, Slice,
    control::{ControlError, FollowerRequest, Reply, Requests, WorkerControl},
    follower::{Follower, Halt, Refresh},
    poison::SkipNote,
    versions::{BETWEEN_LOOKS, Pace, VersionChange, VersionOutcome},
};
use crate::{event::Reading, panics::caught, wait::unpark_this_thread};

/// The first wait before a retry; it doubles with each retry.
const FIRST_WAIT: Duration = Duration::from_millis(10);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The condition that ends an idle wait. A request always ends it.
enum Idle {
    /// The log has new events.
    News,
    /// This time has passed, if there is a limit. New events do not end the wait.
    For(Option<Duration>),
}

/// Starts the follower on a thread of its own.
pub(crate) fn spawn<F: Follower>(
    mut follower: F,
    feed: Arc<FollowerFeed>,
    reading: Arc<Reading<F::Event>>,
    filter: Filter,
    refresh: Refresh,
    progress: Arc<Progress>,
) -> io::Result<WorkerControl> {
    let (control, requests) = WorkerControl::new(progress.clone());
    follower.run_by(control.handle());
    feed.join(&progress);
    let worker = Worker {
        follower,
        feed,
        reading,
        filter,
        refresh,
        progress: progress.clone(),
        is_open: false,
        rests_since: None,
        requests,
        asked: None,
        mode: Mode::Running,
        wait: FIRST_WAIT,
        not_stepped: None,
    };
    // The store may need the runtime that the app was started on.
    let runtime = Handle::try_current().ok();
    let name = format!("diptych {}", progress.name());
    let thread = thread::Builder::new().name(name).spawn(move || {
        let _entered = runtime.as_ref().map(Handle::enter);
        let at = progress.clone();
        if let Err(panic) = caught(move || worker.run())
            && at.state() != FollowState::Closed
        {
            let stopped = FollowerStop { at: at.position().plus(1), reason: panic };
            tracing::error!(follower = at.name(), %stopped, "following the log ended");
            at.set(FollowState::Stopped(stopped));
        }
    })?;
    control.runs_on(thread);
    Ok(control)
}

enum Rest {
    No,
    /// This long, or until a request if there is no limit.
    For(Option<Duration>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Running,
    Paused,
    /// It stopped, or the log ended.
    Halted,
}

struct Worker<F: Follower> {
    follower: F,
    feed: Arc<FollowerFeed>,
    reading: Arc<Reading<F::Event>>,
    filter: Filter,
    refresh: Refresh,
    progress: Arc<Progress>,
    is_open: bool,
    /// When it was last at the end of the log; `None` if it has to continue.
    rests_since: Option<Instant>,
    requests: Requests,
    /// A request that ended an idle wait.
    asked: Option<(FollowerRequest, Reply)>,
    mode: Mode,
    /// The wait before the next retry.
    wait: Duration,
    /// Why the last step applied nothing, though it can be retried.
    not_stepped: Option<String>,
}

impl<F: Follower> Worker<F> {
    fn run(mut self) {
        loop {
            match self.asked() {
                Ok(Some((request, reply))) => {
                    self.serve(request, reply);
                    continue;
                }
                Ok(None) => {}
                Err(Ending) => return self.close(),
            }
            if self.mode == Mode::Running && self.is_open && self.is_held() {
                continue;
            }
            match self.mode {
                Mode::Running if !self.is_open => self.open(),
                Mode::Running if self.is_behind() => match self.rest() {
                    Rest::No => self.advance(|slice| slice),
                    Rest::For(left) => self.idle(Idle::For(left)),
                },
                Mode::Running => {
                    self.rests_since = Some(Instant::now());
                    self.progress.caught_up();
                    self.progress.set(FollowState::Live);
                    self.idle(Idle::News);
                }
                Mode::Paused if !self.is_behind() => self.idle(Idle::News),
                Mode::Paused | Mode::Halted => self.idle(Idle::For(None)),
            }
        }
    }

    fn asked(&mut self) -> Result<Option<(FollowerRequest, Reply)>, Ending> {
        if self.progress.is_ending() {
            return Err(Ending);
        }
        if let Some(request) = self.asked.take() {
            return Ok(Some(request));
        }
        match self.requests.try_recv() {
            Ok(request) => Ok(Some(request)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(Ending),
        }
    }

    fn open(&mut self) {
        self.progress.begin_work();
        let opened = self.follower.open(self.feed.head());
        self.progress.end_work();
        match opened {
            Ok(()) => {
                self.is_open = true;
                self.goes_on();
            }
            Err(Halt::At(stopped)) => self.stop(stopped),
            Err(Halt::Later { reason }) => self.stall(reason),
        }
    }

    /// Notes a success: the wait before a retry is short again, and a stalled follower catches up.
    fn goes_on(&mut self) {
        self.wait = FIRST_WAIT;
        if self.mode == Mode::Running
            && matches!(self.progress.state(), FollowState::Stalled { .. })
        {
            self.progress.set(FollowState::CatchingUp);
        }
    }

    /// Whether new events have to wait.
    fn rest(&mut self) -> Rest {
        let Some(since) = self.rests_since else { return Rest::No };
        let left = match self.refresh {
            Refresh::Live => Some(Duration::ZERO),
            Refresh::Every(interval) => Some(interval.saturating_sub(since.elapsed())),
            Refresh::OnDemand => None,
        };
        if left == Some(Duration::ZERO) {
            self.rests_since = None;
            return Rest::No;
        }
        self.progress.set(FollowState::Resting);
        Rest::For(left)
    }

    /// Whether it waited at the position of the served version, or could not look at that one.
    fn is_held(&mut self) -> bool {
        match self.follower.pace() {
            Ok(Pace::On) => {
                if matches!(self.progress.state(), FollowState::Beside { .. }) {
                    self.progress.set(FollowState::CatchingUp);
                }
                false
            }
            Ok(Pace::Hold { reason }) => {
                self.wait = FIRST_WAIT;
                self.progress.set(FollowState::Beside { reason });
                self.idle(Idle::For(Some(BETWEEN_LOOKS)));
                true
            }
            Err(Halt::At(stopped)) => {
                self.stop(stopped);
                true
            }
            Err(Halt::Later { reason }) => {
                self.stall(reason);
                true
            }
        }
    }

    fn is_behind(&self) -> bool {
        self.follower.position() < self.feed.head().position()
    }

    /// Reads the next page, and applies the part of it that `part` selects.
    fn advance(&mut self, part: impl FnOnce(Slice<F::Event>) -> Slice<F::Event>) {
        let after = self.follower.position();
        self.progress.begin_work();
        let failures = self.follower.failures();
        let read = self.feed.next(&self.progress, &self.reading, &self.filter, after, failures);
        let slice = match read {
            Ok(slice) => part(slice),
            Err(error) => {
                self.progress.end_work();
                return self.not_read(error, after);
            }
        };
        let failed = slice.failed().cloned();
        let (upto, complete_at) = (slice.upto, slice.complete_at());
        let span = tracing::debug_span!(
            "fold",
            follower = self.progress.name(),
            after = after.get(),
            upto = slice.upto.get(),
            events = slice.events().len(),
        );
        let taken = match slice.upto > after {
            true => span.in_scope(|| self.follower.take(slice)),
            false => Ok(()),
        };
        self.progress.end_work();
        match (taken, failed) {
            (Ok(()), None) => {
                self.goes_on();
                self.progress.measure(self.feed.head().position());
                // The follower may have gone back to a lower position meanwhile.
                if let Some(at) = complete_at
                    && self.follower.position() >= upto
                {
                    self.progress.was_complete(at);
                }
            }
            (Ok(()), Some((at, error))) if self.follower.position() == at.before() => {
                self.stop(FollowerStop { at, reason: error.to_string() });
            }
            // Another program moved the checkpoint.
            (Ok(()), Some(_)) => self.goes_on(),
            (Err(Halt::At(stopped)), _) => self.stop(stopped),
            (Err(Halt::Later { reason }), _) => self.stall(reason),
        }
    }

    fn not_read(&mut self, error: ReadError, after: Position) {
        match error {
            // The follower has to end, and this cut the read short.
            _ if self.progress.is_ending() => {}
            ReadError::Unavailable(Unavailable::Backend(_) | Unavailable::Storage { .. }) => {
                self.stall(error.to_string());
            }
            ReadError::Unavailable(why) => self.ended(why),
            _ => self.stop(FollowerStop { at: after.plus(1), reason: error.to_string() }),
        }
    }

    fn stop(&mut self, stopped: FollowerStop) {
        // Fixing the cause may change the position, so the follower is opened again.
        self.is_open = false;
        tracing::error!(follower = self.progress.name(), %stopped, "following the log");
        self.mode = Mode::Halted;
        self.follower.rests();
        self.progress.set(FollowState::Stopped(stopped));
    }

    fn ended(&mut self, why: Unavailable) {
        self.mode = Mode::Halted;
        self.follower.rests();
        self.progress.set(match why {
            Unavailable::HistoryChanged(changed) => FollowState::HistoryChanged(changed),
            why => FollowState::Ended { reason: why.to_string() },
        });
    }

    fn stall(&mut self, reason: String) {
        if self.mode == Mode::Paused {
            self.not_stepped = Some(reason);
            return;
        }
        tracing::warn!(follower = self.progress.name(), reason, "following the log waits");
        self.follower.rests();
        self.progress.set(FollowState::Stalled { reason });
        let wait = self.wait;
        self.wait = (wait * 2).min(LONGEST_WAIT);
        self.idle(Idle::For(Some(wait)));
    }

    /// Waits for a request, or for the given event.
    fn idle(&mut self, idle: Idle) {
        if self.is_behind() {
            self.progress.fell_behind();
        }
        self.progress.measure(self.feed.head().position());
        let (mut news, longest) = match idle {
            // If the head has moved by now, the future is ready at once.
            Idle::News => {
                let news = self.feed.head().after(self.follower.position());
                (Some(news), self.follower.looks_after())
            }
            Idle::For(wait) => (None, wait),
        };
        let until = longest.map(|longest| Instant::now() + longest);
        let waker = unpark_this_thread();
        let mut context = Context::from_waker(&waker);
        loop {
            match self.requests.poll_recv(&mut context) {
                Poll::Ready(Some(request)) => {
                    self.asked = Some(request);
                    return;
                }
                Poll::Ready(None) => return,
                Poll::Pending if self.progress.is_ending() => return,
                Poll::Pending => {}
            }
            if let Some(news) = &mut news
                && let Poll::Ready(moved) = Pin::new(news).poll(&mut context)
            {
                return match moved {
                    Ok(_) => self.progress.fell_behind(),
                    Err(why) => self.ended(why),
                };
            }
            match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => thread::park(),
                Some(Duration::ZERO) => return,
                Some(left) => thread::park_timeout(left),
            }
        }
    }

    fn serve(&mut self, request: FollowerRequest, reply: Reply) {
        let outcome = match request {
            FollowerRequest::Pause => self.pause(),
            FollowerRequest::Step => self.step(),
            FollowerRequest::Resume => self.resume(),
            FollowerRequest::Refresh => self.refresh(),
            FollowerRequest::Rebuild => self.rebuild(),
            FollowerRequest::Save => self.save(),
            FollowerRequest::Confirm => self.confirm(),
            FollowerRequest::Change(change) => self.change(change),
            FollowerRequest::Release { key, skip } => self.release(&key, skip),
        };
        // The caller may have gone.
        let _ = reply.send(outcome.map(|()| self.follower.position()));
    }

    fn pause(&mut self) -> Result<(), ControlError> {
        if self.mode == Mode::Running {
            self.mode = Mode::Paused;
            self.follower.rests();
            self.progress.set(FollowState::Paused);
        }
        self.halted()
    }

    fn step(&mut self) -> Result<(), ControlError> {
        self.halted()?;
        if self.mode == Mode::Running {
            return Err(ControlError::NotPaused);
        }
        if !self.is_open {
            self.open();
            self.stepped()?;
        }
        // A page may have nothing for this follower.
        while self.is_behind() && self.mode == Mode::Paused {
            let (before, mut found) = (self.follower.position(), 0);
            self.advance(|slice| {
                let first = slice.first();
                found = first.events().len();
                first
            });
            if found > 0 || self.follower.position() == before {
                break;
            }
        }
        self.stepped()
    }

    fn stepped(&mut self) -> Result<(), ControlError> {
        match self.not_stepped.take() {
            Some(reason) => Err(ControlError::Failed { reason }),
            None => self.halted(),
        }
    }

    fn resume(&mut self) -> Result<(), ControlError> {
        if self.mode == Mode::Halted && self.feed.head().ended().is_some() && !self.is_behind() {
            return self.halted();
        }
        self.mode = Mode::Running;
        self.progress.set(FollowState::CatchingUp);
        self.confirm_if_it_can()
    }

    fn refresh(&mut self) -> Result<(), ControlError> {
        self.rests_since = None;
        self.halted()?;
        self.confirm_if_it_can()
    }

    /// As [`confirm`](Worker::confirm), without an error if a retry follows anyway.
    fn confirm_if_it_can(&mut self) -> Result<(), ControlError> {
        match self.confirm() {
            Err(ControlError::Failed { .. }) => Ok(()),
            outcome => outcome,
        }
    }

    /// Checks that the state outside the log is unchanged.
    fn confirm(&mut self) -> Result<(), ControlError> {
        if !F::IS_OUTSIDE {
            return Ok(());
        }
        let before = self.follower.position();
        self.progress.begin_work();
        // A halted follower is only checked. `resume` opens it again.
        let looked = match self.is_open || self.mode == Mode::Halted {
            true => self.follower.confirm(),
            false => self.follower.open(self.feed.head()),
        };
        self.progress.end_work();
        match looked {
            Ok(()) => {
                self.is_open |= self.mode != Mode::Halted;
                self.goes_on();
                if self.follower.position() < before {
                    // Rows are gone. They are made again now, whatever the refresh option is.
                    self.rests_since = None;
                }
                Ok(())
            }
            Err(Halt::At(stopped)) => {
                self.stop(stopped.clone());
                Err(ControlError::Stopped(stopped))
            }
            Err(Halt::Later { reason }) => {
                self.is_open = false;
                // Limits how often a caller can repeat the request.
                self.idle(Idle::For(Some(FIRST_WAIT)));
                Err(ControlError::Failed { reason })
            }
        }
    }

    fn rebuild(&mut self) -> Result<(), ControlError> {
        self.follower.restart().map_err(|reason| ControlError::Failed { reason })?;
        self.mode = Mode::Running;
        self.rests_since = None;
        self.progress.set(FollowState::CatchingUp);
        Ok(())
    }

    /// Reads the held events of a poisoned key again, and applies them.
    fn release(&mut self, key: &Tag, skip: Option<SkipNote>) -> Result<(), ControlError> {
        let failed = |reason| ControlError::Failed { reason };
        let Some(group) = self.follower.poisoned_group(key) else {
            return Err(failed(format!("{key} is not poisoned")));
        };
        let of_key = |tag| self.filter.clone().and_tag(tag);
        let filter = group.tags().map(of_key).reduce(Filter::or).unwrap_or(Filter::nothing());
        let range = (group.first.before(), self.follower.position());
        let held = self.feed.held(&self.progress, &self.reading, &filter, range);
        let held = held.map_err(|error| failed(error.to_string()))?;
        self.follower.release(key, held, skip).map_err(failed)
    }

    fn change(&mut self, change: VersionChange) -> Result<(), ControlError> {
        if !self.is_open && self.mode == Mode::Running {
            self.open();
        }
        if !self.is_open {
            self.halted()?;
            return Err(ControlError::Failed { reason: "it has not begun: try again".to_owned() });
        }
        let changed = self.follower.change(change);
        match changed.map_err(|reason| ControlError::Failed { reason })? {
            VersionOutcome::Done => {
                self.rests_since = None;
                Ok(())
            }
            VersionOutcome::Unequal { served, other } => {
                Err(ControlError::Unequal { served, other })
            }
            VersionOutcome::Different { difference } => Err(ControlError::Different { difference }),
        }
    }

    fn save(&mut self) -> Result<(), ControlError> {
        self.follower.save().map_err(|reason| ControlError::Failed { reason })
    }

    fn close(&mut self) {
        self.follower.close();
        self.mode = Mode::Halted;
        self.progress.set(FollowState::Closed);
    }

    /// The reason why it cannot continue, if there is one.
    fn halted(&self) -> Result<(), ControlError> {
        match self.progress.arrivals() {
            Ok(_) => Ok(()),
            Err(halted) => Err(halted.into()),
        }
    }
}

/// The thread has to end.
struct Ending;
