//! An event type can gain a tag. Events written before that do not carry the tag.

use std::convert::Infallible;

use diptych::{
    App, AppBuilder, Command, CommandError, DecisionContext, Event, ExecuteError, Filter, Fold,
    Memory, Position, Recorded, StartError, Store, Tag, Upcasters, event::SchemaError,
    store::RawEvent,
};
use diptych_store::{Append, testing::WrappedStore};

use crate::support::counted_store::{CountedStore, write_event};

/// Version 1 had only the tag `customer`, and all these fields except `referrer`.
#[derive(Clone, Debug, PartialEq, Event)]
enum Customers {
    #[event("customer-registered", version = 2)]
    Registered {
        #[tag]
        customer: u64,
        #[tag]
        email: String,
        #[tag]
        referrer: Option<u64>,
    },
    #[event("customer-left")]
    Left {
        #[tag]
        customer: u64,
    },
}

fn upcasters() -> Upcasters {
    Upcasters::new().object("customer-registered", 1, |_| Ok(()))
}

fn old(customer: u64) -> RawEvent {
    let payload = format!(r#"{{"customer":{customer},"email":"c{customer}@example.org"}}"#);
    RawEvent::new("customer-registered", payload).tag(Tag::new("customer", customer))
}

fn new(customer: u64) -> RawEvent {
    let email = format!("c{customer}@example.org");
    Customers::Registered { customer, email, referrer: None }.encode().unwrap()
}

#[derive(Clone, Debug, Default)]
struct RegistrationCount(u64);

impl Fold for RegistrationCount {
    type Event = Customers;

    fn apply(&mut self, event: &Recorded<Customers>) {
        self.0 += u64::from(matches!(event.event, Customers::Registered { .. }));
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the address is taken")]
struct AddressTaken;

/// Registers a customer unless another customer has the address.
struct Register(u64, &'static str);

impl Command for Register {
    type State = RegistrationCount;
    type Event = Customers;
    type Rejection = AddressTaken;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("email", self.1)).of_types(&["customer-registered"])
    }

    fn decide(
        &self,
        registered: &RegistrationCount,
        _: &DecisionContext,
    ) -> Result<Vec<Customers>, AddressTaken> {
        let Register(customer, email) = *self;
        match registered.0 {
            0 => Ok(vec![Customers::Registered {
                customer,
                email: email.to_owned(),
                referrer: None,
            }]),
            _ => Err(AddressTaken),
        }
    }
}

/// A command whose boundary uses a tag that version 1 has too.
struct Leave(u64);

impl Command for Leave {
    type State = RegistrationCount;
    type Event = Customers;
    type Rejection = Infallible;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("customer", self.0))
    }

    fn decide(
        &self,
        _: &RegistrationCount,
        _: &DecisionContext,
    ) -> Result<Vec<Customers>, Infallible> {
        Ok(vec![Customers::Left { customer: self.0 }])
    }
}

fn with(events: impl IntoIterator<Item = RawEvent>) -> CountedStore {
    let store = CountedStore::new(Memory::new());
    store.write(Append::events(events));
    store
}

fn over(store: &CountedStore) -> AppBuilder {
    App::over(store.store()).upcasters(upcasters())
}

async fn untagged(start: AppBuilder) -> diptych::event::MissingTag {
    match start.start().await {
        Err(StartError::MissingTag(untagged)) => untagged,
        other => panic!("the start should fail with a missing tag: {other:?}"),
    }
}

