//! Mistakes in declarations stop the start of an app, and the rest is kept by the app.

use diptych::{
    App, Memory, StartError,
    catalogue::{Catalogue, CatalogueError, EntryKind},
    follow::Refresh,
};

use crate::{
    support::rows::Rows,
    theatre::{Leave, Pairs, Seat, Seats, Take, WhoSits, app, catalogue, take},
};

async fn refused(catalogue: Catalogue) -> CatalogueError {
    let checked = catalogue.check();
    let started = App::over(Memory::new()).catalogue(catalogue).start().await;
    let Err(StartError::Catalogue(error)) = started else { panic!("{started:?}") };
    assert_eq!(checked, Err(error.clone()));
    error
}

#[tokio::test]
async fn two_entries_of_one_kind_with_one_name_stop_the_start() {
    let commands = Catalogue::new().command::<Take>("seat").infallible_command::<Leave>("seat");
    let error = refused(commands).await;
    assert_eq!(error, twice(EntryKind::Command, "seat"));
    assert_eq!(error.to_string(), r#"there are two commands "seat": rename one"#);
    let queries = Catalogue::new().query::<WhoSits>("seat").query::<Pairs>("seat");
    let error = refused(queries).await;
    assert_eq!(error.to_string(), r#"there are two queries "seat": rename one"#);
    let events = Catalogue::new().event::<Seat>().event::<Seat>();
    let error = refused(events).await;
    assert_eq!(error.to_string(), r#"there are two events "seat-taken": declare each event once"#);
    // The names of a command and of a query are apart.
    let apart = Catalogue::new().command::<Take>("seat").query::<WhoSits>("seat");
    apart.check().unwrap();
}

fn twice(kind: EntryKind, name: &str) -> CatalogueError {
    let joined = Catalogue::new().command::<Take>(name).command::<Take>(name);
    let error = joined.check().unwrap_err();
    assert!(matches!(&error, CatalogueError::Twice { kind: of, .. } if *of == kind), "{error}");
    error
}

#[tokio::test]
async fn names_that_cannot_stand_in_an_address_stop_the_start() {
    for name in ["", "Take", "take seat", "take_seat", "take/seat", "täke"] {
        let error = refused(Catalogue::new().command::<Take>(name)).await;
        let text =
            format!("{name:?} is no name for a command: use small letters, digits and dashes");
        assert_eq!(error.to_string(), text);
        let error = refused(Catalogue::new().query::<WhoSits>(name)).await;
        assert!(error.to_string().contains("is no name for a query"), "{error}");
    }
}

#[tokio::test]
async fn catalogues_are_joined_with_each_other_and_with_the_builder() {
    let seats = Catalogue::new().command::<Take>("take-seat").event::<Seat>();
    let questions = Catalogue::new().live_query::<WhoSits>("who-sits");
    let app = App::over(Memory::new()).catalogue(seats).view::<Seats>().catalogue(questions);
    let app = app.start().await.unwrap();
    app.execute(take("a1", "ada")).await.unwrap();
    assert_eq!(app.views().len(), 1);
    let listing = app.catalogue().listing();
    let names: Vec<_> = listing.entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["take-seat", "who-sits", "seat-taken", "seat-left", "seats"]);

    let twice = Catalogue::new().command::<Take>("take-seat");
    let start = App::over(Memory::new()).catalogue(catalogue()).catalogue(twice).start().await;
    assert!(matches!(start, Err(StartError::Catalogue(_))), "{start:?}");
    let view = App::over(Memory::new()).catalogue(catalogue()).view::<Seats>().start().await;
    assert!(matches!(view, Err(StartError::ViewTwice { .. })), "{view:?}");
}

#[tokio::test]
async fn an_app_keeps_the_views_and_runs_the_projections_of_its_catalogue() {
    let rows = Rows::default();
    let declared = Catalogue::new().projection_with(rows, Refresh::Live).view::<Seats>();
    let app = App::over(Memory::new()).catalogue(declared).start().await.unwrap();
    app.view::<Seats>().unwrap();
    app.projection("rows").unwrap();
    let kinds: Vec<_> = app.catalogue().listing().entries.iter().map(|it| it.kind()).collect();
    assert_eq!(kinds, [EntryKind::View, EntryKind::Projection]);
}

#[tokio::test]
async fn an_app_knows_the_events_of_its_catalogue() {
    let store = diptych::Store::new(Memory::new());
    let app = App::over_store(store.clone()).start().await.unwrap();
    app.execute(take("a1", "ada")).await.unwrap();
    let knowing = Catalogue::new().command::<Take>("take-seat");
    App::over_store(store.clone()).catalogue(knowing).strict().start().await.unwrap();
    let other = App::over_store(store).events::<crate::support::bank::Banking>().strict();
    let error = other.start().await.unwrap_err();
    assert!(matches!(error, StartError::UnknownTypes { .. }), "{error}");
}

#[tokio::test]
async fn a_part_of_a_program_adds_commands_to_the_catalogue_of_a_running_app() {
    let app = app().await;
    let more = Catalogue::new().infallible_command::<Leave>("free-seat");
    let more = app.catalogue().with(more).unwrap();
    assert!(more.command("free-seat").is_some() && more.command("take-seat").is_some());
    assert!(app.catalogue().command("free-seat").is_none());
    let error = app.catalogue().with(Catalogue::new().command::<Take>("take-seat")).unwrap_err();
    assert!(matches!(error, CatalogueError::Twice { .. }), "{error}");
    let error = app.catalogue().with(Catalogue::new().view::<Seats>()).unwrap_err();
    assert!(error.to_string().contains("cannot be added to an app that runs"), "{error}");
}

#[tokio::test]
async fn an_app_without_a_catalogue_lists_its_views() {
    let app = App::over(Memory::new()).view::<Seats>().start().await.unwrap();
    let listing = app.catalogue().listing();
    assert_eq!(listing.entries.len(), 1);
    assert_eq!(listing.entries[0].name, "seats");
    assert!(app.catalogue().command("take-seat").is_none());
    let beside = app.beside().catalogue(catalogue()).start().await.unwrap();
    assert!(beside.catalogue().command("take-seat").is_some());
}
