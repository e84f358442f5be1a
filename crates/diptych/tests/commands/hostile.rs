//! Bad input from outside, and mistakes of the program. Each gets an error that names the problem
//! and its place. The app writes nothing and continues to work.

use std::{
    any::type_name,
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind, panic_any},
    sync::Arc,
};

use diptych::{
    App, Command, CommandError, DecisionContext, Event, EventType, ExecuteError, Filter, Fold,
    Invalid, Memory, Recorded, Tag, Timestamp,
    event::{BoundaryError, EncodedEvent, Json, SchemaError},
    fold::FoldFailure,
    store::{FilterItem, InvalidRequest, Limits, RawEvent},
};
use diptych_store::Append;
use serde::{Deserialize, Serialize};

use crate::support::{
    bank::{Account, Banking, Deposited, No, Opened, deposit, open, withdraw},
    counted_store::{CountedStore, Warnings, everything, write_event},
    declare::events,
    probe::{HeardEvents, Never, heard, look, say, told},
};

fn account(name: &str) -> Filter {
    Filter::tag(Tag::new("account", name))
}

fn deposited(account: &str, amount: u64) -> Banking {
    Banking::Deposited(Deposited { account: account.to_owned(), amount })
}

fn limited(change: impl FnOnce(&mut Limits)) -> CountedStore {
    let mut limits = Limits::default();
    change(&mut limits);
    CountedStore::new(Memory::new().limits(limits))
}

async fn app(store: &CountedStore) -> App {
    App::over(store.store()).start().await.unwrap()
}

/// Returns the invalid request. Asserts that nothing was written and that the app still works.
async fn not_taken<C: Command>(app: &App, command: diptych::Execute<C>) -> InvalidRequest {
    let head = app.store().head().position();
    let error = command.await.unwrap_err();
    assert_eq!(app.store().head().position(), head, "the refused command wrote events");
    let ExecuteError::Failed(CommandError::InvalidRequest(invalid)) = error else {
        panic!("{error}")
    };
    app.execute(deposit("a", 1)).await.unwrap();
    let refused = app.execute(withdraw("a", 1_000_000)).await.unwrap_err();
    assert!(matches!(refused, ExecuteError::Rejected(_)), "{refused}");
    invalid
}

#[tokio::test]
async fn a_request_beyond_a_limit_is_refused() {
    let store = limited(|limits| {
        limits.event_bytes = 10_000;
        limits.commit_events = 10;
        limits.commit_bytes = 15_000;
        limits.metadata_bytes = 1_000;
        limits.key_bytes = 100;
        limits.filter_items = 5;
        limits.tag_bytes = 50;
    });
    let app = app(&store).await;
    app.execute(open("a")).await.unwrap();
    let limit = |invalid: &InvalidRequest| match invalid {
        InvalidRequest::TooLarge { name, .. } | InvalidRequest::TooMany { name, .. } => *name,
        other => panic!("{other}"),
    };
    let one = |amount| deposited("a", amount);
    let many = (0..11).map(one);
    let many = app.execute(say::<Account, _>(&account("a"), many));
    assert_eq!(limit(&not_taken(&app, many).await), "commit_events");
    let owner = "o".repeat(10_001);
    let large = Banking::Opened(Opened { account: "a".to_owned(), owner: owner.clone() });
    let large = app.execute(say::<Account, _>(&account("a"), [large]));
    assert_eq!(limit(&not_taken(&app, large).await), "event_bytes");
    let owner = owner[..9_000].to_owned();
    let large = Banking::Opened(Opened { account: "a".to_owned(), owner });
    let large = app.execute(say::<Account, _>(&account("a"), [large.clone(), large]));
    assert_eq!(limit(&not_taken(&app, large).await), "commit_bytes");
    let actor = app.execute(deposit("a", 1)).actor("x".repeat(10 << 20));
    assert_eq!(limit(&not_taken(&app, actor).await), "metadata_bytes");
    let extra = app.execute(deposit("a", 1)).extra("x".repeat(500), "y".repeat(501));
    assert_eq!(limit(&not_taken(&app, extra).await), "metadata_bytes");
    for bytes in [101, 10 << 20] {
        let key = app.execute(deposit("a", 1)).key("k".repeat(bytes));
        assert_eq!(limit(&not_taken(&app, key).await), "key_bytes");
    }
    let nameless = not_taken(&app, app.execute(deposit("a", 1)).key("")).await;
    assert!(matches!(nameless, InvalidRequest::NoName { .. }), "{nameless}");
    // If the fold does not ask for a tag, only the store checks that tag.
    let tag = app.execute(say::<Account, _>(&account("a"), [deposited(&"t".repeat(43), 1)]));
    assert_eq!(limit(&not_taken(&app, tag).await), "tag_bytes");
    let items = (0..6).map(|item| FilterItem::everything().and_tag(Tag::new("account", item)));
    let items = app.execute(say::<Account, _>(&items.collect(), [one(1)]));
    assert_eq!(limit(&not_taken(&app, items).await), "filter_items");
}

