//! Metadata: the time, cause and actor of a command are stored with each of its events.

use std::collections::BTreeMap;

use diptych::{
    App, Command, CommandError, DecisionContext, Event, EventType, Execute, ExecuteError, Filter,
    Fold, Memory, Metadata, Position, Recorded, Tag, Timestamp,
    event::{Codec, EncodedEvent, Json, SchemaError},
    store::RawEvent,
};
use serde::{Deserialize, Serialize};

use crate::support::{
    bank::{Banking, Opened, deposit, open},
    counted_store::{CountedStore, everything},
    probe::{HeardEvents, Say, look, say},
};

/// Keeps all events with their metadata.
#[derive(Clone, Debug, Default, PartialEq)]
struct All(Vec<Recorded<Banking>>);

impl Fold for All {
    type Event = Banking;

    fn apply(&mut self, event: &Recorded<Banking>) {
        self.0.push(event.clone());
    }
}

async fn app(store: &CountedStore) -> App {
    App::over(store.store()).start().await.unwrap()
}

fn id(number: u128) -> uuid::Uuid {
    uuid::Uuid::from_u128(number)
}

#[tokio::test]
async fn the_metadata_of_a_command_is_on_each_of_its_events() {
    let store = CountedStore::new(Memory::new());
    let app = app(&store).await;
    let everywhere = Filter::everything();
    let opened = Opened { account: "a".to_owned(), owner: "ann".to_owned() };
    let events = || [Banking::Opened(opened.clone()), Banking::Opened(opened.clone())];
    let at = Timestamp::from_micros(-1);
    let said = |execute: Execute<Say<All, Banking>>| {
        let execute = execute.actor("ann").occurred_at(at).correlation(id(1)).causation(id(2));
        execute.extra("ip", "::1").extra("", "").extra("ip", "\u{1f980}\n")
    };
    let receipt = said(app.execute(say::<All, _>(&everywhere, events()))).await.unwrap();
    assert_eq!(receipt.events(), 2);
    let extra = BTreeMap::from([("ip".into(), "\u{1f980}\n".into()), ("".into(), "".into())]);
    let expected = Metadata {
        occurred_at: Some(at),
        correlation: Some(id(1)),
        causation: Some(id(2)),
        actor: Some("ann".into()),
        extra,
    };
    let seen = look::<All>(&app, &everywhere).await.unwrap();
    for event in &seen.0 {
        assert_eq!(event.metadata, expected);
        assert_eq!((event.occurred_at(), event.correlation()), (at, id(1)));
    }
    // A state that folded its own events equals a state that read them from the store.
    let fresh = self::app(&store).await;
    assert_eq!(look::<All>(&fresh, &everywhere).await.unwrap(), seen);
    // An empty actor is stored as such. A command without metadata stores none.
    app.execute(say::<All, _>(&everywhere, events())).actor("").await.unwrap();
    app.execute(say::<All, _>(&everywhere, events())).await.unwrap();
    let seen = look::<All>(&app, &everywhere).await.unwrap();
    assert_eq!(seen.0[2].metadata.actor.as_deref(), Some(""));
    assert_eq!(seen.0[4].metadata, Metadata::default());
    assert_eq!(seen.0[4].occurred_at(), seen.0[4].recorded_at);
    let fresh = self::app(&store).await;
    assert_eq!(look::<All>(&fresh, &everywhere).await.unwrap(), seen);
}

/// An event that sets its own metadata.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Dated(i64);

impl Event for Dated {
    fn types() -> Vec<EventType> {
        vec![EventType::new("dated").tags(&["page"])]
    }

    fn encode(&self) -> Result<RawEvent, SchemaError> {
        let mut event = RawEvent::new("dated", Json::encode(self)?).tag(Tag::new("page", 1));
        event.metadata.occurred_at = Some(Timestamp::from_micros(self.0));
        event.metadata.actor = Some("event".into());
        event.metadata.extra.insert("event".into(), "1".into());
        event.id = Some(id(self.0.unsigned_abs().into()));
        Ok(event)
    }

    fn decode(encoded: &EncodedEvent<'_>) -> Result<Dated, SchemaError> {
        encoded.read::<Json, _>()
    }
}

