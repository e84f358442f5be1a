//! Older events get the tags that their type got later.

use std::{
    convert::Infallible,
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Waker},
};

use diptych::{
    App, AppBuilder, Command, CommandError, DecisionContext, Event, ExecuteError, Filter, Fold,
    Memory, Point, Position, Query, QueryError, Recorded, RetagReport, StartError, Tag, Upcasters,
    event::{JsonObject, SchemaError, Upcast},
    snapshot::{MemorySnapshots, SnapshotOptions},
    store::RawEvent,
    subscribe::{Arrival, SubscriptionError},
    testing::nothing_given,
};
use diptych_store::{Append, EventStore, Store, testing::WrappedStore};
use serde::{Deserialize, Serialize};

use crate::support::counted_store::{CountedStore, everything, now, write_event};

/// Version 1 had only the tag `customer`.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize)]
#[event("customer-registered", version = 2)]
pub(crate) struct Registered {
    #[tag]
    pub(crate) customer: u64,
    #[tag]
    pub(crate) email: String,
}

/// The older program.
pub(crate) mod older {
    use diptych::{Command, DecisionContext, Event, Filter, Tag};

    use super::Holders;

    #[derive(Clone, Debug, Event, serde::Serialize, serde::Deserialize)]
    #[event("customer-registered")]
    pub(crate) struct Registered {
        #[tag]
        pub(crate) customer: u64,
        pub(crate) email: String,
    }

    pub(crate) struct Register(pub(crate) u64);

    impl Command for Register {
        type State = Holders<Registered>;
        type Event = Registered;
        type Rejection = std::convert::Infallible;

        fn boundary(&self) -> Filter {
            Filter::tag(Tag::new("customer", self.0))
        }

        fn decide(
            &self,
            _: &Holders<Registered>,
            _: &DecisionContext,
        ) -> Result<Vec<Registered>, std::convert::Infallible> {
            Ok(vec![Registered { customer: self.0, email: "a@x".to_owned() }])
        }
    }
}

fn upcasters() -> Upcasters {
    Upcasters::new().object("customer-registered", 1, |_| Ok(()))
}

pub(crate) fn old(customer: u64, email: &str) -> RawEvent {
    older::Registered { customer, email: email.to_owned() }.encode().unwrap()
}

fn new(customer: u64, email: &str) -> RawEvent {
    Registered { customer, email: email.to_owned() }.encode().unwrap()
}

pub(crate) fn email(email: &str) -> Filter {
    Filter::tag(Tag::new("email", email))
}

/// The positions of the folded events, in the order in which they were applied.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Holders<E = Registered> {
    pub(crate) positions: Vec<u64>,
    #[serde(skip)]
    event: std::marker::PhantomData<fn() -> E>,
}

impl<E> Default for Holders<E> {
    fn default() -> Holders<E> {
        Holders { positions: Vec::new(), event: std::marker::PhantomData }
    }
}

impl<E: Event> Fold for Holders<E> {
    type Event = E;
    const NAME: Option<&'static str> = Some("holders");

    fn apply(&mut self, event: &Recorded<E>) {
        self.positions.push(event.position.get());
    }
}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("the address is taken by {0:?}")]
pub(crate) struct AddressTaken(pub(crate) Vec<u64>);