#[tokio::test]
async fn a_boundary_has_as_many_items_as_the_store_takes() {
    let store = CountedStore::new(Memory::new());
    let app = app(&store).await;
    app.execute(open("a")).await.unwrap();
    let of = |items: u64| -> Filter {
        (0..items).map(|item| FilterItem::everything().and_tag(Tag::new("account", item))).collect()
    };
    // The store takes 256 items, and each append has a condition on retagged keys.
    let most = of(255);
    // Two commands run at the same time over the same items in a different order. They do not
    // deadlock.
    let turned: Filter = most.items().iter().rev().cloned().collect();
    let (one, other) = (told(&app, &most, [deposited("7", 1)]), told::<Banking>(&app, &turned, []));
    let (one, other) = tokio::join!(one, other);
    assert_eq!((one.unwrap().events(), other.unwrap().events()), (1, 0));
    assert_eq!(heard::<Banking>(&app, &most).await.unwrap().len(), 1);
    let more = app.execute(say::<Account, _>(&of(300), [deposited("7", 1)]));
    let invalid = not_taken(&app, more).await;
    assert!(matches!(invalid, InvalidRequest::TooMany { count: 300, limit: 256, .. }), "{invalid}");
}

#[tokio::test]
async fn a_payload_that_cannot_be_read_says_where_it_is() {
    let store = CountedStore::new(Memory::new());
    let app = app(&store).await;
    app.execute(open("a")).await.unwrap();
    app.execute(open("b")).await.unwrap();
    let garbage = [&b""[..], b"null", b"{\"account\":\"a\",\"amount\":-1}", b"\xff\0"];
    let now = DecisionContext::at(Timestamp::from_micros(0));
    for payload in garbage {
        let store = CountedStore::new(Memory::new());
        let app = self::app(&store).await;
        app.execute(open("a")).await.unwrap();
        write_event(
            store.inner(),
            open("b").decide(&Account::default(), &now).unwrap()[0].encode().unwrap(),
        );
        let tag = Tag::new("account", "a");
        write_event(store.inner(), RawEvent::new("money-deposited", payload).tag(tag));
        // The first app has the state in its cache. The second app reads it from the log.
        for app in [&app, &self::app(&store).await] {
            let failed = app.execute(deposit("a", 1)).await.unwrap_err();
            let text = failed.to_string();
            let ExecuteError::Failed(CommandError::Fold(failed)) = failed else { panic!("{text}") };
            assert_eq!((failed.position.get(), failed.fold), (3, type_name::<Account>()));
            assert!(matches!(failed.cause, FoldFailure::Schema(SchemaError::Decode { .. })));
            assert!(text.contains("position 3") && text.contains("money-deposited version 1"));
            // A command with another boundary still works.
            app.execute(deposit("b", 1)).await.unwrap();
        }
        assert_eq!(store.inner().head().position().get(), 5);
    }
}

/// Texts that a lower layer might misread as syntax, or as another text.
const TEXTS: [&str; 24] = [
    "",
    " ",
    "  ",
    ":",
    "::",
    "a",
    "a:b",
    "a ",
    "A",
    "\n",
    "\r\n",
    "\0",
    "a\0b",
    "%20",
    "%",
    ",",
    "=",
    "tag=account:a",
    "a or *",
    "*",
    "nothing",
    "\u{e1}",
    "a\u{301}",
    "\u{202e}\u{1f980}",
];

