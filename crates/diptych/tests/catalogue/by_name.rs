//! A command or a query by name does the same as the typed call.

use diptych::{
    App, CommandError, ExecuteError, Position, QueryError, Timestamp, Uuid,
    catalogue::{ExplainOptions, JsonRejection, NamedCommandError, NamedQueryError},
    command::ExecuteOptions,
    query::AskOptions,
    store::Tracking,
};
use serde_json::json;

use crate::theatre::{IsTaken, Leave, Pairs, Seat, Take, WhoSits, app, json, take};

async fn by_name(
    app: &App,
    command: &Take,
    options: &ExecuteOptions,
) -> Result<diptych::Receipt, NamedCommandError> {
    app.catalogue().command("take-seat").unwrap().execute(&json(command), options).await
}

#[tokio::test]
async fn a_receipt_is_that_of_the_typed_call() {
    let (app, typed) = (app().await, app().await);
    let expected = typed.execute(take("a1", "ada")).await.unwrap();
    let receipt = by_name(&app, &take("a1", "ada"), &ExecuteOptions::default()).await.unwrap();
    let parts = |receipt: diptych::Receipt| (receipt.first(), receipt.last(), receipt.events());
    assert_eq!(parts(receipt), parts(expected));
    let leave = app.catalogue().command("leave-seat").unwrap();
    let leaving = json(&Leave { seat: "a1".to_owned() });
    let left = leave.execute(&leaving, &ExecuteOptions::default()).await.unwrap();
    assert_eq!(left.first(), receipt.last().plus(1));
}

#[tokio::test]
async fn a_rejection_is_the_typed_one_as_json() {
    let app = app().await;
    app.execute(take("a1", "ada")).await.unwrap();
    let typed = app.execute(take("a1", "bob")).await.unwrap_err();
    let ExecuteError::Rejected(typed) = typed else { panic!("{typed}") };
    assert_eq!(typed, IsTaken { by: "ada".to_owned() });
    let error = by_name(&app, &take("a1", "bob"), &ExecuteOptions::default()).await.unwrap_err();
    let NamedCommandError::Execute(ExecuteError::Rejected(rejection)) = error else {
        panic!("{error}")
    };
    let JsonRejection { text, json, .. } = rejection;
    assert_eq!((text, json), (typed.to_string(), json!({ "by": "ada" })));
}

#[tokio::test]
async fn failures_are_those_of_the_typed_call() {
    let app = app().await;
    app.execute(take("a1", "ada")).await.unwrap();
    let failure =
        async |command: &Take, options: ExecuteOptions| match by_name(&app, command, &options)
            .await
            .unwrap_err()
        {
            NamedCommandError::Execute(ExecuteError::Failed(error)) => error,
            other => panic!("{other}"),
        };
    let start = ExecuteOptions { unchanged_since: Some(Position::START), ..Default::default() };
    let CommandError::Conflict(conflict) = failure(&take("a1", "bob"), start).await else {
        panic!("no conflict")
    };
    let typed = app.execute(take("a1", "bob")).unchanged_since(Position::START).await;
    let Err(ExecuteError::Failed(CommandError::Conflict(expected))) = typed else { panic!() };
    assert_eq!((conflict.at, conflict.after), (expected.at, expected.after));
    assert_eq!(conflict.missed, expected.missed);

    let revision = ExecuteOptions { expected_revision: Some(7), ..Default::default() };
    let error = failure(&take("a1", "bob"), revision).await;
    assert!(matches!(error, CommandError::Conflict(_)), "{error}");
    let error = failure(&take("a1", ""), ExecuteOptions::default()).await;
    assert!(matches!(error, CommandError::Invalid(_)), "{error}");
}

