//! Given-when-then tests of rules: a correct expectation passes, and a wrong one fails with a clear
//! message. Also tests the clock, the ids and the store with a controlled clock.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use diptych::{
    App, Command, DecisionContext, Event, EventType, ExecuteError, Filter, Fold, Invalid, Metadata,
    Recorded, Tag, Timestamp, Upcasters,
    event::{Codec, EncodedEvent, Json, SchemaError},
    store::RawEvent,
    testing::{Clock, ControlledClock, Given, Ids, given, nothing_given},
};
use proptest::prelude::*;

use crate::support::{
    bank::{Account, Banking, Deposited, No, Opened, Withdrawn, deposit, open, withdraw},
    counted_store::{CountedStore, everything},
    probe::{Look, Never, look, say},
};

fn opened(account: &str) -> Banking {
    Banking::Opened(Opened { account: account.to_owned(), owner: "ann".to_owned() })
}

fn deposited(account: &str, amount: u64) -> Banking {
    Banking::Deposited(Deposited { account: account.to_owned(), amount })
}

fn withdrawn(account: &str, amount: u64) -> Banking {
    Banking::Withdrawn(Withdrawn { account: account.to_owned(), amount })
}

fn account(name: &str) -> Filter {
    Filter::tag(Tag::new("account", name))
}

/// Returns the panic message of a failing test.
pub(crate) fn says<T>(test: impl FnOnce() -> T) -> String {
    match catch_unwind(AssertUnwindSafe(test)) {
        Ok(_) => panic!("the test should fail"),
        Err(panic) => panic.downcast_ref::<String>().unwrap().clone(),
    }
}

#[test]
fn correct_expectations_pass_and_the_story_continues() {
    let story = nothing_given()
        .when(open("a"))
        .then([opened("a")])
        .when(deposit("a", 5))
        .then([deposited("a", 5)])
        .when(deposit("a", 0))
        .then_nothing()
        .when(deposit("a", 0))
        .then([])
        .when(withdraw("a", 6))
        .then_rejected(No::Overdrawn { balance: 5, amount: 6 })
        .when(withdraw("a", 7))
        .then_rejected_if(|no| matches!(no, No::Overdrawn { amount: 7, .. }))
        .when(deposit("a", 2_000_000))
        .then_invalid("amount")
        .and([opened("b"), deposited("b", 100)])
        .when(open("b"))
        .then_rejected(No::AlreadyOpen);
    let state: Account = story.when(withdraw("a", 2)).then_state(account("a"));
    assert_eq!(state, Account { open: true, balance: 3, events: 3 });
    // The state folds only events within the boundary.
    let state: Account = given([opened("b")]).state(account("a"));
    assert_eq!(state, Account::default());
    let state: Account = given([opened("b")]).state(Filter::everything());
    assert_eq!(state.events, 1);
}

#[test]
fn other_events_are_shown_as_a_difference() {
    let said = says(|| given([opened("a")]).when(deposit("a", 5)).then([deposited("a", 6)]));
    let expected = "\n\
        given account-opened\n\
        when testing::support::bank::Deposit\n\
        then something else (- expected, + actual):\n\
        \u{20} [\n\
        \u{20}     Deposited(\n\
        \u{20}         Deposited {\n\
        \u{20}             account: \"a\",\n\
        -             amount: 6,\n\
        +             amount: 5,\n\
        \u{20}         },\n\
        \u{20}     ),\n\
        \u{20} ]";
    assert_eq!(said.trim_end(), expected);
    let none = says(|| given([opened("a")]).when(deposit("a", 5)).then([]));
    assert!(none.contains("+     Deposited(") && none.contains("- []"), "{none}");
    let nothing = says(|| given([opened("a")]).when(deposit("a", 5)).then_nothing());
    assert_eq!(nothing, none);
    let order = [deposited("b", 1), deposited("a", 1)];
    let said = says(|| {
        let both = say::<Account, _>(&account("a"), [deposited("a", 1), deposited("b", 1)]);
        given([opened("a"), opened("b")]).when(both).then(order)
    });
    assert!(said.contains("given account-opened, account-opened\n"), "{said}");
}

