//! Retagging beside programs that write: older ones, newer ones, and others that retag.

use std::{convert::Infallible, sync::Arc};

use diptych::{
    App, Command, DecisionContext, ExecuteError, Filter, Memory, StartError, Store, Tag,
};
use diptych_store::testing::{Call, WrappedStore};
use parking_lot::Mutex;

use crate::{
    retagging::{
        AddressTaken, Holders, Register, Registered, email, is_outdated, number, old, older, over,
        retagging, seen, with,
    },
    support::counted_store::everything,
};

/// The older program writes before each call of the newer one, until it is fenced.
async fn race(inner: Store) {
    let older = App::over_store(inner.clone()).start().await.unwrap();
    for customer in 1..=5 {
        older.execute(older::Register(customer)).await.unwrap();
    }
    let (accepted, fenced) = (Arc::new(Mutex::new(5)), Arc::new(Mutex::new(None)));
    let (racer, written, refused) = (older.clone(), accepted.clone(), fenced.clone());
    let store = WrappedStore::over(inner.clone()).before(move |call| {
        let is_raced = matches!(call, Call::Append(_) | Call::Read(..) | Call::Last(..));
        let (racer, written, refused) = (racer.clone(), written.clone(), refused.clone());
        async move {
            if !is_raced || refused.lock().is_some() {
                return Ok(());
            }
            match racer.execute(older::Register(7)).await {
                Ok(_) => *written.lock() += 1,
                Err(error) => *refused.lock() = Some(error),
            }
            Ok(())
        }
    });
    let app = retagging(store).await;
    app.retag().await.unwrap();
    let written = *accepted.lock();
    assert!(written > 9, "{written}");
    let refused = older.execute(older::Register(8)).await;
    assert!(is_outdated(&refused), "{refused:?}");
    let text = fenced.lock().take().unwrap_or_else(|| refused.unwrap_err()).to_string();
    for part in ["customer-registered version 1 without it", "tag email", "deploy the release"] {
        assert!(text.contains(part), "{text}");
    }
    let seen = seen(&app, email("a@x")).await;
    let all = everything(&inner).into_iter();
    let all = all.filter(|(.., event)| event.event_type == "customer-registered");
    assert_eq!(seen, all.map(|(at, ..)| at.get()).collect::<Vec<_>>());
    assert_eq!(seen.len(), written);
    // It does not start any more, either, unless it says that no rule needs the tag.
    let start = || App::over_store(inner.clone()).events::<older::Registered>();
    let outdated = start().start().await.unwrap_err();
    assert!(matches!(outdated, StartError::Outdated(_)), "{outdated}");
    let accepting = start().accept_untagged("customer-registered", "email").start().await;
    accepting.unwrap().execute(older::Register(9)).await.unwrap();
}

#[tokio::test]
async fn an_older_program_writes_until_it_is_fenced_and_the_rule_sees_all_of_its_events() {
    race(Store::new(Memory::new())).await;
    let folder = tempfile::tempdir().unwrap();
    let log = diptych::Log::open(folder.path(), diptych::LogOptions::default()).unwrap();
    race(Store::new(log)).await;
}

#[tokio::test]
async fn commands_of_the_newer_program_go_on_while_it_retags() {
    let store = with((1..=600).map(|customer| old(customer, "a@x")));
    let (app, beside) = (retagging(store.store()).await, retagging(store.store()).await);
    store.slow();
    let busy = async {
        for customer in 1..=100 {
            beside.execute(older_key(customer)).await.unwrap();
        }
    };
    let (report, ()) = tokio::join!(app.retag(), busy);
    assert_eq!(report.unwrap().completed.len(), 1);
    assert_eq!(seen(&beside, email("a@x")).await.len(), 600);
    assert_eq!(seen(&beside, email("b@x")).await.len(), 100);
}

/// A command of the newer program over a tag that the older events carry.
fn older_key(customer: u64) -> impl Command<Rejection = Infallible> {
    struct Again(u64);
    impl Command for Again {
        type State = Holders;
        type Event = Registered;
        type Rejection = Infallible;

        fn boundary(&self) -> Filter {
            Filter::tag(Tag::new("customer", self.0))
        }

        fn decide(
            &self,
            holders: &Holders,
            _: &DecisionContext,
        ) -> Result<Vec<Registered>, Infallible> {
            assert_eq!(holders.positions, [self.0]);
            Ok(vec![Registered { customer: self.0, email: "b@x".to_owned() }])
        }
    }
    Again(customer)
}

#[tokio::test]
async fn two_apps_retag_at_once_and_complete_it_once() {
    for slow in [false, true] {
        let store = with((1..=1_000).map(|customer| old(customer, "a@x")));
        let (one, other) = (retagging(store.store()).await, retagging(store.store()).await);
        if slow {
            store.slow();
        }
        let (first, second) = tokio::join!(one.retag(), other.retag());
        assert!(first.unwrap().retagged + second.unwrap().retagged >= 1_000);
        for app in [one, other] {
            assert_eq!(seen(&app, email("a@x")).await, (1..=1_000).collect::<Vec<_>>());
        }
        assert_eq!(number(store.inner(), "diptych:retag-completed"), 1);
    }
}

#[tokio::test]
async fn an_app_that_another_process_overtakes_learns_of_the_tags_before_it_decides() {
    let log = Store::new(Memory::new());
    let behind = || WrappedStore::over(log.clone()).behind();
    // Nothing lacks a tag yet, so the rule is not refused, and its state is cached.
    let app = over(behind()).start().await.unwrap();
    assert_eq!(seen(&app, email("a@x")).await, [0; 0]);
    let older = App::over(behind()).start().await.unwrap();
    older.execute(older::Register(1)).await.unwrap();
    retagging(behind()).await.retag().await.unwrap();
    let taken = app.execute(Register(2, "a@x")).await.unwrap_err();
    assert!(matches!(taken, ExecuteError::Rejected(AddressTaken(at)) if at == [1]));
    assert!(is_outdated(&older.execute(older::Register(3)).await));
    assert_eq!(number(&log, "customer-registered"), 1);
}

/// The older program could otherwise write the first event that the rule does not see.
#[tokio::test]
async fn a_key_that_no_event_lacks_is_fenced_too() {
    let log = Store::new(Memory::new());
    let older = App::over(WrappedStore::over(log.clone())).start().await.unwrap();
    let app = retagging(WrappedStore::over(log.clone())).await;
    let report = app.retag().await.unwrap();
    assert_eq!((report.retagged, report.completed.len()), (0, 0));
    assert!(is_outdated(&older.execute(older::Register(1)).await));
    app.execute(Register(2, "a@x")).await.unwrap();
    assert_eq!(number(&log, "customer-registered"), 1);
    let head = app.head();
    app.retag().await.unwrap();
    assert_eq!(app.head(), head, "it is fenced once");
}