#[tokio::test]
async fn all_options_reach_the_events() {
    let app = app().await;
    let session = app.session();
    let first = app.execute(take("a1", "ada")).await.unwrap();
    let (correlation, causation) = (Uuid::from_u128(7), Uuid::from_u128(8));
    let occurred_at: Timestamp = "2013-01-01T10:15:00Z".parse().unwrap();
    let token = app.token_at(first.last()).await.unwrap();
    let tracking = Tracking { source: "import".into(), origin: None, position: Position::new(5) };
    let options = ExecuteOptions {
        ordinal: None,
        key: Some("k".to_owned()),
        actor: Some("ada".to_owned()),
        extra: vec![("desk".to_owned(), "3".to_owned())],
        occurred_at: Some(occurred_at),
        correlation: Some(correlation),
        causation: Some(causation),
        tracking: Some(tracking),
        session: Some(session.clone()),
        token: Some(token),
        after: Some(first),
        unchanged_since: Some(first.last()),
        expected_revision: None,
    };
    let receipt = by_name(&app, &take("b1", "ada"), &options).await.unwrap();
    // The typed command under the key is the one that was sent by name.
    let again = app.execute(take("b1", "ada")).key("k").await.unwrap();
    assert_eq!(again.first(), receipt.first());
    assert_eq!(session.written(), receipt.last());
    let query = WhoSits { seat: "b1".to_owned() };
    let explanation = app.explain(query).await.unwrap();
    let metadata = &explanation.events[0].metadata;
    assert_eq!(metadata.actor.as_deref(), Some("ada"));
    assert_eq!(metadata.extra.get("desk").map(|value| value.as_str()), Some("3"));
    assert_eq!(metadata.occurred_at, Some(occurred_at));
    assert_eq!((metadata.correlation, metadata.causation), (Some(correlation), Some(causation)));
    let older = ExecuteOptions { key: None, ..options };
    let error = by_name(&app, &take("c1", "ada"), &older).await.unwrap_err();
    let error = match error {
        NamedCommandError::Execute(ExecuteError::Failed(error)) => error,
        other => panic!("{other}"),
    };
    assert!(matches!(error, CommandError::Tracking(_)), "{error}");
}