/// Registers a customer unless another customer has the address.
pub(crate) struct Register(pub(crate) u64, pub(crate) &'static str);

impl Command for Register {
    type State = Holders;
    type Event = Registered;
    type Rejection = AddressTaken;

    fn boundary(&self) -> Filter {
        email(self.1)
    }

    fn decide(
        &self,
        holders: &Holders,
        _: &DecisionContext,
    ) -> Result<Vec<Registered>, AddressTaken> {
        match holders.positions.is_empty() {
            true => Ok(vec![Registered { customer: self.0, email: self.1.to_owned() }]),
            false => Err(AddressTaken(holders.positions.clone())),
        }
    }
}

/// Tells the events of a boundary in place of a decision.
struct Look(Filter);

impl Command for Look {
    type State = Holders;
    type Event = Registered;
    type Rejection = AddressTaken;

    fn boundary(&self) -> Filter {
        self.0.clone()
    }

    fn decide(
        &self,
        holders: &Holders,
        _: &DecisionContext,
    ) -> Result<Vec<Registered>, AddressTaken> {
        Err(AddressTaken(holders.positions.clone()))
    }
}

pub(crate) async fn seen(app: &App, boundary: Filter) -> Vec<u64> {
    match app.execute(Look(boundary)).await {
        Err(ExecuteError::Rejected(AddressTaken(positions))) => positions,
        other => panic!("the boundary should be read: {other:?}"),
    }
}

fn is_missing<R: std::error::Error>(answer: Result<diptych::Receipt, ExecuteError<R>>) -> bool {
    let schema = |error| matches!(error, CommandError::Schema(SchemaError::MissingTag(_)));
    matches!(answer, Err(ExecuteError::Failed(error)) if schema(error.clone()))
}

pub(crate) fn is_outdated<R: std::error::Error>(
    answer: &Result<diptych::Receipt, ExecuteError<R>>,
) -> bool {
    matches!(answer, Err(ExecuteError::Failed(CommandError::Outdated(_))))
}

/// An app that knows the events of today.
pub(crate) fn over(store: impl EventStore) -> AppBuilder {
    App::over(store).upcasters(upcasters()).events::<Registered>().strict()
}

pub(crate) async fn retagging(store: impl EventStore) -> App {
    over(store).retagging().start().await.unwrap()
}

pub(crate) fn with(events: impl IntoIterator<Item = RawEvent>) -> CountedStore {
    let store = CountedStore::new(Memory::new());
    store.write(Append::events(events));
    store
}

/// The number of events of a type in the log.
pub(crate) fn number(store: &Store, event_type: &str) -> usize {
    everything(store).iter().filter(|(.., event)| event.event_type == event_type).count()
}

#[tokio::test]
async fn a_rule_over_a_late_tag_is_refused_until_older_events_have_it_and_then_sees_them() {
    let store = with([old(1, "a@x"), new(2, "b@x"), old(3, "a@x"), old(4, "b@x")]);
    let refused = over(store.store()).start().await.unwrap_err();
    assert!(refused.to_string().contains("`App::retag`"), "{refused}");
    let app = retagging(store.store()).await;
    assert!(is_missing(app.execute(Register(5, "a@x")).await));
    // The older events carry the tag `customer`.
    assert_eq!(seen(&app, Filter::tag(Tag::new("customer", 3))).await, [3]);
    let report = app.retag().await.unwrap();
    assert_eq!((report.scanned, report.retagged), (4, 3));
    let completed = &report.completed[0];
    assert_eq!((&*completed.event_type, &*completed.key), ("customer-registered", "email"));
    assert_eq!(report.completed.len(), 1);
    let other = over(store.store()).start().await.unwrap();
    for app in [app, other] {
        let taken = app.execute(Register(5, "a@x")).await.unwrap_err();
        assert!(matches!(taken, ExecuteError::Rejected(AddressTaken(at)) if at == [1, 3]));
        assert_eq!(seen(&app, email("b@x")).await, [2, 4]);
        assert_eq!(seen(&app, email("c@x")).await, [0; 0]);
        assert_eq!(seen(&app, email("a@x").or(email("b@x"))).await, [1, 2, 3, 4]);
    }
}

#[tokio::test]
async fn a_later_event_follows_the_older_ones_and_a_second_run_has_nothing_to_do() {
    let store = with([old(1, "a@x"), old(2, "b@x")]);
    let app = retagging(store.store()).await;
    app.retag().await.unwrap();
    app.execute(Register(3, "c@x")).await.unwrap();
    let head = app.head().get();
    let cold = over(store.store()).cache_bytes(0).start().await.unwrap();
    for app in [&app, &cold] {
        assert_eq!(seen(app, email("c@x").or(email("a@x"))).await, [1, head]);
    }
    let again = app.retag().await.unwrap();
    assert_eq!((again.retagged, again.completed.len()), (0, 0));
    // Only the position up to which the events were read was written.
    assert_eq!(app.head().get(), head);
    assert_eq!(app.retag().await.unwrap(), RetagReport::default());
}

/// The positions of all events, each with its address.
#[derive(Clone, Default)]
struct Addresses(Vec<(u64, String)>);

impl Fold for Addresses {
    type Event = Registered;

    fn apply(&mut self, event: &Recorded<Registered>) {
        self.0.push((event.position.get(), event.event.email.clone()));
    }
}

struct Of(&'static str);

impl Query for Of {
    type View = Addresses;
    type Answer = Vec<u64>;

    fn scope(&self) -> Filter {
        email(self.0)
    }

    fn answer(&self, addresses: &Addresses) -> Vec<u64> {
        let of = addresses.0.iter().filter(|(_, address)| address == self.0);
        of.map(|(at, _)| *at).collect()
    }
}

#[tokio::test]
async fn questions_about_the_past_see_older_events_by_their_later_tag() {
    let store = with([old(1, "a@x"), old(2, "b@x"), new(3, "a@x"), old(4, "a@x")]);
    let app = over(store.store()).retagging().start().await.unwrap();
    let app = app.beside().view::<Addresses>().start().await.unwrap();
    let early = app.query(Of("a@x")).as_of(Position::new(4)).await.unwrap_err();
    assert!(matches!(early, QueryError::Schema(SchemaError::MissingTag(_))), "{early}");
    app.retag().await.unwrap();
    for (at, expected) in [(0, vec![]), (1, vec![1]), (2, vec![1]), (3, vec![1, 3])] {
        let answer = app.query(Of("a@x")).as_of(Position::new(at)).await.unwrap();
        assert_eq!(answer.value, expected, "{at}");
    }
    let explained = app.explain(Of("a@x")).await.unwrap();
    let positions: Vec<_> = explained.events.iter().map(|event| event.position.get()).collect();
    assert_eq!(positions, [1, 3, 4]);
    let mut history = app.history(Of("a@x"), Position::START, Position::new(4));
    let mut answers = Vec::new();
    while let Some(answer) = history.next().await.unwrap() {
        answers.push(answer.value);
    }
    assert_eq!(answers, [vec![], vec![1], vec![1, 3], vec![1, 3, 4]]);
    let diff = app.diff(Of("a@x"), Position::new(3), Position::new(4)).await.unwrap();
    assert_eq!((diff.before.value, diff.after.value), (vec![1, 3], vec![1, 3, 4]));
    let later = app
        .query(Of("a@x"))
        .at(Point::now().occurred_before(diptych::Timestamp::from_micros(i64::MAX)));
    assert_eq!(later.await.unwrap().value, [1, 3, 4]);
    app.check_scope(&Of("a@x"), Position::new(4)).await.unwrap();
}

/// Polls the future this many times, and drops it if it is not ready.
fn polled<T>(future: impl Future<Output = T>, times: usize) -> Option<T> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    (0..times).find_map(|_| match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(answer) => Some(answer),
        std::task::Poll::Pending => None,
    })
}

