//! Folds of the past on the threads of the app.

use std::{
    any::type_name,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    task::{Context, Poll},
};

use crate::{
    panics::panic_text,
    pool::PoolAnswer,
    query::{Query, QueryError, QueryPanicked, RightPanel},
};

/// A fold of the past that waits or runs. Dropping it cancels the fold within a page of events.
#[must_use = "dropping a fold cancels it"]
pub(super) struct PastFold<T>(PoolAnswer<Result<T, QueryError>>);

/// Runs a fold for a query, once a thread is free. `fold` is called only if the pool admits it. The
/// fold must not keep the app alive.
///
/// # Errors
/// [`QueryError::Busy`] if too many folds wait, [`QueryError::AppStopped`], or
/// [`QueryError::NoThread`].
pub(super) fn start<Q: Query, T: Send + 'static, F>(
    panel: &RightPanel,
    fold: impl FnOnce() -> F,
) -> Result<PastFold<T>, QueryError>
where
    F: Future<Output = Result<T, QueryError>> + Send + 'static,
{
    Ok(PastFold(panel.past.start(|| caught_fold(type_name::<Q>(), fold()))?))
}

impl<T> Future for PastFold<T> {
    type Output = Result<T, QueryError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = Pin::new(&mut self.0).poll(context);
        answer.map(|answer| answer.unwrap_or(Err(QueryError::AppStopped)))
    }
}

/// Turns a panic of the application's code or of the store into an error of the query.
async fn caught_fold<T>(
    query: &'static str,
    fold: impl Future<Output = Result<T, QueryError>>,
) -> Result<T, QueryError> {
    let mut fold = pin!(fold);
    let polled =
        poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| fold.as_mut().poll(context))) {
            Ok(polled) => polled,
            Err(panic) => {
                let message = panic_text(&*panic);
                Poll::Ready(Err(QueryError::Panicked(QueryPanicked { query, message })))
            }
        });
    polled.await
}
