//! A fuse: the named points at which a program can die, and the store of a program that dies at
//! one.

use std::{
    collections::BTreeMap,
    future::pending,
    sync::{Arc, Mutex},
};

use diptych_store::{
    Append, Store,
    testing::{Call, WrappedStore},
};
use rustix::process::{Signal, getpid, kill_process};
use tokio::sync::Notify;

/// A step of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// The log gets to know the process.
    Start,
    /// A reaction is committed, with the place of the process.
    Reaction,
    /// An instance is parked.
    Parking,
    /// An operator lets it go on.
    Release,
    /// The events of a command are committed.
    Command,
    /// It is committed that a command was rejected.
    Settlement,
    /// A call is claimed.
    CallStarted,
    /// A call has its effect outside.
    Effect,
    /// The answer of a call is committed.
    Answer,
    /// A timer fires.
    Firing,
    /// The place of the actions is stored.
    Mark,
}

/// A point before or after a step.
pub(crate) type Point = (Step, bool);

/// All named points, those of the start first.
pub(crate) fn points() -> Vec<Point> {
    use Step::{
        Answer, CallStarted, Command, Effect, Firing, Mark, Parking, Reaction, Release, Settlement,
        Start,
    };
    let steps = [
        Start,
        Reaction,
        Parking,
        Release,
        Command,
        Settlement,
        CallStarted,
        Effect,
        Answer,
        Firing,
        Mark,
    ];
    steps.into_iter().flat_map(|step| [(step, false), (step, true)]).collect()
}

fn step(append: &Append) -> Option<Step> {
    let source = append.tracking.as_ref().map(|tracking| tracking.source.as_str());
    let Some(event) = append.events.first() else {
        return source.map(|_| Step::Mark);
    };
    // A call has its answer here, and a command its rejection.
    let is_call = || String::from_utf8_lossy(&event.payload).contains("\"name\":\"payments\"");
    Some(match &*event.event_type {
        "diptych:process-started" => Step::Start,
        "diptych:process-reacted" => Step::Reaction,
        "diptych:process-parked" => Step::Parking,
        "diptych:process-call-started" => Step::CallStarted,
        "diptych:process-action-settled" if is_call() => Step::Answer,
        "diptych:process-action-settled" => Step::Settlement,
        "diptych:process-timer-fired" => Step::Firing,
        name if name.starts_with("diptych:") => return None,
        _ if append.key.is_some() => Step::Command,
        _ => return None,
    })
}

/// How a program dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// Nothing that it began goes on. The test then drops the app.
    Stands,
    /// SIGKILL.
    Killed,
}

/// Burns through when a program reaches a point for the nth time.
#[derive(Clone, Debug)]
pub(crate) struct Fuse(Arc<Burning>);

#[derive(Debug)]
struct Burning {
    doomed: Option<(Point, u32)>,
    death: Death,
    state: Mutex<FuseState>,
    died: Notify,
}

#[derive(Debug, Default)]
struct FuseState {
    seen: BTreeMap<Point, u32>,
    is_dead: bool,
}

impl Fuse {
    pub(crate) fn new(doomed: Option<(Point, u32)>, death: Death) -> Fuse {
        let (state, died) = (Mutex::default(), Notify::new());
        Fuse(Arc::new(Burning { doomed, death, state, died }))
    }

    /// A fuse that never burns through.
    pub(crate) fn none() -> Fuse {
        Fuse::new(None, Death::Stands)
    }

    /// Waits until the program is dead.
    pub(crate) async fn died(&self) {
        self.0.died.notified().await;
    }

    /// The program is at this point. If it dies here, or is dead, this never ends.
    pub(crate) async fn reach(&self, step: Step, after: bool) {
        let is_dead = {
            let mut state = self.0.state.lock().unwrap();
            let seen = state.seen.entry((step, after)).or_default();
            *seen += 1;
            if self.0.doomed == Some(((step, after), *seen)) && !state.is_dead {
                if self.0.death == Death::Killed {
                    kill_process(getpid(), Signal::KILL).unwrap();
                }
                state.is_dead = true;
                self.0.died.notify_one();
            }
            state.is_dead
        };
        if is_dead {
            pending::<()>().await;
        }
    }

    async fn live(&self) {
        let is_dead = self.0.state.lock().unwrap().is_dead;
        if is_dead {
            pending::<()>().await;
        }
    }
}

/// The store of a program that dies with its fuse.
pub(crate) fn mortal_store(store: Store, fuse: Fuse) -> WrappedStore {
    let living = fuse.clone();
    WrappedStore::over(store)
        .before(move |call| {
            let living = (!matches!(call, Call::Append(_))).then(|| living.clone());
            async move {
                if let Some(living) = living {
                    living.live().await;
                }
                Ok(())
            }
        })
        .append_by(move |store, append| {
            let fuse = fuse.clone();
            async move {
                let step = step(&append);
                match step {
                    Some(step) => fuse.reach(step, false).await,
                    None => fuse.live().await,
                }
                let accepted = store.append(append).await?;
                if let Some(step) = step {
                    fuse.reach(step, true).await;
                }
                Ok(accepted)
            }
        })
}
