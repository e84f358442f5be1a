//! Unreadable events and invalid upcasters give an error that names the event or the upcaster.

use diptych::{
    App, CommandError, Event, ExecuteError, Filter, Memory, StartError, Tag, Upcasters,
    event::{BoundaryError, EncodedEvent, SchemaError, Upcast},
    fold::FoldFailure,
    store::RawEvent,
};
use diptych_store::Append;
use serde_json::json;

use crate::support::{
    counted_store::{CountedStore, write_event},
    probe::{HeardEvents, heard, look, say, told},
    releases::{Today, app, history, memory, named, of, opened, raw, upcasters},
};

async fn fails(store: &CountedStore, upcasters: Upcasters) -> SchemaError {
    let app = App::over(store.store()).upcasters(upcasters).start().await.unwrap();
    let head = store.inner().head().position();
    let error = told(&app, &of(&[]), [named("Ann")]).await.unwrap_err();
    assert_eq!(store.inner().head().position(), head, "the failed command must write nothing");
    let ExecuteError::Failed(CommandError::Fold(error)) = error else { panic!("{error}") };
    assert_eq!(error.position.get(), 2, "{error}");
    assert!(error.fold.contains("Heard"), "{error}");
    let FoldFailure::Schema(error) = error.cause else { panic!("{error}") };
    // Another attempt fails too.
    heard::<Today>(&app, &of(&[])).await.unwrap_err();
    // A boundary without the unreadable event is not affected.
    assert_eq!(heard::<Today>(&app, &of(&["customer-moved"])).await.unwrap(), [""; 0]);
    error
}

#[tokio::test]
async fn an_unknown_version_is_an_error_that_names_the_position() {
    for version in [0, 4, u32::MAX] {
        let store = memory();
        write_event(store.inner(), opened("ann", "EUR", 1).encode().unwrap());
        write_event(store.inner(), opened("bob", "EUR", 1).encode().unwrap().version(version));
        let error = fails(&store, upcasters()).await;
        let event_type = "account-opened".to_owned();
        assert_eq!(error, SchemaError::UnknownVersion { event_type, version, current: 3 });
    }
}

#[tokio::test]
async fn an_unknown_type_is_not_read() {
    let store = memory();
    let app = app(&store).await;
    store.write(Append::events((0..100).map(|_| raw("stranger", 9, &json!({ "account": 7 })))));
    assert_eq!(heard::<Today>(&app, &of(&[])).await.unwrap(), [""; 0]);
    assert_eq!(store.events_read(), 0);
    // A boundary of everything does not read the type either. A boundary that names it is an error.
    assert_eq!(heard::<Today>(&app, &Filter::everything()).await.unwrap(), [""; 0]);
    assert_eq!(store.events_read(), 0);
    let stranger = Filter::tag(Tag::new("account", 7)).of_types(&["stranger"]);
    let error = look::<HeardEvents<Today>>(&app, &stranger).await.unwrap_err();
    let ExecuteError::Failed(CommandError::Boundary(BoundaryError::UnknownType {
        event_type,
        known,
        ..
    })) = error
    else {
        panic!("{error}")
    };
    assert_eq!(event_type, "stranger");
    assert_eq!(known, ["account-opened", "customer-moved", "customer-named"]);
    // A boundary with a former name is an error too.
    let old = Filter::tag(Tag::new("account", 7)).of_types(&["customer-relocated"]);
    look::<HeardEvents<Today>>(&app, &old).await.unwrap_err();
}

#[tokio::test]
async fn the_error_names_an_upcaster_that_fails() {
    let (new, name) = (Upcasters::new, "account-opened");
    let list = |_: &EncodedEvent<'_>| Ok(b"[]".to_vec());
    let again = |_: &EncodedEvent<'_>| Ok(vec![Upcast::json("account-opened", 1, &1)?]);
    let other = |_: &EncodedEvent<'_>| Ok(vec![Upcast::json("other", 1, &1)?]);
    let broken = [
        ("fails", new().object(name, 1, |_| Err("fails".into()))),
        ("it panicked: boom", new().payload(name, 1, |_| panic!("boom"))),
        ("expected", new().payload(name, 1, list).object(name, 2, |_| Ok(()))),
        ("lead in a circle", new().split(name, 1, &["account-opened"], again)),
        ("it made other", new().split(name, 1, &["account-opened"], other)),
    ];
    for (says, upcasters) in broken {
        let store = memory();
        write_event(store.inner(), opened("ann", "EUR", 1).encode().unwrap());
        write_event(store.inner(), history().remove(0));
        let error = fails(&store, upcasters).await.to_string();
        assert!(error.contains(says) && error.contains("account-opened version "), "{error}");
    }
}

#[tokio::test]
async fn an_app_with_contradictory_upcasters_does_not_start() {
    let contradictions: [(&str, Upcasters); 4] = [
        ("two upcasters", Upcasters::new().drop("a", 1).drop("a", 1)),
        ("renamed to b and to c", Upcasters::new().rename("a", "b").rename("a", "c")),
        ("a is renamed back to itself", Upcasters::new().rename("a", "b").rename("b", "a")),
        ("a is renamed back to itself", Upcasters::new().rename("a", "a")),
    ];
    for (says, upcasters) in contradictions {
        let error = App::over(Memory::new()).upcasters(upcasters).start().await.unwrap_err();
        assert!(matches!(error, StartError::Schema(_)));
        assert!(error.to_string().contains(says), "{error}");
    }
}

/// One upcaster applies to the version that the program still writes, the other to a name that a
/// fold still reads. A cached state and a later read would see different forms of one event.
#[tokio::test]
async fn an_upcaster_of_a_current_version_or_name_is_refused() {
    let wrong = [
        upcasters().object("account-opened", 3, |_| Ok(())),
        upcasters().rename("customer-moved", "customer-gone"),
    ];
    for upcasters in wrong {
        let store = memory();
        let app = App::over(store.store()).upcasters(upcasters).start().await.unwrap();
        let error = told(&app, &of(&[]), [named("Ann")]).await.unwrap_err();
        let ExecuteError::Failed(CommandError::Schema(SchemaError::Declaration { problem })) =
            error
        else {
            panic!("{error}")
        };
        assert!(problem.contains("account-opened") || problem.contains("customer-gone"));
        assert_eq!(store.appends(), 0);
    }
}

/// The filter of a fold without event types has no type in any item. The app must not read that as
/// every type.
#[tokio::test]
async fn a_fold_without_events_is_given_none() {
    #[derive(Clone, Debug)]
    enum Nothing {}

    impl Event for Nothing {
        fn types() -> Vec<diptych::EventType> {
            Vec::new()
        }

        fn encode(&self) -> Result<RawEvent, SchemaError> {
            match *self {}
        }

        fn decode(encoded: &EncodedEvent<'_>) -> Result<Nothing, SchemaError> {
            Err(encoded.unknown::<Nothing>())
        }
    }

    let store = memory();
    store.write(Append::events(history()));
    let app = app(&store).await;
    let lines = heard::<Nothing>(&app, &Filter::everything()).await.unwrap();
    assert_eq!(lines, [""; 0]);
    let receipt =
        app.execute(say::<HeardEvents<Nothing>, _>(&Filter::everything(), [named("Ann")]));
    assert_eq!(receipt.await.unwrap().last().get(), history().len() as u64 + 1);
}