#[tokio::test]
async fn a_run_that_is_killed_anywhere_continues_and_no_event_counts_twice() {
    let (mut killed, mut times) = (0, 1);
    loop {
        let store = with((1..=600).map(|customer| old(customer, "a@x")));
        let app = retagging(store.store()).await;
        store.slow();
        let ended = polled(app.retag(), times).is_some();
        store.quick();
        killed += u32::from(!ended);
        let tracked = app.retag().await.unwrap();
        if times > 20 && !ended {
            assert!(tracked.scanned < 600, "{times}: the first page is not read again");
        }
        assert_eq!(seen(&app, email("a@x")).await, (1..=600).collect::<Vec<_>>(), "{times}");
        assert_eq!(number(store.inner(), "diptych:retag-completed"), 1, "{times}");
        if ended {
            break;
        }
        times += 1;
    }
    assert!(killed > 20, "{killed}");
}

#[tokio::test]
async fn a_state_that_was_made_without_the_older_events_is_not_continued() {
    let store = with([old(1, "a@x"), new(2, "a@x")]);
    let snapshots = Arc::new(MemorySnapshots::default());
    let options = SnapshotOptions::every(1);
    let kept =
        |start: AppBuilder| start.snapshots_in(snapshots.clone()).snapshots::<Holders>(options);
    let accepting = kept(over(store.store()).accept_untagged("customer-registered", "email"));
    let accepting = accepting.start().await.unwrap();
    assert_eq!(seen(&accepting, email("a@x")).await, [2]);
    retagging(store.store()).await.retag().await.unwrap();
    assert_eq!(seen(&accepting, email("a@x")).await, [1, 2]);
    accepting.stop().await.unwrap();
    let app = kept(over(store.store())).start().await.unwrap();
    assert_eq!(seen(&app, email("a@x")).await, [1, 2]);
    app.stop().await.unwrap();
    // The snapshot with the older events is used, and followed by later ones.
    store.write(Append::event(new(3, "a@x")));
    let app = kept(over(store.store())).start().await.unwrap();
    let last = app.head().get();
    assert_eq!(seen(&app, email("a@x")).await, [1, 2, last]);
}