#[test]
fn another_outcome_is_reported_in_words() {
    let rejected = "the rejection Overdrawn { balance: 0, amount: 1 } \
        (the balance is 0, less than 1)";
    let no = || nothing_given().when(withdraw("a", 1));
    let yes = || given([opened("a")]).when(deposit("a", 5));
    let empty = || given([opened("a")]).when(deposit("a", 0));
    let wrong = || nothing_given().when(deposit("a", 2_000_000));
    let invalid = "invalid because of amount: at most 1000000";
    let events = "events: money-deposited";
    let cases = [
        (says(|| no().then([])), "events []", rejected),
        (says(|| no().then_nothing()), "no event", rejected),
        (says(|| no().then_invalid("amount")), "invalid because of amount", rejected),
        (says(|| no().then_rejected_if(|_| false)), "a rejection as described", rejected),
        (says(|| yes().then_rejected(No::NotOpen)), "the rejection NotOpen", events),
        (says(|| yes().then_rejected_if(|_| true)), "a rejection as described", events),
        (says(|| yes().then_invalid("amount")), "invalid because of amount", events),
        (says(|| empty().then_rejected(No::NotOpen)), "the rejection NotOpen", "no event"),
        (says(|| wrong().then([])), "events []", invalid),
        (says(|| wrong().then_nothing()), "no event", invalid),
        (says(|| wrong().then_rejected(No::NotOpen)), "the rejection NotOpen", invalid),
        (says(|| wrong().then_invalid("account")), "invalid because of account", invalid),
    ];
    for (said, expected, actual) in cases {
        let outcome = format!("expected {expected}\nbut got  {actual}");
        assert!(said.ends_with(&outcome), "{said}\n-- is not --\n{outcome}");
        assert!(said.starts_with("\ngiven "), "{said}");
    }
    let other = says(|| no().then_rejected(No::Overdrawn { balance: 1, amount: 1 }));
    assert!(other.contains("\ngiven nothing\nwhen testing::support::bank::Withdraw\n"), "{other}");
    assert!(other.contains("-     balance: 1,") && other.contains("+     balance: 0,"), "{other}");
}