#[tokio::test]
async fn a_tag_can_hold_any_text_and_stays_distinct() {
    let longest = "x".repeat(512 - "account:".len());
    let texts: Vec<&str> = TEXTS.iter().copied().chain([longest.as_str()]).collect();
    assert_eq!(texts.iter().collect::<BTreeSet<_>>().len(), texts.len());
    let dir = tempfile::tempdir().unwrap();
    let memory = CountedStore::new(Memory::new());
    let apps = [
        App::over(memory.store()).start().await.unwrap(),
        App::over(Memory::new()).cache_bytes(0).start().await.unwrap(),
        App::open(dir.path()).unwrap().start().await.unwrap(),
    ];
    for app in apps {
        for (at, text) in (1..).zip(&texts) {
            app.execute(open(text)).await.unwrap();
            app.execute(deposit(text, at)).await.unwrap();
        }
        for (at, text) in (1..).zip(&texts) {
            let state = look::<Account>(&app, &account(text)).await.unwrap();
            let alone = Account { open: true, balance: at, events: 2 };
            assert_eq!(state, alone, "{text:?}");
            let twice = app.execute(open(text)).await.unwrap_err();
            assert!(matches!(twice, ExecuteError::Rejected(No::AlreadyOpen)), "{twice}");
        }
        app.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_tag_that_no_event_can_carry_is_refused_in_a_boundary() {
    let store = CountedStore::new(Memory::new());
    let app = app(&store).await;
    app.execute(open("a")).await.unwrap();
    for bytes in [513, 10 << 20] {
        let name = "x".repeat(bytes - "account:".len());
        let error = app.execute(deposit(&name, 1)).await.unwrap_err();
        let ExecuteError::Failed(CommandError::Boundary(error)) = error else { panic!("{error}") };
        assert_eq!(error, BoundaryError::TagTooLong { bytes, limit: 512 });
        let too_long = FilterItem::everything().or_type("account-opened");
        let too_long = too_long.and_tag(Tag::new("account", &name)).into();
        let error = app.execute(Narrow::<Account>(account("a"), too_long)).await.unwrap_err();
        let ExecuteError::Failed(CommandError::Boundary(error)) = error else { panic!("{error}") };
        assert_eq!(error, BoundaryError::TagTooLong { bytes, limit: 512 });
    }
    assert_eq!((store.reads(), store.appends()), (1, 1));
}

/// Deposits 1 into the account "a". Its conflict filter is the second field.
struct Narrow<S: diptych::command::Folds>(S::Boundary, Filter);

impl<S: diptych::command::Folds> Command for Narrow<S>
where
    S::Boundary: Clone + Sync,
{
    type State = S;
    type Event = Banking;
    type Rejection = Never;

    fn boundary(&self) -> S::Boundary {
        self.0.clone()
    }

    fn conflicts_with(&self) -> Option<Filter> {
        Some(self.1.clone())
    }

    fn decide(&self, _: S::Ref<'_>, _: &DecisionContext) -> Result<Vec<Banking>, Never> {
        Ok(vec![deposited("a", 1)])
    }
}

#[tokio::test]
async fn unknown_types_and_tag_keys_are_refused_in_boundaries_and_conflicts() {
    let store = CountedStore::new(Memory::new());
    let app = app(&store).await;
    let tagged = |key: &str| Filter::tag(Tag::new(key, 1));
    let typed = |name: &'static str| Filter::event_type(name);
    let item = FilterItem::everything().or_type("account-opened").or_type("account-opend");
    let wrong = [
        (tagged("acount"), "tag key \"acount\""),
        (account("a").or(tagged("Account")), "tag key \"Account\""),
        (account("a").and_tag(&Tag::new("owner", 1)), "tag key \"owner\""),
        (typed("money-lost"), "event type \"money-lost\""),
        (item.into(), "event type \"account-opend\""),
    ];
    for (boundary, says) in wrong {
        let narrow = Narrow::<(Account, HeardEvents<Banking>)>;
        let errors = [
            app.execute(say::<Account, _>(&boundary, [deposited("a", 1)])).await.unwrap_err(),
            app.execute(narrow((account("a"), boundary.clone()), Filter::nothing()))
                .await
                .unwrap_err(),
            app.execute(narrow((account("a"), account("a")), boundary)).await.unwrap_err(),
        ];
        for error in errors {
            let text = error.to_string();
            assert!(matches!(error, ExecuteError::Failed(CommandError::Boundary(_))), "{text}");
            assert!(text.contains(says) && text.contains("Banking"), "{text}");
            let known = match says.starts_with("tag") {
                true => r#"(known: ["account"])"#,
                false => r#"(known: ["account-opened", "money-deposited", "money-withdrawn"])"#,
            };
            assert!(text.contains(known), "{text}");
        }
    }
    assert_eq!((store.reads(), store.appends()), (0, 0));
}

/// If a command has several folds, it is enough that one of them knows the conflict filter. A
/// command without a fold has no position to check conflicts from, so a conflict filter is an
/// error. Regression: its condition was after the highest possible position, which no log reaches.
#[tokio::test]
async fn one_fold_must_know_the_conflict_filter() {
    let store = CountedStore::new(Memory::new());
    let app = app(&store).await;
    let entered = Filter::event_type("entered");
    let both = Narrow::<(Account, HeardEvents<Entries>)>(
        (account("a"), Filter::everything()),
        entered.clone(),
    );
    app.execute(both).await.unwrap();
    let error = app.execute(Narrow::<()>((), entered)).await.unwrap_err();
    let ExecuteError::Failed(CommandError::Boundary(BoundaryError::NoState { conflicts })) = error
    else {
        panic!("{error}")
    };
    assert_eq!(conflicts, "type=entered");
    app.execute(Narrow::<()>((), Filter::nothing())).await.unwrap();
    // An empty conflict filter never conflicts, whatever other writers append.
    look::<Account>(&app, &account("a")).await.unwrap();
    let conflicts = app.stats().conflicts;
    store.other_writes(Append::event(deposited("a", 5).encode().unwrap()));
    app.execute(Narrow::<Account>(account("a"), Filter::nothing())).await.unwrap();
    assert_eq!(app.stats().conflicts, conflicts);
    let state = look::<Account>(&app, &account("a")).await.unwrap();
    assert_eq!((state.events, state.balance), (4, 8));
}

#[tokio::test]
async fn nothing_and_everything_are_boundaries_too() {
    let store = CountedStore::new(Memory::new());
    let app = app(&store).await;
    let (nothing, all) = (Filter::nothing(), Filter::everything());
    for round in 1..=3 {
        store.other_writes(Append::event(deposited("a", 1).encode().unwrap()));
        let receipt = told(&app, &nothing, [deposited("a", 1)]).await.unwrap();
        assert_eq!(receipt.last().get(), 4 * round - 2, "an empty boundary had a conflict");
        assert_eq!(heard::<Banking>(&app, &nothing).await.unwrap(), [""; 0]);
        store.other_writes(Append::event(deposited("b", 1).encode().unwrap()));
        told(&app, &all, [deposited("a", 1)]).await.unwrap();
        assert_eq!(heard::<Banking>(&app, &all).await.unwrap().len() as u64, 4 * round);
    }
    assert_eq!(app.stats().conflicts, 3, "each other commit is a conflict");
    let empty = app.execute(say::<HeardEvents<Banking>, Banking>(&nothing, [])).await.unwrap();
    assert!(empty.is_empty());
}

/// Panics in the method that its field names.
struct Panics(&'static str);

impl Command for Panics {
    type State = Account;
    type Event = Banking;
    type Rejection = Never;

    fn boundary(&self) -> Filter {
        assert!(self.0 != "boundary", "oh");
        account("a")
    }

    fn validate(&self) -> Result<(), Invalid> {
        assert!(self.0 != "validate", "oh");
        Ok(())
    }

    fn conflicts_with(&self) -> Option<Filter> {
        assert!(self.0 != "conflicts_with", "oh");
        None
    }

    fn decide(&self, _: &Account, _: &DecisionContext) -> Result<Vec<Banking>, Never> {
        match self.0 {
            "decide" => panic!("oh"),
            "decide without a word" => panic_any(7),
            _ => Ok(Vec::new()),
        }
    }
}

#[tokio::test]
async fn a_panic_of_a_command_ends_that_command_and_no_other() {
    let store = CountedStore::new(Memory::new());
    let app = app(&store).await;
    app.execute(open("a")).await.unwrap();
    let lane = app.lane();
    for (place, message) in [("decide", "oh"), ("decide without a word", "(no message)")] {
        for execute in [app.execute(Panics(place)), lane.execute(Panics(place))] {
            let error = execute.await.unwrap_err();
            let ExecuteError::Failed(CommandError::Panicked(panicked)) = &error else {
                panic!("{error}")
            };
            assert_eq!(panicked.message, message);
            assert!(error.to_string().contains("hostile::Panics"), "{error}");
        }
        app.execute(deposit("a", 1)).await.unwrap();
        lane.execute(deposit("a", 1)).await.unwrap();
    }
    // A panic in another method reaches the caller, and the app continues to work.
    for place in ["boundary", "validate", "conflicts_with"] {
        for execute in [app.execute(Panics(place)), lane.execute(Panics(place))] {
            let panicked = tokio::spawn(execute.into_future()).await.unwrap_err();
            assert!(panicked.is_panic());
        }
        app.execute(deposit("a", 1)).await.unwrap();
        lane.execute(deposit("a", 1)).await.unwrap();
    }
    assert_eq!(look::<Account>(&app, &account("a")).await.unwrap().balance, 10);
    app.stop().await.unwrap();
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    page: u64,
    text: String,
}

events!(Entries { Entry(Entry) = "entered", 1, [page]; });

/// An event whose text names the fault in its encoding or decoding.
#[derive(Clone, Debug)]
struct Odd(&'static str);

impl Event for Odd {
    fn types() -> Vec<EventType> {
        vec![EventType::new("odd").tags(&["page"])]
    }

    fn encode(&self) -> Result<RawEvent, SchemaError> {
        let event = RawEvent::new("odd", format!("{:?}", self.0)).tag(Tag::new("page", 1));
        match self.0 {
            "fails" => Err(SchemaError::Encode { what: "odd", reason: "it fails".to_owned() }),
            "panics" => panic!("oh"),
            "tag" => Ok(event.tag(Tag::new("secret", 1))),
            "type" => Ok(RawEvent { event_type: "even".into(), ..event }),
            "no type" => Ok(RawEvent { event_type: "".into(), ..event }),
            "version" => Ok(event.version(2)),
            _ => Ok(event),
        }
    }

    fn decode(encoded: &EncodedEvent<'_>) -> Result<Odd, SchemaError> {
        match encoded.read::<Json, String>()?.as_str() {
            "one way" => Err(encoded.not_decoded("it is one way")),
            "one way, panics" => panic!("one way"),
            _ => Ok(Odd("fine")),
        }
    }
}

/// Writes its events without any state.
struct Free(Vec<Odd>);

impl Command for Free {
    type State = ();
    type Event = Odd;
    type Rejection = Never;

    fn boundary(&self) {}

    fn decide(&self, (): (), _: &DecisionContext) -> Result<Vec<Odd>, Never> {
        Ok(self.0.clone())
    }
}

/// The rule also holds if the event is outside the boundary and the command itself never reads it.
/// Another reader would find an event that no program can decode.
#[tokio::test]
async fn an_event_that_does_not_round_trip_is_not_written() {
    let store = CountedStore::new(Memory::new());
    let app = app(&store).await;
    let page = |page: u64| Filter::tag(Tag::new("page", page));
    told(&app, &page(1), [Odd("fine")]).await.unwrap();
    let odd = [
        ("one way", "odd version 1 cannot be decoded: it is one way"),
        ("one way, panics", "odd version 1 cannot be decoded: it panicked: one way"),
        ("fails", "odd cannot be encoded: it fails"),
        ("panics", "Odd cannot be encoded: it panicked: oh"),
        ("tag", "the tag \"secret:1\", whose key it does not declare"),
        ("type", "encodes even version 1, which is not in its types"),
        ("no type", "encodes  version 1, which is not in its types"),
        ("version", "encodes odd version 2, which is not in its types"),
    ];
    for (kind, says) in odd {
        let events = [Odd("fine"), Odd(kind)];
        let errors = [
            told(&app, &page(1), events.clone()).await,
            told(&app, &page(2), events.clone()).await,
            app.execute(Free(events.to_vec())).await,
            app.execute(say::<HeardEvents<Entries>, _>(&Filter::everything(), events)).await,
        ];
        for error in errors {
            let Err(ExecuteError::Failed(CommandError::Schema(error))) = error else {
                panic!("{kind}: {error:?}")
            };
            assert!(error.to_string().contains(says), "{error}");
        }
    }
    assert_eq!(everything(store.inner()).len(), 1);
    assert_eq!(app.execute(Free(vec![Odd("fine")])).await.unwrap().last().get(), 2);
    assert!(app.execute(Free(Vec::new())).await.unwrap().is_empty());
    assert_eq!(heard::<Odd>(&app, &page(1)).await.unwrap().len(), 2);
}

#[derive(Clone, Debug, Default)]
struct Fragile(u64);

impl Fold for Fragile {
    type Event = Entries;

    fn apply(&mut self, event: &Recorded<Entries>) {
        self.0 += 1;
        let Entries::Entry(entry) = &event.event;
        assert!(entry.text != "bomb", "boom");
    }
}

#[tokio::test]
async fn a_command_whose_own_event_panics_its_fold_still_gets_its_receipt() {
    let (warnings, _listening) = Warnings::listen();
    let store = CountedStore::new(Memory::new());
    let app = app(&store).await;
    let page = Filter::tag(Tag::new("page", 1));
    let entry = |text: &str| Entries::Entry(Entry { page: 1, text: text.to_owned() });
    let write = |text: &str| app.execute(say::<Fragile, _>(&page, [entry("fine"), entry(text)]));
    write("fine").await.unwrap();
    let receipt = write("bomb").await.unwrap();
    assert_eq!((receipt.first().get(), receipt.last().get()), (3, 4));
    let told = warnings.one();
    assert!(told.contains("position 4") && told.contains("boom"), "{told}");
    assert_eq!(app.stats().cache.states, 0);
    for _ in 0..2 {
        let failed = write("fine").await.unwrap_err();
        let ExecuteError::Failed(CommandError::Fold(failed)) = failed else { panic!("{failed}") };
        assert_eq!(failed.position.get(), 4);
        assert_eq!(failed.cause, FoldFailure::Panicked("boom".to_owned()));
    }
    // A fold that accepts the event still works.
    assert_eq!(heard::<Entries>(&app, &page).await.unwrap().len(), 4);
    app.stop().await.unwrap();
}

/// A state with a part that panics when it is dropped.
#[derive(Clone, Debug, Default)]
struct Clings(Option<Arc<Clinging>>);

#[derive(Debug)]
struct Clinging;

impl Drop for Clinging {
    fn drop(&mut self) {
        panic!("it clings");
    }
}

impl Fold for Clings {
    type Event = Entries;

    fn apply(&mut self, _: &Recorded<Entries>) {
        self.0.get_or_insert_with(|| Arc::new(Clinging));
    }
}

/// The state panics when it is dropped. The cache drops it to make room for another state.
#[tokio::test]
async fn the_cache_survives_a_state_that_cannot_be_dropped() {
    let app = App::over(Memory::new()).cache_bytes(2_000).start().await.unwrap();
    let page = Filter::tag(Tag::new("page", 1));
    let entry = Entries::Entry(Entry { page: 1, text: String::new() });
    app.execute(say::<Clings, _>(&page, [entry])).await.unwrap();
    let mut panics = 0;
    for name in 0..100 {
        let opened = app.execute(open(&name.to_string()));
        let opened = catch_unwind(AssertUnwindSafe(|| {
            crate::support::counted_store::now(opened.into_future())
        }));
        panics += u32::from(opened.is_err());
        assert!(app.stats().cache.bytes <= 2_000);
    }
    assert_eq!(panics, 1);
    assert_eq!(app.store().head().position().get(), 101, "every decided event was written");
    app.stop().await.unwrap();
}