#[tokio::test]
async fn a_boundary_of_several_tags_finds_stored_and_later_tags_together() {
    let both = |customer: u64, address: &str| {
        Filter::tag(Tag::new("customer", customer)).and_tag(&Tag::new("email", address))
    };
    let mut events: Vec<_> = (0..50).map(|n| old(n % 5, ["a@x", "b@x"][n as usize % 2])).collect();
    events.extend((0..20).map(|n| new(n % 5, ["a@x", "b@x"][n as usize % 2])));
    // Both tags of these are missing.
    let bare = |customer, address| RawEvent { tags: Vec::new(), ..old(customer, address) };
    events.extend((0..30).map(|n| bare(n % 3, ["a@x", "b@x", "c@x"][n as usize % 3])));
    let expected = |customer: u64, address: &str| {
        let wanted = |event: &&RawEvent| {
            let payload: serde_json::Value = serde_json::from_slice(&event.payload).unwrap();
            payload["customer"] == customer && payload["email"] == address
        };
        let found = (1..).zip(&events).filter(|(_, event)| wanted(event));
        found.map(|(at, _)| at).collect::<Vec<u64>>()
    };
    let store = with(events.clone());
    let app = retagging(store.store()).await;
    assert_eq!(app.retag().await.unwrap().completed.len(), 2);
    for customer in 0..6 {
        for address in ["a@x", "b@x", "c@x", "d@x"] {
            let seen = seen(&app, both(customer, address)).await;
            assert_eq!(seen, expected(customer, address), "{customer} {address}");
        }
    }
}

