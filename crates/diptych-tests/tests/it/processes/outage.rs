//! A store that does not answer for a while, during a call outside.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use diptych::{
    App, Memory, Store,
    process::{CallFailure, CallsFrom, Gateway, ProcessStart, ProcessState},
};
use diptych_store::{ReadError, Unavailable, testing::WrappedStore};
use tokio::sync::Semaphore;

use super::{
    provider::{Charge, ChargeReceipt},
    shop::{Place, Till, catalogue, ended, idle, policy, quick, until},
};

/// A provider that answers when it may.
#[derive(Clone)]
struct Slow {
    calls: Arc<AtomicU64>,
    may: Arc<Semaphore>,
}

impl Gateway for Slow {
    type Call = Charge;
    type Answer = ChargeReceipt;

    async fn send(&self, charge: &Charge, _: &str) -> Result<ChargeReceipt, CallFailure> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.may.acquire().await.unwrap().forget();
        Ok(ChargeReceipt { receipt: charge.order.to_string() })
    }
}

/// A call that is under way keeps its answer until the store takes it. If it were dropped, it would
/// count as unknown.
#[tokio::test]
async fn an_answer_that_comes_while_the_store_is_away_is_not_lost() {
    const ORDERS: usize = 20;
    let (store, is_away) = (Store::new(Memory::new()), Arc::new(AtomicBool::new(false)));
    let away = is_away.clone();
    let wrapped = WrappedStore::over(store.clone()).before(move |_| {
        let is_away = away.load(Ordering::SeqCst);
        async move {
            match is_away {
                false => Ok(()),
                true => {
                    let cause = Arc::new(io::Error::other("the line is cut"));
                    Err(ReadError::Unavailable(Unavailable::Backend(cause)))
                }
            }
        }
    });
    let slow = Slow { calls: Arc::default(), may: Arc::new(Semaphore::new(0)) };
    let mut options = quick();
    options.reactions_without_mark = 1;
    let app = App::over_store(Store::new(wrapped))
        .catalogue(catalogue())
        .gateway("payments", slow.clone(), CallsFrom::Beginning, policy())
        .process_with::<Till>(ProcessStart::Beginning, options);
    let app = app.start().await.unwrap();
    let client = App::over_store(store.clone()).start().await.unwrap();
    for order in (0..).step_by(5).take(ORDERS) {
        client.execute(Place { order }).await.unwrap();
    }
    let most = diptych::process::GatewayOptions::default().calls_at_once.min(ORDERS);
    until("calls are under way", || async { slow.calls.load(Ordering::SeqCst) == most as u64 })
        .await;

    is_away.store(true, Ordering::SeqCst);
    // An order that the process has to read meanwhile.
    client.execute(Place { order: 5_000 }).await.unwrap();
    slow.may.add_permits(ORDERS + 1);
    let control = app.process("till").unwrap();
    until("the process says that it waits", || async {
        let status = control.status();
        assert!(!matches!(status.state, ProcessState::Stopped { .. }), "{status:?}");
        let is_stalled = matches!(status.state, ProcessState::Stalled { .. });
        is_stalled && status.troubles.len() >= most
    })
    .await;
    is_away.store(false, Ordering::SeqCst);
    until("all orders have ended", || async { ended(&store).await.len() == ORDERS + 1 }).await;
    idle(&app).await;
    assert_eq!(slow.calls.load(Ordering::SeqCst), ORDERS as u64 + 1, "each call was made once");
    assert!(control.waiting_calls().await.unwrap().is_empty());
    assert_eq!(control.status().troubles, []);
    app.stop().await.unwrap();
    client.stop().await.unwrap();
}