/// An event whose text selects how encoding, decoding or its fold fails.
#[derive(Clone, Debug, PartialEq)]
struct Odd(&'static str);

impl Event for Odd {
    fn types() -> Vec<EventType> {
        vec![EventType::new("odd").tags(&["page"])]
    }

    fn encode(&self) -> Result<RawEvent, SchemaError> {
        let event = RawEvent::new("odd", Json::encode(self.0)?).tag(Tag::new("page", 1));
        match self.0 {
            "fails" => Err(SchemaError::Encode { what: "odd", reason: "it fails".to_owned() }),
            "tag" => Ok(event.tag(Tag::new("secret", 1))),
            "version" => Ok(event.version(2)),
            _ => Ok(event),
        }
    }

    fn decode(encoded: &EncodedEvent<'_>) -> Result<Odd, SchemaError> {
        match encoded.read::<Json, String>()?.as_str() {
            "one way" => Err(encoded.not_decoded("it is one way")),
            "bomb" => Ok(Odd("bomb")),
            _ => Ok(Odd("fine")),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Fragile;

impl Fold for Fragile {
    type Event = Odd;

    fn apply(&mut self, event: &Recorded<Odd>) {
        assert!(event.0 != "bomb", "boom");
    }
}

struct Decides(&'static str);

impl Command for Decides {
    type State = Fragile;
    type Event = Odd;
    type Rejection = Never;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new(if self.0 == "boundary" { "pgae" } else { "page" }, 1))
    }

    fn validate(&self) -> Result<(), Invalid> {
        Ok(())
    }

    fn decide(&self, _: &Fragile, _: &DecisionContext) -> Result<Vec<Odd>, Never> {
        assert!(self.0 != "panics", "oh");
        Ok(vec![Odd(self.0)])
    }
}

#[test]
fn mistakes_of_a_domain_fail_its_tests() {
    let when = |what| says(|| nothing_given().when(Decides(what)));
    let cases = [
        (when("panics"), "`decide` of testing::given::Decides panicked: oh"),
        (when("boundary"), "the boundary of testing::given::Decides is wrong"),
        (when("fails"), "an event of testing::given::Odd cannot be written: odd cannot be encoded"),
        (
            when("one way"),
            "an event of testing::given::Odd cannot be written: odd version 1 cannot be",
        ),
        (when("tag"), "whose key it does not declare"),
        (when("version"), "encodes odd version 2, which is not in its types"),
        (says(|| given([Odd("tag")])), "whose key it does not declare"),
        (says(|| given([Odd("bomb")]).when(Decides("fine"))), "position 1: it panicked: boom"),
        (
            says(|| given([Odd("fine")]).state::<Fragile>(Filter::tag(Tag::new("pgae", 1)))),
            "the boundary of testing::given::Fragile is wrong",
        ),
        (
            says(|| {
                let garbage = RawEvent::new("odd", "?").tag(Tag::new("page", 1));
                nothing_given().and_stored(garbage).when(Decides("fine"))
            }),
            "odd version 1 cannot be decoded",
        ),
        (
            says(|| {
                let twice = Upcasters::new().drop("a", 1).drop("a", 1);
                nothing_given().upcasters(twice).when(Decides("fine"))
            }),
            "a version 1 has two upcasters",
        ),
    ];
    for (said, expected) in cases {
        assert!(said.contains(expected), "{said}\n-- is not --\n{expected}");
    }
    let _fine: Given = given([Odd("fine")]).when(Decides("fine")).then([Odd("fine")]);
}

#[test]
fn a_rule_decides_on_upcast_events_of_older_programs() {
    let old = RawEvent::new("money-paid-in", r#"{"account":"a","cents":700}"#);
    let upcasters = Upcasters::new().rename("money-paid-in", "money-deposited");
    let upcasters = upcasters.object("money-paid-in", 1, |payload| {
        let cents: u64 = payload.take("cents")?.ok_or("no cents")?;
        payload.insert("amount", cents / 100)
    });
    // The upcaster makes it version 2, which this program does not know.
    let given = given([opened("a")]).and_stored(old.tag(Tag::new("account", "a")));
    let said = says(|| given.upcasters(upcasters).when(withdraw("a", 7)));
    assert!(said.contains("money-deposited version 2 is not known"), "{said}");
    let old = RawEvent::new("money-paid-in", r#"{"account":"a","amount":7,"by":"check"}"#);
    self::given([opened("a")])
        .and_stored(old.tag(Tag::new("account", "a")))
        .upcasters(Upcasters::new().rename("money-paid-in", "money-deposited"))
        .when(withdraw("a", 8))
        .then_rejected(No::Overdrawn { balance: 7, amount: 8 })
        .when(withdraw("a", 7))
        .then([withdrawn("a", 7)]);
}

/// A state that holds every recorded event in full.
#[derive(Clone, Debug, Default, PartialEq)]
struct All(Vec<Recorded<Banking>>);

impl Fold for All {
    type Event = Banking;

    fn apply(&mut self, event: &Recorded<Banking>) {
        self.0.push(event.clone());
    }
}

#[test]
fn a_fold_sees_the_same_events_in_every_run() {
    let by_bob = Metadata { actor: Some("bob".into()), ..Metadata::default() };
    let run = || -> All {
        let story = given([opened("a"), deposited("a", 5)]).when(withdraw("a", 1));
        let story = story.then([withdrawn("a", 1)]).at("2013-01-01T10:15:00Z".parse().unwrap());
        let story = story.and([deposited("a", 1)]).with_metadata(by_bob.clone());
        story.when(withdraw("a", 5)).then_state(Filter::everything())
    };
    let seen = run().0;
    assert_eq!(run().0, seen);
    let times: Vec<_> = seen.iter().map(|event| event.recorded_at.to_string()).collect();
    let expected = [
        "2000-01-01T00:00:00Z",
        "2000-01-01T00:00:01Z",
        "2000-01-01T00:00:02Z",
        "2013-01-01T10:15:00Z",
        "2013-01-01T10:15:01Z",
    ];
    assert_eq!(times, expected);
    let positions: Vec<_> = seen.iter().map(|event| event.position.get()).collect();
    assert_eq!(positions, [1, 2, 3, 4, 5]);
    let ids: Vec<_> = seen.iter().map(|event| event.id.to_string()).collect();
    assert_eq!(ids[0], "64697074-7963-882d-8000-000000000001");
    assert_eq!(ids[4], "64697074-7963-882d-8000-000000000005");
    assert_eq!(seen[3].metadata, Metadata::default());
    assert_eq!(seen[4].metadata, by_bob);
    let ids = Ids::new();
    assert_eq!((ids.next_id().as_u128(), ids.next_id().as_u128()), (1, 2));
}

#[tokio::test]
async fn a_controlled_store_records_by_its_clock() {
    let clock = Clock::new();
    assert_eq!(clock.now().to_string(), "2000-01-01T00:00:00Z");
    let store = CountedStore::new(ControlledClock::new(clock.clone()));
    let app = App::over(store.store()).start().await.unwrap();
    app.execute(open("a")).await.unwrap();
    clock.advance(Duration::from_millis(1_500));
    app.execute(deposit("a", 1)).await.unwrap();
    clock.set("2013-01-01T10:15:00Z".parse().unwrap());
    app.execute(deposit("a", 1)).await.unwrap();
    // The recorded time of a log does not go back.
    clock.set(Timestamp::from_micros(0));
    app.execute(deposit("a", 1)).await.unwrap();
    let state = look::<All>(&app, &account("a")).await.unwrap();
    let times: Vec<_> = state.0.iter().map(|event| event.recorded_at.to_string()).collect();
    let expected = [
        "2000-01-01T00:00:00Z",
        "2000-01-01T00:00:01.5Z",
        "2013-01-01T10:15:00Z",
        "2013-01-01T10:15:00Z",
    ];
    assert_eq!(times, expected);
    let stored: Vec<_> =
        everything(store.inner()).iter().map(|(_, at, _)| at.to_string()).collect();
    assert_eq!(stored, expected);
    assert_eq!(clock.now(), Timestamp::from_micros(0));
    let fresh = App::over(store.store()).start().await.unwrap();
    assert_eq!(look::<All>(&fresh, &account("a")).await.unwrap(), state);
}

/// Returns the story and the rejection of the command.
fn by_kit<C: Command>(story: Given, command: C) -> (Given, String) {
    let mut no = String::new();
    let story = story.when(command).then_rejected_if(|rejection| {
        no = format!("{rejection:?}");
        true
    });
    (story, no)
}

#[derive(Clone, Copy, Debug)]
enum GivenCommand {
    Open(usize),
    Deposit(usize, u64),
    Withdraw(usize, u64),
}

const NAMES: [&str; 3] = ["a", "b", "a:b"];

fn sent() -> impl Strategy<Value = GivenCommand> {
    prop_oneof![
        (0..3_usize).prop_map(GivenCommand::Open),
        (0..3_usize, 0..9_u64).prop_map(|(account, amount)| GivenCommand::Deposit(account, amount)),
        (0..3_usize, 0..9_u64)
            .prop_map(|(account, amount)| GivenCommand::Withdraw(account, amount)),
    ]
}

/// Executes the command in the app, and asserts the same outcome in the story.
async fn both<C: Command<Event = Banking, Rejection = No> + Clone>(
    app: &App,
    story: Given,
    command: C,
) -> Given {
    let before = app.store().head().position();
    match app.execute(command.clone()).await {
        Ok(receipt) if receipt.is_empty() => story.when(command).then_nothing(),
        Ok(_) => {
            let seen = look::<All>(app, &Filter::everything()).await.unwrap();
            let new = seen.0.into_iter().filter(|event| event.position > before);
            let new: Vec<_> = new.map(|event| event.event).collect();
            story.when(command).then(new)
        }
        Err(ExecuteError::Rejected(no)) => story.when(command).then_rejected(no),
        Err(error) => panic!("{error}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None,
        ..ProptestConfig::default() })]

    #[test]
    fn a_rule_test_has_the_same_outcomes_as_an_app(
        commands in proptest::collection::vec(sent(), 1..30)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let clock = Clock::new();
            let app = App::over(ControlledClock::new(clock.clone())).start().await.unwrap();
            let mut story = nothing_given();
            for sent in commands {
                story = match sent {
                    GivenCommand::Open(at) => both(&app, story, open(NAMES[at])).await,
                    GivenCommand::Deposit(at, amount) => {
                        both(&app, story, deposit(NAMES[at], amount)).await
                    }
                    GivenCommand::Withdraw(at, amount) => {
                        both(&app, story, withdraw(NAMES[at], amount)).await
                    }
                };
            }
            for name in NAMES {
                let kept = look::<Account>(&app, &account(name)).await.unwrap();
                let look = Look::<Account>::at(&account(name));
                let (next, said) = by_kit(story, look);
                assert_eq!(said, format!("{:?}", crate::support::probe::Saw(kept)));
                story = next;
            }
        });
    }
}