#[tokio::test]
async fn json_that_is_no_command_names_its_place() {
    let app = app().await;
    let command = app.catalogue().command("take-seat").unwrap();
    let error = command.decode(br#"{"seat":7,"by":"ada"}"#).unwrap_err();
    assert_eq!((error.field.as_deref(), error.is_missing), (Some("seat"), false));
    assert_eq!(error.place, Some((1, 9)));
    let error = command.decode(br#"{"seat":"a1"}"#).unwrap_err();
    assert_eq!((error.field.as_deref(), error.is_missing), (Some("by"), true));
    let error = command.execute(b"{}]", &ExecuteOptions::default()).await.unwrap_err();
    assert!(error.to_string().starts_with("the command take-seat cannot be read: "), "{error}");
    assert_eq!(app.head(), Position::START);
}

#[tokio::test]
async fn an_answer_is_the_typed_one_as_json_with_its_position() {
    let app = app().await;
    let receipt = app.execute(take("a1", "ada")).await.unwrap();
    let query = app.catalogue().query("who-sits").unwrap();
    let arguments = json(&WhoSits { seat: "a1".to_owned() });
    let after = AskOptions { after: Some(receipt), ..AskOptions::default() };
    let answer = query.ask(&arguments, &after).await.unwrap();
    assert_eq!((answer.value.get(), answer.position), (r#""ada""#, receipt.last()));

    app.execute(take("b1", "bob")).await.unwrap();
    let strong = AskOptions { strong: true, ..AskOptions::default() };
    let answer = query.ask(&arguments, &strong).await.unwrap();
    assert_eq!(answer.position, app.head());
    let session = app.session();
    let in_session = AskOptions { session: Some(session.clone()), ..AskOptions::default() };
    query.ask(&arguments, &in_session).await.unwrap();
    assert_eq!(session.seen(), app.head());

    let other = crate::theatre::app().await;
    let foreign = other.execute(take("a1", "ada")).await.unwrap();
    let foreign = AskOptions { after: Some(foreign), ..AskOptions::default() };
    let error = query.ask(&arguments, &foreign).await.unwrap_err();
    assert!(matches!(error, NamedQueryError::Query(QueryError::Token(_))), "{error}");
    let error = query.ask(b"{}", &strong).await.unwrap_err();
    assert!(error.to_string().contains("who-sits"), "{error}");
    let error = app.catalogue().query("pairs").unwrap().ask(b"{}", &strong).await.unwrap_err();
    assert!(matches!(error, NamedQueryError::NotJson { .. }), "{error}");
}

#[tokio::test]
async fn a_question_about_the_past_and_an_explanation_go_by_name_too() {
    let app = app().await;
    app.execute(take("a1", "ada")).await.unwrap();
    app.execute(Leave { seat: "a1".to_owned() }).await.unwrap();
    let query = app.catalogue().query("who-sits").unwrap();
    let decoded = || query.decode(br#"{"seat":"a1"}"#).unwrap();
    let past = decoded().at(Position::new(1), &AskOptions::default()).read_at_most(10);
    let (past, part) = past.resolve().await.unwrap();
    assert_eq!((part.upto, part.is_final), (Position::new(1), true));
    assert_eq!(past.answer().await.unwrap().value.get(), r#""ada""#);
    let options = ExplainOptions { limit: Some(1), ..ExplainOptions::default() };
    let first = decoded().explain(options).explanation().await.unwrap();
    assert_eq!((first.events.len(), first.is_whole), (1, false));
    let rest = ExplainOptions { start_after: first.next, ..ExplainOptions::default() };
    let (explain, _) = decoded().explain(rest).resolve().await.unwrap();
    let rest = explain.explanation().await.unwrap();
    let raw = rest.events[0].event.as_ref().unwrap();
    assert_eq!(raw.event_type, "seat-left");
    let few = ExplainOptions { read_at_most: Some(1), ..ExplainOptions::default() };
    let error = decoded().explain(few).explanation().await.unwrap_err();
    assert!(matches!(error, QueryError::OverBudget { limit: 1 }), "{error}");
}

#[tokio::test]
async fn a_live_query_is_watched_by_name() {
    let app = app().await;
    let query = app.catalogue().query("who-sits").unwrap();
    assert!(query.is_live());
    let receipt = app.execute(take("a1", "ada")).await.unwrap();
    let decoded = query.decode(br#"{"seat":"a1"}"#).unwrap();
    let mut watch = decoded.watch(receipt.last()).unwrap();
    assert_eq!(watch.next().await.unwrap().value.get(), r#""ada""#);
    app.execute(Leave { seat: "a1".to_owned() }).await.unwrap();
    assert_eq!(watch.next().await.unwrap().value.get(), "null");
    let pairs = app.catalogue().query("pairs").unwrap();
    assert!(pairs.decode(b"{}").unwrap().watch(Position::START).is_none());
}

#[tokio::test]
async fn a_decoded_value_is_given_back_as_its_type() {
    let app = app().await;
    let command = app.catalogue().command("take-seat").unwrap();
    assert!(command.is::<Take>() && !command.is::<Leave>());
    let decoded = command.decode(&json(&take("a1", "ada"))).unwrap();
    assert_eq!(decoded.downcast_ref::<Take>(), Some(&take("a1", "ada")));
    assert!(decoded.downcast_ref::<Leave>().is_none());
    assert_eq!(decoded.downcast::<Take>(), Some(take("a1", "ada")));
    let query = app.catalogue().query("who-sits").unwrap();
    assert!(query.is::<WhoSits>() && !query.is::<Pairs>());
    let decoded = query.decode(br#"{"seat":"a1"}"#).unwrap();
    assert!(decoded.downcast_ref::<Pairs>().is_none());
    assert_eq!(decoded.downcast::<WhoSits>().unwrap().seat, "a1");
}

#[tokio::test]
async fn arguments_are_read_from_other_formats() {
    let app = app().await;
    app.execute(take("a1", "ada")).await.unwrap();
    let query = app.catalogue().query("who-sits").unwrap();
    let value = json!({ "seat": "a1" });
    let decoded = query.decode_from(value).unwrap();
    let strong = AskOptions { strong: true, ..AskOptions::default() };
    assert_eq!(decoded.ask(&strong).await.unwrap().value.get(), r#""ada""#);
    let error = query.decode_from(json!({})).unwrap_err();
    assert_eq!((error.field.as_deref(), error.is_missing), (Some("seat"), true));
    let error = query.decode_from(json!({ "seat": 7 })).unwrap_err();
    assert_eq!((error.field.as_deref(), error.is_missing), (Some("seat"), false));
}

/// The events of an explanation by name are those of the typed one.
#[tokio::test]
async fn explained_events_are_encoded_again() {
    let app = app().await;
    app.execute(take("a1", "ada")).await.unwrap();
    let typed = app.explain(WhoSits { seat: "a1".to_owned() }).await.unwrap();
    let Seat::Taken { by, .. } = &typed.events[0].event else { panic!() };
    let decoded = app.catalogue().query("who-sits").unwrap().decode(br#"{"seat":"a1"}"#).unwrap();
    let named = decoded.explain(ExplainOptions::default()).explanation().await.unwrap();
    let raw = named.events[0].event.as_ref().unwrap();
    let payload: serde_json::Value = serde_json::from_slice(&raw.payload).unwrap();
    assert_eq!(payload["by"], by.as_str());
    assert_eq!(named.events[0].id, typed.events[0].id);
}
