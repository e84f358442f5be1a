//! A store that runs a hook before and after its calls, such as between a decision and its append.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use diptych::{EventStore, Store};
use diptych_store::testing::{Call, Reply, WrappedStore};

/// The moment in a call at which the hook runs. All calls other than appends count as looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    BeforeAppend,
    AfterAppend,
    BeforeLook,
    AfterLook,
}

/// Awaits the hook before and after each call. The check of types at a start has no hook.
pub(crate) fn around<F>(
    store: Store,
    hook: impl Fn(Moment) -> F + Clone + Send + Sync + 'static,
) -> WrappedStore
where
    F: Future<Output = ()> + Send + 'static,
{
    let before = hook.clone();
    let begin = move |call: Call<'_>| {
        let hook = match call {
            Call::Append(_) => Some(before(Moment::BeforeAppend)),
            Call::Types => None,
            _ => Some(before(Moment::BeforeLook)),
        };
        async move {
            if let Some(hook) = hook {
                hook.await;
            }
            Ok(())
        }
    };
    let end = move |reply: Reply<'_>| {
        let hook = match reply {
            Reply::Append(_) => Some(hook(Moment::AfterAppend)),
            Reply::Types(_) => None,
            _ => Some(hook(Moment::AfterLook)),
        };
        async move {
            if let Some(hook) = hook {
                hook.await;
            }
        }
    };
    WrappedStore::over(store).before(begin).after(end)
}

/// A store whose calls yield once before they run and once after.
pub(crate) fn yielding(store: impl EventStore) -> WrappedStore {
    around(Store::new(store), |_| YieldOnce(false))
}

struct YieldOnce(bool);

impl Future for YieldOnce {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}