#[tokio::test]
async fn the_metadata_of_an_event_stays_unless_the_command_sets_it() {
    let store = CountedStore::new(Memory::new());
    let app = app(&store).await;
    let page = Filter::tag(Tag::new("page", 1));
    let dated = || say::<HeardEvents<Dated>, _>(&page, [Dated(5), Dated(7)]);
    app.execute(dated()).extra("command", "2").await.unwrap();
    app.execute(dated()).actor("command").occurred_at(Timestamp::from_micros(9)).await.unwrap();
    let events = everything(store.inner());
    let metadata: Vec<_> = events.iter().map(|(_, _, event)| &event.metadata).collect();
    let times: Vec<_> = metadata.iter().map(|of| of.occurred_at.unwrap().as_micros()).collect();
    assert_eq!(times, [5, 7, 9, 9]);
    let actors: Vec<_> = metadata.iter().map(|of| of.actor.clone().unwrap()).collect();
    assert_eq!(actors, ["event", "event", "command", "command"]);
    assert!(metadata.iter().all(|of| of.extra["event"] == "1"));
    assert_eq!(metadata[1].extra["command"], "2");
    assert_eq!(events[1].2.id, Some(id(7)));
}

/// A command whose events occurred at this instant.
struct TellAt(i64);

impl Command for TellAt {
    type State = ();
    type Event = Banking;
    type Rejection = std::convert::Infallible;

    fn boundary(&self) {}

    fn decide(
        &self,
        (): (),
        _: &DecisionContext,
    ) -> Result<Vec<Banking>, std::convert::Infallible> {
        let (account, owner) = ("a".to_owned(), "ann".to_owned());
        Ok(vec![Banking::Opened(Opened { account, owner })])
    }

    fn occurred_at(&self) -> Option<Timestamp> {
        Some(Timestamp::from_micros(self.0))
    }
}

#[tokio::test]
async fn a_command_sets_occurred_at_unless_its_sender_does() {
    let store = CountedStore::new(Memory::new());
    let app = app(&store).await;
    app.execute(TellAt(5)).await.unwrap();
    app.execute(TellAt(5)).occurred_at(Timestamp::from_micros(9)).await.unwrap();
    app.lane().execute(TellAt(7)).await.unwrap();
    let at = |(_, _, event): &(_, _, RawEvent)| event.metadata.occurred_at.unwrap().as_micros();
    assert_eq!(everything(store.inner()).iter().map(at).collect::<Vec<_>>(), [5, 9, 7]);
}

#[tokio::test]
async fn a_chain_of_causes_is_correlated_by_the_id_of_its_first_event() {
    let store = CountedStore::new(Memory::new());
    let app = app(&store).await;
    let all = Filter::everything();
    app.execute(open("a")).await.unwrap();
    for at in 0..4 {
        let last = look::<All>(&app, &all).await.unwrap().0.remove(at);
        app.execute(deposit("a", 1)).caused_by(&last).await.unwrap();
    }
    let chain = look::<All>(&app, &all).await.unwrap().0;
    for (cause, event) in chain.iter().zip(&chain[1..]) {
        assert_eq!(event.metadata.causation, Some(cause.id));
        assert_eq!(event.correlation(), chain[0].id);
    }
    assert_eq!(chain[0].metadata.correlation, None);
    assert_eq!(chain[0].correlation(), chain[0].id);
    // Every app that reads the log gets the same ids.
    assert_eq!(look::<All>(&self::app(&store).await, &all).await.unwrap().0, chain);
    let known = Position::START;
    let conflict = app.execute(deposit("a", 1)).unchanged_since(known).await.unwrap_err();
    let ExecuteError::Failed(CommandError::Conflict(conflict)) = conflict else {
        panic!("{conflict}")
    };
    let missed: Vec<_> = conflict.missed.iter().map(|missed| missed.id).collect();
    assert_eq!(missed, chain.iter().map(|event| event.id).collect::<Vec<_>>());
}

#[test]
fn a_timestamp_is_text_in_readable_formats_and_a_number_in_binary_ones() {
    let instant: Timestamp = "2013-01-01T10:15:00.000001Z".parse().unwrap();
    let json = serde_json::to_string(&instant).unwrap();
    assert_eq!(json, "\"2013-01-01T10:15:00.000001Z\"");
    assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), instant);
    let packed = rmp_serde::to_vec(&instant).unwrap();
    assert_eq!(rmp_serde::from_slice::<i64>(&packed).unwrap(), instant.as_micros());
    assert_eq!(rmp_serde::from_slice::<Timestamp>(&packed).unwrap(), instant);
    let wrong = serde_json::from_str::<Timestamp>("\"yesterday\"").unwrap_err();
    assert!(wrong.to_string().contains("is not an instant"), "{wrong}");
}
