//! A fold that keeps all its events, a command that reveals its state, and a command that writes.

use std::{fmt::Debug, marker::PhantomData, ops::Deref};

use diptych::{
    App, Command, DecisionContext, Event, ExecuteError, Filter, Fold, Receipt, Recorded,
};
use serde::{Deserialize, Serialize};

/// All folded events, with their positions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub(crate) struct HeardEvents<E> {
    pub(crate) lines: Vec<String>,
    event: PhantomData<fn() -> E>,
}

impl<E> Default for HeardEvents<E> {
    fn default() -> HeardEvents<E> {
        HeardEvents { lines: Vec::new(), event: PhantomData }
    }
}

impl<E: Event + Debug> Fold for HeardEvents<E> {
    type Event = E;

    fn apply(&mut self, event: &Recorded<E>) {
        self.lines.push(format!("{} {:?}", event.position, event.deref()));
    }
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{0:?}")]
pub(crate) struct Saw<F: Debug>(pub(crate) F);

/// Rejects, with the state as the reason.
pub(crate) struct Look<F> {
    boundary: Filter,
    fold: PhantomData<fn() -> F>,
}

impl<F> Look<F> {
    pub(crate) fn at(boundary: &Filter) -> Look<F> {
        Look { boundary: boundary.clone(), fold: PhantomData }
    }
}

impl<F: Fold + Clone + Debug> Command for Look<F> {
    type State = F;
    type Event = F::Event;
    type Rejection = Saw<F>;

    fn boundary(&self) -> Filter {
        self.boundary.clone()
    }

    fn decide(&self, state: &F, _: &DecisionContext) -> Result<Vec<F::Event>, Saw<F>> {
        Err(Saw(state.clone()))
    }
}

/// Returns the state of a fold, as a rule sees it.
pub(crate) async fn look<F: Fold + Clone + Debug>(
    app: &App,
    boundary: &Filter,
) -> Result<F, ExecuteError<Saw<F>>> {
    match app.execute(Look::<F>::at(boundary)).await {
        Err(ExecuteError::Rejected(Saw(state))) => Ok(state),
        Err(error) => Err(error),
        Ok(receipt) => panic!("{receipt:?}"),
    }
}

/// Returns the events that a rule sees in this boundary, as lines.
pub(crate) async fn heard<E: Event + Debug + Clone>(
    app: &App,
    boundary: &Filter,
) -> Result<Vec<String>, String> {
    let heard = look::<HeardEvents<E>>(app, boundary).await;
    heard.map(|heard| heard.lines).map_err(|error| error.to_string())
}

/// Writes these events, whatever the state of `F` over the boundary is.
pub(crate) struct Say<F, E> {
    pub(crate) boundary: Filter,
    pub(crate) events: Vec<E>,
    fold: PhantomData<fn() -> F>,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("never")]
pub(crate) struct Never;

impl<F: Fold, E: Event + Clone> Command for Say<F, E> {
    type State = F;
    type Event = E;
    type Rejection = Never;

    fn boundary(&self) -> Filter {
        self.boundary.clone()
    }

    fn decide(&self, _: &F, _: &DecisionContext) -> Result<Vec<E>, Never> {
        Ok(self.events.clone())
    }
}

pub(crate) fn say<F: Fold, E: Event + Clone>(
    boundary: &Filter,
    events: impl IntoIterator<Item = E>,
) -> Say<F, E> {
    let events = events.into_iter().collect();
    Say { boundary: boundary.clone(), events, fold: PhantomData }
}

/// Writes these events, with a fold over events of the same type.
pub(crate) async fn told<E: Event + Clone + Debug>(
    app: &App,
    boundary: &Filter,
    events: impl IntoIterator<Item = E>,
) -> Result<Receipt, ExecuteError<Never>> {
    app.execute(say::<HeardEvents<E>, E>(boundary, events)).await
}