#[tokio::test]
async fn expectations_count_and_find_older_events_by_their_later_tag() {
    let store = with([old(1, "a@x"), new(2, "a@x"), old(3, "b@x"), old(4, "a@x")]);
    let app = retagging(store.store()).await;
    app.retag().await.unwrap();
    let conflict = async |since: Option<u64>, revision: Option<u64>| {
        let execute = app.execute(Look(email("a@x")));
        let answer = match (since, revision) {
            (Some(since), _) => execute.unchanged_since(Position::new(since)).await,
            (_, revision) => execute.expected_revision(revision.unwrap()).await,
        };
        match answer {
            Err(ExecuteError::Failed(CommandError::Conflict(conflict))) => {
                let missed = conflict.missed.iter().map(|event| event.position.get());
                Some((conflict.at.get(), missed.collect::<Vec<_>>()))
            }
            Err(ExecuteError::Rejected(_)) => None,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(conflict(Some(1), None).await, Some((4, vec![2, 4])));
    assert_eq!(conflict(Some(2), None).await, Some((4, vec![4])));
    assert_eq!(conflict(Some(4), None).await, None);
    assert_eq!(conflict(Some(app.head().get()), None).await, None);
    assert_eq!(conflict(None, Some(0)).await, Some((4, vec![1, 2, 4])));
    assert_eq!(conflict(None, Some(2)).await, Some((4, vec![4])));
    assert_eq!(conflict(None, Some(3)).await, None);
    assert_eq!(conflict(None, Some(4)).await, Some((4, vec![])));
}

/// Another type with the tag. Version 1 had the address, and not as a tag.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize)]
#[event("letter-sent", version = 2)]
struct LetterSent {
    #[tag]
    email: String,
}

/// Marks stay in the log when the tag is spelt in another way later. A revision counted them, so
/// an event counted in the streams of both spellings.
#[tokio::test]
async fn a_revision_counts_an_older_event_only_under_the_tag_that_it_has_today() {
    let letter = |email: &str| RawEvent {
        event_type: "letter-sent".into(),
        tags: Vec::new(),
        payload: format!(r#"{{"email":"{email}"}}"#).into(),
        ..old(1, email)
    };
    let store = with([old(1, "A@x"), old(2, "a@x"), letter("A@x"), letter("a@x"), new(5, "A@x")]);
    let spelt = |spell: fn(String) -> String| {
        let names = ["customer-registered", "letter-sent"];
        names.into_iter().fold(Upcasters::new(), |all, name| {
            all.object(name, 1, move |event| {
                let address: String = event.get("email")?.unwrap_or_default();
                event.insert("email", spell(address))
            })
        })
    };
    let narrow = |spell| App::over(store.store()).upcasters(spelt(spell)).events::<Registered>();
    let app = |spell| narrow(spell).events::<LetterSent>();
    let fits = async |app: &App, address: &str, revision: u64| match app
        .execute(Look(email(address)))
        .expected_revision(revision)
        .await
    {
        Err(ExecuteError::Rejected(_)) => Ok(true),
        Err(ExecuteError::Failed(CommandError::Conflict(_))) => Ok(false),
        Err(ExecuteError::Failed(error)) => Err(error.to_string()),
        other => panic!("{other:?}"),
    };
    let first = app(|address| address).retagging().start().await.unwrap();
    first.retag().await.unwrap();
    // Events of a type that the program does not know count, too.
    for app in [first, narrow(|address| address).start().await.unwrap()] {
        assert_eq!(fits(&app, "A@x", 3).await, Ok(true));
        assert_eq!(fits(&app, "a@x", 2).await, Ok(true));
    }
    let lower = |address: String| address.to_lowercase();
    app(lower).retagging().start().await.unwrap().retag().await.unwrap();
    let lowered = app(lower).start().await.unwrap();
    for (address, expected) in [("A@x", 1), ("a@x", 4)] {
        for revision in 0..6 {
            let fits = fits(&lowered, address, revision).await;
            assert_eq!(fits, Ok(revision == expected), "{address} {revision}");
        }
    }
    // A program without the type cannot tell which of the spellings its events have.
    let narrow = narrow(lower).start().await.unwrap();
    let error = fits(&narrow, "a@x", 4).await.unwrap_err();
    assert!(error.contains("letter-sent") && error.contains("`AppBuilder::events`"), "{error}");
}

#[derive(Clone, Debug, PartialEq, Event)]
enum Parts {
    #[event("line-ordered")]
    Line {
        #[tag]
        article: String,
    },
    #[event("order-noted")]
    Noted {
        #[tag]
        shop: String,
        #[tag]
        article: Option<String>,
    },
}

/// One order was one event, with all of its lines. Its shop stood nowhere.
fn orders() -> Upcasters {
    Upcasters::new().split("ordered", 1, &["line-ordered", "order-noted"], |old| {
        let old: serde_json::Value = serde_json::from_slice(old.payload)?;
        let lines = old["lines"].as_array().into_iter().flatten();
        let line = |article| {
            let mut line = JsonObject::new();
            line.insert("article", article)?;
            Upcast::json("line-ordered", 1, &line)
        };
        let mut parts = lines.map(line).collect::<Result<Vec<_>, _>>()?;
        let mut noted = JsonObject::new();
        noted.insert("shop", "first")?;
        noted.insert("article", None::<String>)?;
        parts.push(Upcast::json("order-noted", 1, &noted)?.tag(Tag::new("article", "every")));
        Ok(parts)
    })
}

#[derive(Default)]
struct Texts(Vec<String>);

impl Fold for Texts {
    type Event = Parts;

    fn apply(&mut self, event: &Recorded<Parts>) {
        let text = match &event.event {
            Parts::Line { article } => format!("{} {article}", event.position),
            Parts::Noted { shop, .. } => format!("{} {shop}", event.position),
        };
        self.0.push(text);
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0:?}")]
struct FoundNames(Vec<String>);

struct Find(Filter);

impl Command for Find {
    type State = Texts;
    type Event = Parts;
    type Rejection = FoundNames;

    fn boundary(&self) -> Filter {
        self.0.clone()
    }

    fn decide(&self, texts: &Texts, _: &DecisionContext) -> Result<Vec<Parts>, FoundNames> {
        Err(FoundNames(texts.0.clone()))
    }
}

#[tokio::test]
async fn each_event_of_a_split_one_has_its_own_tags() {
    let ordered = |lines: &str| RawEvent::new("ordered", format!(r#"{{"lines":{lines}}}"#));
    let store = with([ordered(r#"["tea","oil"]"#), ordered(r#"["tea","tea"]"#), ordered("[]")]);
    let app = App::over(store.store()).upcasters(orders()).events::<Parts>().retagging();
    let app = app.start().await.unwrap();
    let report = app.retag().await.unwrap();
    assert_eq!((report.retagged, report.completed.len()), (5, 3));
    let found = async |filter: Filter| match app.execute(Find(filter)).await {
        Err(ExecuteError::Rejected(FoundNames(texts))) => texts,
        other => panic!("{other:?}"),
    };
    let article = |article: &str| Filter::tag(Tag::new("article", article));
    assert_eq!(found(article("tea")).await, ["1 tea", "2 tea", "2 tea"]);
    assert_eq!(found(article("oil")).await, ["1 oil"]);
    assert_eq!(
        found(Filter::tag(Tag::new("shop", "first"))).await,
        ["1 first", "2 first", "3 first"]
    );
    // An upcaster gave this tag, and no field.
    assert_eq!(found(article("every")).await, ["1 first", "2 first", "3 first"]);
    assert_eq!(found(article("every").of_types(&["line-ordered"])).await, [""; 0]);
    // The program of that time is fenced. Today such an event becomes no line, and needs no tag.
    let older = App::over(store.store()).start().await.unwrap();
    assert!(is_outdated(&older.execute(Write(OrderedOnce { lines: Vec::new() })).await));
    app.execute(Write(OrderedLater { lines: Vec::new() })).await.unwrap();
}

#[derive(Clone, Debug, Event, Serialize, Deserialize)]
#[event("ordered")]
struct OrderedOnce {
    lines: Vec<String>,
}

#[derive(Clone, Debug, Event, Serialize, Deserialize)]
#[event("ordered", version = 2)]
struct OrderedLater {
    lines: Vec<String>,
}

#[tokio::test]
async fn marks_far_apart_and_close_together_are_read_in_order() {
    let address = |at: u64| match at {
        100..=1_500 => "a@x",
        _ if at.is_multiple_of(50) => "a@x",
        _ => "b@x",
    };
    let mut limits = diptych::store::Limits::default();
    (limits.batch_events, limits.commit_events) = (100, 2);
    let inner = Store::new(Memory::new().limits(limits));
    let event =
        |at: u64| if at.is_multiple_of(7) { new(at, address(at)) } else { old(at, address(at)) };
    for at in 1..=3_000 {
        write_event(&inner, event(at));
    }
    let store = WrappedStore::over(inner);
    retagging(store.clone()).await.retag().await.unwrap();
    let app = over(store).start().await.unwrap();
    for of in ["a@x", "b@x"] {
        let all: Vec<_> = (1..=3_000).filter(|at| address(*at) == of).collect();
        assert_eq!(seen(&app, email(of)).await, all, "{of}");
    }
}

#[test]
fn a_test_of_a_rule_sees_stored_events_as_after_retagging() {
    let given = || nothing_given().upcasters(upcasters()).and_stored(old(1, "a@x"));
    let event = || Registered { customer: 2, email: "a@x".to_owned() };
    given().when(Register(2, "a@x")).then([event()]);
    given().retagged().when(Register(2, "a@x")).then_rejected(AddressTaken(vec![1]));
    let event = Registered { customer: 2, email: "b@x".to_owned() };
    given().retagged().when(Register(2, "b@x")).then([event]);
}

#[tokio::test]
async fn an_event_that_cannot_be_read_is_told_and_nothing_is_completed() {
    let broken = RawEvent { payload: "{}".into(), ..old(2, "a@x") };
    let store = with([old(1, "a@x"), broken]);
    let app = retagging(store.store()).await;
    let error = app.retag().await.unwrap_err();
    assert!(error.to_string().contains("position 2 cannot be given its tags"), "{error}");
    assert!(is_missing(app.execute(Register(3, "a@x")).await));
    assert_eq!(number(store.inner(), "diptych:retag-fenced"), 0);
}

#[tokio::test]
async fn a_tag_that_is_spelt_differently_later_is_retagged_again() {
    let store = with([old(1, "A@x"), old(2, "a@x")]);
    retagging(store.store()).await.retag().await.unwrap();
    let lower = || {
        Upcasters::new().object("customer-registered", 1, |event| {
            let address: String = event.get("email")?.unwrap_or_default();
            event.insert("email", address.to_lowercase())
        })
    };
    let again = || over(store.store()).upcasters(lower());
    assert!(matches!(again().start().await, Err(StartError::MissingTag(_))));
    let app = again().retagging().start().await.unwrap();
    assert!(is_missing(app.execute(Register(3, "a@x")).await));
    app.retag().await.unwrap();
    assert_eq!(seen(&app, email("a@x")).await, [1, 2]);
    assert_eq!(app.retag().await.unwrap().retagged, 0);
    over(store.store()).upcasters(lower()).start().await.unwrap();
}

#[tokio::test]
async fn a_tag_that_older_events_get_after_a_run_without_it_is_retagged() {
    let nameless =
        |at: u64| RawEvent { payload: format!(r#"{{"customer":{at}}}"#).into(), ..old(at, "") };
    let store = with((1..=3).map(nameless));
    let upcast = |address: Option<&'static str>| {
        Upcasters::new().object("customer-registered", 1, move |event| match address {
            Some(address) => event.insert("phone", address),
            None => Ok(()),
        })
    };
    let over = |address| {
        let start = App::over(store.store()).upcasters(upcast(address));
        start.events::<Reachable>().retagging().start()
    };
    assert_eq!(over(None).await.unwrap().retag().await.unwrap().retagged, 0);
    let report = over(Some("1")).await.unwrap().retag().await.unwrap();
    assert_eq!((report.retagged, report.completed.len()), (3, 1));
}

#[derive(Clone, Debug, Event, Serialize, Deserialize)]
#[event("customer-registered", version = 2)]
struct Reachable {
    #[tag]
    customer: u64,
    #[tag]
    phone: Option<String>,
}

#[derive(Clone, Debug, Event, Serialize, Deserialize)]
#[event("diptych:mine")]
struct Mine {}

#[derive(Clone, Debug, Event, Serialize, Deserialize)]
#[event("mine")]
struct Tagged {
    #[tag]
    diptych: u64,
}

struct Write<E>(E);

impl<E: Event + Clone> Command for Write<E> {
    type State = ();
    type Event = E;
    type Rejection = Infallible;

    fn boundary(&self) {}

    fn decide(&self, (): (), _: &DecisionContext) -> Result<Vec<E>, Infallible> {
        Ok(vec![self.0.clone()])
    }
}

#[test]
fn names_of_reserved_events_and_tags_are_refused() {
    let app = now(App::over(Memory::new()).start()).unwrap();
    let mine = now(app.execute(Write(Mine {})).into_future()).unwrap_err().to_string();
    let tagged = now(app.execute(Write(Tagged { diptych: 1 })).into_future());
    for text in [mine, tagged.unwrap_err().to_string()] {
        assert!(text.contains("are reserved"), "{text}");
    }
}

#[tokio::test]
async fn a_subscription_is_refused_before_retagging_and_sees_older_events_after_it() {
    let store = CountedStore::new(Memory::new());
    write_event(store.inner(), old(1, "a@x"));
    write_event(store.inner(), old(2, "b@x"));
    write_event(store.inner(), new(3, "a@x"));
    let app = retagging(store.store()).await;
    let begin = async || app.subscribe::<Registered>(email("a@x")).start().await;
    let refused = begin().await.map(drop).unwrap_err();
    assert!(matches!(refused, SubscriptionError::Schema(SchemaError::MissingTag(_))), "{refused}");
    app.retag().await.unwrap();
    app.execute(Register(4, "c@x")).await.unwrap();
    let mut events = begin().await.unwrap();
    let mut seen = Vec::new();
    while let Arrival::Event(event) = events.next().await.unwrap() {
        seen.push((event.position.get(), event.event.customer));
    }
    assert_eq!(seen, [(1, 1), (3, 3)]);
}
