//! Names of feeds and intakes, and starts that are refused.

use std::error::Error;

use diptych::{
    App, Memory, StartError, Store,
    collaboration::{CollaborationError, ForeignEvent, Intake, IntakeStart},
};

use super::services::{
    Accepted, Due, Orders, Shipments, ToShipments, orders, quick, shipments, shipping, until,
};

/// The intake of shipping under a new name.
struct RenamedIntake;

impl Intake for RenamedIntake {
    const NAME: &'static str = "dispatches";
    type Public = Accepted;
    type Event = Due;

    fn translate(event: &ForeignEvent<Accepted>) -> Result<Vec<Due>, Box<dyn Error + Send + Sync>> {
        ToShipments::translate(event)
    }
}

fn error(outcome: Result<App, StartError>) -> CollaborationError {
    match outcome {
        Err(StartError::Collaboration(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_renamed_intake_is_refused_with_the_line_that_keeps_its_place() {
    let (_ordering, feed) = orders(5).await;
    let store = Store::new(Memory::new());
    let app = shipping(&store, feed.clone()).start().await.unwrap();
    until(&app, "shipments", |status| status.position.get() == 5).await;
    app.stop().await.unwrap();

    let renamed = |options| {
        App::over_store(store.clone()).view::<Shipments>().intake_with::<RenamedIntake>(
            feed.clone(),
            IntakeStart::Beginning,
            options,
        )
    };
    let refused = error(renamed(quick()).start().await);
    assert!(matches!(refused, CollaborationError::LooksRenamed { .. }));
    assert!(refused.to_string().contains(".stored_as(\"shipments\")"), "{refused}");

    let app = renamed(quick().stored_as("shipments")).start().await.unwrap();
    until(&app, "dispatches", |status| status.position.get() == 5).await;
    assert_eq!(shipments(&app).await.events, 5);
    app.stop().await.unwrap();

    // Another intake of the same feed is one that the program says is another one.
    let app = renamed(quick()).retired_intake("shipments").start().await.unwrap();
    until(&app, "dispatches", |status| status.position.get() == 5).await;
    assert_eq!(shipments(&app).await.events, 10);
}

#[tokio::test]
async fn bad_names_and_names_that_stand_twice_are_refused() {
    let (_ordering, feed) = orders(0).await;
    let twice = App::over(Memory::new()).feed::<Orders>().feed::<Orders>().start().await;
    assert!(matches!(error(twice), CollaborationError::Twice { .. }));
    let bad = App::over(Memory::new())
        .intake_with::<ToShipments>(feed, IntakeStart::Beginning, quick().stored_as("No name"))
        .start()
        .await;
    assert!(matches!(error(bad), CollaborationError::Name { .. }));
}