/// Regression: version 2 of an event gained a tag and an upcaster, as the schema lock advised. A
/// rule over the tag did not see the older events, and registered an address twice.
#[tokio::test]
async fn an_app_whose_events_lack_a_tag_in_the_log_does_not_start() {
    let store = with([new(3), old(1)]);
    for start in [over(&store).view::<RegistrationCount>(), over(&store).events::<Customers>()] {
        let found = untagged(start).await;
        assert_eq!((found.event_type, &*found.key), ("customer-registered", "email"));
        assert_eq!((found.stored_version, found.position.get()), (1, 2));
        let text = StartError::MissingTag(found).to_string();
        for part in ["position 2", "version 1", "a rule over that tag does not see it"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(text.contains(r#"accept_untagged("customer-registered", "email")"#), "{text}");
    }
}

#[tokio::test]
async fn a_command_over_a_tag_that_older_events_lack_is_refused() {
    let store = with([old(1)]);
    let app = over(&store).start().await.unwrap();
    for _ in 0..2 {
        let error = app.execute(Register(2, "c1@example.org")).await.unwrap_err();
        assert!(
            matches!(
                &error,
                ExecuteError::Failed(CommandError::Schema(SchemaError::MissingTag(_)))
            ),
            "{error:?}"
        );
        assert!(error.to_string().contains("does not carry the tag email"), "{error}");
    }
    // The older events carry the tag `customer`.
    app.execute(Leave(1)).await.unwrap();
    assert_eq!(app.head().get(), 2);
}

/// Another handle wrote the older event, and the store of the app does not show it yet.
#[tokio::test]
async fn an_older_event_of_another_writer_is_found_before_the_first_command() {
    let log = Store::new(Memory::new());
    let behind = WrappedStore::over(log.clone()).behind();
    let app = App::over(behind).upcasters(upcasters()).start().await.unwrap();
    log.append(Append::events([old(1)])).await.unwrap().synced().await.unwrap();
    let error = app.execute(Register(2, "c1@example.org")).await.unwrap_err();
    assert!(error.to_string().contains("does not carry the tag email"), "{error}");
    assert_eq!(log.head().position(), Position::new(1));
}

#[tokio::test]
async fn a_missing_tag_that_no_rule_needs_can_be_accepted() {
    let store = with([old(1)]);
    let accepting = |key: &str| over(&store).accept_untagged("customer-registered", key);
    untagged(accepting("customer").view::<RegistrationCount>()).await;
    let app = accepting("email").view::<RegistrationCount>().start().await.unwrap();
    app.execute(Register(2, "c2@example.org")).await.unwrap();
    let beside = app.beside().view::<RegistrationCount>().start().await.unwrap();
    let taken = beside.execute(Register(4, "c2@example.org")).await.unwrap_err();
    assert!(matches!(taken, ExecuteError::Rejected(AddressTaken)));
}

#[tokio::test]
async fn an_older_event_with_all_tags_of_today_lacks_none() {
    // The older event has no referrer, so no rule over that tag misses it.
    let old = old(1).tag(Tag::new("email", "c1@example.org"));
    let store = with([old.clone(), new(2)]);
    let app = over(&store).view::<RegistrationCount>().start().await.unwrap();
    let taken = app.execute(Register(3, "c1@example.org")).await.unwrap_err();
    assert!(matches!(taken, ExecuteError::Rejected(AddressTaken)));
    // This older event has another customer and a referrer, and carries the tag of neither.
    let payload = r#"{"customer":4,"email":"c1@example.org","referrer":1}"#;
    write_event(store.inner(), RawEvent { payload: payload.into(), ..old });
    let error = over(&store).view::<RegistrationCount>().start().await.map(drop).unwrap_err();
    assert!(error.to_string().contains("does not carry the tag customer"), "{error}");
    let accepting = over(&store).accept_untagged("customer-registered", "customer");
    let found = untagged(accepting.view::<RegistrationCount>()).await;
    assert_eq!((&*found.key, found.position.get()), ("referrer", 3));
}

/// Two releases ran at once, and the older one wrote after the newer one had started.
#[tokio::test]
async fn an_older_event_among_newer_ones_is_found() {
    let among = |at: u64| (0..400).map(move |n| if n / 40 == at { old(n) } else { new(n) });
    for at in 0..10 {
        let found = untagged(over(&with(among(at))).view::<RegistrationCount>()).await;
        assert_eq!(found.key, "email", "{at}");
    }
}

#[derive(Clone, Debug, Event, serde::Serialize, serde::Deserialize)]
#[event("customer-left")]
struct Left {
    #[tag]
    customer: u64,
}

#[tokio::test]
async fn the_check_of_tags_reads_a_bounded_number_of_events() {
    let store = with((0..100).map(|customer| Left { customer }.encode().unwrap()));
    App::over(store.store()).events::<Left>().start().await.unwrap();
    assert_eq!(store.reads(), 0);
    let store = with((0..10_000).map(new));
    over(&store).events::<Customers>().start().await.unwrap();
    assert!((1..=16).contains(&store.reads()), "{}", store.reads());
    assert!((1..=256).contains(&store.events_read()), "{}", store.events_read());
}
