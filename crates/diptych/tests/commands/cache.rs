//! The cache of decision states. It makes commands faster and never changes their outcome. It stays
//! within its budget, and never returns a partly folded state.

use std::{
    cell::Cell,
    future::IntoFuture,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, Waker},
};

use diptych::{
    App, Command, CommandError, DecisionContext, ExecuteError, Filter, Fold, Memory, Recorded, Tag,
    command::{CacheStats, Retries},
    store::RawEvent,
};
use diptych_store::Append;
use serde::{Deserialize, Deserializer, Serialize};

use crate::support::{
    bank::{Account, No, deposit, open, withdraw},
    counted_store::{CountedStore, write_event},
    declare::events,
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Line {
    page: String,
    text: String,
}

events!(Book { Written(Line) = "line-written", 1, [page]; });

fn line(page: impl ToString, text: impl ToString) -> Book {
    Book::Written(Line { page: page.to_string(), text: text.to_string() })
}

/// The lines of a page. The state owns its lines.
#[derive(Debug, Default)]
struct Page(Vec<String>);

impl Fold for Page {
    type Event = Book;

    fn apply(&mut self, event: &Recorded<Book>) {
        let Book::Written(line) = &event.event;
        self.0.push(line.text.clone());
    }
}

/// Holds the lines of a page too, and reports its size.
#[derive(Debug, Default)]
struct MeasuredPage(Vec<String>);

impl Fold for MeasuredPage {
    type Event = Book;

    fn apply(&mut self, event: &Recorded<Book>) {
        let Book::Written(line) = &event.event;
        self.0.push(line.text.clone());
    }

    fn heap_bytes(&self) -> Option<usize> {
        let lines: usize = self.0.iter().map(String::capacity).sum();
        Some(lines + self.0.capacity() * size_of::<String>())
    }
}

/// Reports the largest possible size.
#[derive(Debug, Default)]
struct Boundless;

impl Fold for Boundless {
    type Event = Book;

    fn apply(&mut self, _: &Recorded<Book>) {}

    fn heap_bytes(&self) -> Option<usize> {
        Some(usize::MAX)
    }
}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("no")]
struct Never;

/// Writes lines whatever the state is. `F` is any fold of the book.
struct Write<F> {
    page: String,
    lines: Vec<String>,
    fold: std::marker::PhantomData<fn() -> F>,
}

fn write<F>(page: impl ToString, lines: &[&str]) -> Write<F> {
    let lines = lines.iter().map(ToString::to_string).collect();
    Write { page: page.to_string(), lines, fold: std::marker::PhantomData }
}

impl<F: Fold<Event = Book>> Command for Write<F> {
    type State = F;
    type Event = Book;
    type Rejection = Never;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("page", &self.page))
    }

    fn decide(&self, _: &F, _: &DecisionContext) -> Result<Vec<Book>, Never> {
        Ok(self.lines.iter().map(|text| line(&self.page, text)).collect())
    }
}

fn cache(app: &App) -> CacheStats {
    app.stats().cache
}

async fn app(bytes: usize) -> App {
    App::over(Memory::new()).cache_bytes(bytes).start().await.unwrap()
}

#[tokio::test]
async fn hits_misses_states_and_bytes_are_counted() {
    let app = app(1 << 20).await;
    app.execute(open("a")).await.unwrap();
    let first = cache(&app);
    assert_eq!((first.hits, first.misses, first.states), (0, 1, 1));
    app.execute(deposit("a", 5)).await.unwrap();
    app.execute(withdraw("a", 6)).await.unwrap_err();
    app.execute(deposit("a", 0)).await.unwrap();
    // An invalid command is not decided, so it needs no state.
    app.execute(deposit("a", 2_000_000)).await.unwrap_err();
    app.execute(withdraw("b", 1)).await.unwrap_err();
    let last = cache(&app);
    assert_eq!((last.hits, last.misses, last.states, last.evictions), (3, 2, 2, 0));
    assert_eq!(last.bytes, 2 * first.bytes, "states that own no heap memory have the same size");
    assert_eq!(last.budget_bytes, 1 << 20);
}

#[tokio::test]
async fn the_least_recently_used_state_is_evicted() {
    let one = app(1 << 20).await;
    one.execute(open("a")).await.unwrap();
    let bytes = cache(&one).bytes;
    let app = app(bytes + bytes / 2).await;
    for account in ["a", "b", "b", "a"] {
        let _ = app.execute(open(account)).await;
        assert_eq!((cache(&app).states, cache(&app).bytes), (1, bytes));
    }
    let figures = cache(&app);
    assert_eq!((figures.hits, figures.misses, figures.evictions), (1, 3, 2));
}

/// Regression: when the budget was full, eviction emptied the same parts of the cache again and
/// again. The states in those parts were read from the log at every use.
#[tokio::test]
async fn hot_states_stay_while_many_cold_states_pass_through() {
    let write_one = |page: String| write::<MeasuredPage>(page, &["x"]);
    let roomy = app(64 << 20).await;
    for page in 0..100 {
        roomy.execute(write_one(format!("page-{page}"))).await.unwrap();
    }
    let state_bytes = cache(&roomy).bytes / 100;

    // Each hot state is used again after 400 uses of states, and there is room for 2,000 states.
    let app = app(state_bytes * 2_000).await;
    let (rounds, hot) = (40, 100);
    for round in 0..rounds {
        for page in 0..hot {
            app.execute(write_one(format!("hot-{page}"))).await.unwrap();
        }
        for page in 0..300 {
            app.execute(write_one(format!("cold-{round}-{page}"))).await.unwrap();
        }
    }
    let figures = cache(&app);
    assert!(figures.evictions > 5_000, "the budget was never full: {figures:?}");
    let all = (rounds - 1) * hot;
    assert!(figures.hits >= all * 95 / 100, "only {} of {all} hot uses were hits", figures.hits);
}

#[tokio::test]
async fn without_a_budget_nothing_is_kept_or_counted() {
    let app = app(0).await;
    app.execute(open("a")).await.unwrap();
    app.execute(deposit("a", 5)).await.unwrap();
    assert_eq!(cache(&app), CacheStats::default());
}

async fn fills<F: Fold<Event = Book>>(budget: usize) -> CacheStats {
    let app = app(budget).await;
    for round in 0..6 {
        for page in 0..40_usize {
            let lines = vec!["a line of some length"; page % 7 + round];
            app.execute(write::<F>(page * 7 % 40, &lines)).await.unwrap();
            let figures = cache(&app);
            assert!(figures.bytes <= budget, "{figures:?} after page {page}");
            assert!(figures.states as u64 + figures.evictions <= figures.hits + figures.misses);
        }
    }
    assert_eq!(cache(&app).hits + cache(&app).misses, 240);
    cache(&app)
}

#[tokio::test]
async fn the_budget_holds_whatever_the_states_own() {
    for budget in [1, 500, 1_000, 4_000, 20_000] {
        let (page, measured) = (fills::<Page>(budget).await, fills::<MeasuredPage>(budget).await);
        for figures in [page, measured] {
            // If the budget has room for states, the cache holds some and gets hits.
            assert_eq!(figures.states > 0, budget >= 4_000, "{figures:?}");
            assert!(figures.hits > 0 || budget < 20_000, "{figures:?}");
        }
    }
    assert_eq!(fills::<Page>(1 << 20).await.evictions, 0);
}

#[tokio::test]
async fn a_state_counts_what_it_says_it_owns() {
    let app = app(1 << 20).await;
    let text = "x".repeat(10_000);
    app.execute(write::<MeasuredPage>("long", &[&*text; 8])).await.unwrap();
    assert!(cache(&app).bytes > 80_000, "{:?}", cache(&app));
    app.execute(write::<Page>("long", &[])).await.unwrap();
    assert!(cache(&app).bytes > 160_000, "payloads count as the size: {:?}", cache(&app));
}

#[tokio::test]
async fn a_state_larger_than_the_budget_is_not_kept_and_evicts_nothing() {
    let app = app(4_000).await;
    app.execute(open("a")).await.unwrap();
    let text = "x".repeat(5_000);
    for _ in 0..3 {
        app.execute(write::<Page>("long", &[&text])).await.unwrap();
        app.execute(write::<Boundless>("long", &[])).await.unwrap();
    }
    app.execute(deposit("a", 1)).await.unwrap();
    let figures = cache(&app);
    assert_eq!((figures.hits, figures.misses), (1, 7));
    assert_eq!((figures.states, figures.evictions), (1, 0));
}

/// A state that grows beyond the budget leaves the cache, and the cache continues to work.
#[tokio::test]
async fn a_state_that_outgrows_the_budget_is_dropped() {
    let app = app(3_000).await;
    for at in 0..100 {
        app.execute(write::<Page>("long", &[&format!("line {at} of one hundred")])).await.unwrap();
        assert!(cache(&app).bytes <= 3_000);
    }
    assert_eq!(cache(&app).states, 0);
    app.execute(open("a")).await.unwrap();
    app.execute(deposit("a", 1)).await.unwrap();
    assert_eq!(cache(&app).states, 1);
}

fn deposited(account: &str, amount: u64) -> RawEvent {
    let payload = format!(r#"{{"account":"{account}","amount":{amount}}}"#);
    RawEvent::new("money-deposited", payload).tag(Tag::new("account", account))
}

#[tokio::test]
async fn a_rejection_from_a_cached_state_is_checked_against_newer_events() {
    let store = CountedStore::new(Memory::new());
    let app = App::over(store.store()).start().await.unwrap();
    app.execute(open("a")).await.unwrap();
    let refused = app.execute(withdraw("a", 10)).await.unwrap_err();
    let ExecuteError::Rejected(reason) = refused else { panic!("{refused}") };
    assert_eq!(reason, No::Overdrawn { balance: 0, amount: 10 });
    // Another process deposits. The cached state does not know the deposit.
    write_event(store.inner(), deposited("a", 7));
    let refused = app.execute(withdraw("a", 10)).await.unwrap_err();
    let ExecuteError::Rejected(reason) = refused else { panic!("{refused}") };
    assert_eq!(reason, No::Overdrawn { balance: 7, amount: 10 });
    write_event(store.inner(), deposited("a", 7));
    app.execute(withdraw("a", 10)).await.unwrap();
    assert_eq!(cache(&app).misses, 1, "only the first command missed the cache");
    // Events of others outside the boundary cause no further reads.
    write_event(store.inner(), deposited("b", 7));
    let reads = store.reads();
    for _ in 0..3 {
        let empty = app.execute(deposit("a", 0)).await.unwrap();
        assert!(empty.is_empty());
        assert_eq!(empty.last(), store.inner().head().position());
    }
    assert_eq!(store.reads(), reads);
}

/// Writes a line with the balance of the account. An empty account leaves nothing to do.
struct Settle;

impl Command for Settle {
    type State = Account;
    type Event = Book;
    type Rejection = Never;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("account", "a"))
    }

    fn decide(&self, account: &Account, _: &DecisionContext) -> Result<Vec<Book>, Never> {
        match account.balance {
            0 => Ok(Vec::new()),
            balance => Ok(vec![line("settled", balance)]),
        }
    }
}

#[tokio::test]
async fn an_empty_outcome_from_a_cached_state_is_checked_too() {
    let store = CountedStore::new(Memory::new());
    let app = App::over(store.store()).start().await.unwrap();
    app.execute(open("a")).await.unwrap();
    assert!(app.execute(Settle).await.unwrap().is_empty());
    write_event(store.inner(), deposited("a", 3));
    let receipt = app.execute(Settle).await.unwrap();
    assert_eq!((receipt.first().get(), receipt.last().get()), (3, 3));
}

/// With a single attempt, an event that another writer appended before the command was sent is no
/// conflict. Otherwise the outcome would depend on the cache: a stale cached state would conflict,
/// and a state read from the log would not.
#[tokio::test]
async fn with_one_attempt_earlier_events_of_others_are_no_conflict() {
    let retries = Retries { attempts: 1, ..Retries::default() };
    for bytes in [0, 1 << 20] {
        let store = CountedStore::new(Memory::new());
        let app = App::over(store.store()).retries(retries).cache_bytes(bytes);
        let app = app.start().await.unwrap();
        app.execute(open("a")).await.unwrap();
        write_event(store.inner(), deposited("a", 7));
        app.execute(withdraw("a", 7)).await.unwrap();
        write_event(store.inner(), deposited("a", 7));
        let refused = app.execute(withdraw("a", 8)).await.unwrap_err();
        assert!(matches!(refused, ExecuteError::Rejected(_)), "{refused}");
        // An event that arrives between the read and the append is a conflict.
        store.other_writes(Append::event(deposited("a", 1)));
        let conflict = app.execute(withdraw("a", 7)).await.unwrap_err();
        assert!(matches!(conflict, ExecuteError::Failed(CommandError::Conflict(_))), "{conflict}");
    }
}

/// A state that a rule can change through a shared reference. No rule should do that.
#[derive(Debug, Default)]
struct MarkedState {
    lines: u64,
    marks: AtomicU64,
}

impl Fold for MarkedState {
    type Event = Book;

    fn apply(&mut self, event: &Recorded<Book>) {
        self.lines += 1;
        let Book::Written(line) = &event.event;
        assert!(line.text != "bomb" || !ARMED.get(), "boom");
    }
}

thread_local! {
    static ARMED: Cell<bool> = const { Cell::new(false) };
}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("{lines} lines, {marks} marks")]
struct Saw {
    lines: u64,
    marks: u64,
}

struct Look {
    panics: bool,
}

impl Command for Look {
    type State = MarkedState;
    type Event = Book;
    type Rejection = Saw;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("page", 1))
    }

    fn decide(&self, state: &MarkedState, _: &DecisionContext) -> Result<Vec<Book>, Saw> {
        if self.panics {
            state.marks.fetch_add(1, Ordering::Relaxed);
            panic!("half-way");
        }
        Err(Saw { lines: state.lines, marks: state.marks.load(Ordering::Relaxed) })
    }
}

async fn saw(app: &App) -> Saw {
    let refused = app.execute(Look { panics: false }).await.unwrap_err();
    let ExecuteError::Rejected(saw) = refused else { panic!("{refused}") };
    saw
}

#[tokio::test]
async fn a_state_is_not_used_again_after_its_rule_panicked() {
    let app = app(1 << 20).await;
    assert_eq!(saw(&app).await, Saw { lines: 0, marks: 0 });
    let panicked = app.execute(Look { panics: true }).await.unwrap_err();
    let ExecuteError::Failed(CommandError::Panicked(panicked)) = panicked else {
        panic!("{panicked}")
    };
    assert_eq!(panicked.message, "half-way");
    assert!(panicked.command.ends_with("cache::Look"), "{panicked}");
    assert_eq!(cache(&app).states, 0);
    assert_eq!(saw(&app).await, Saw { lines: 0, marks: 0 });
    assert_eq!((cache(&app).hits, cache(&app).misses), (1, 2));
}

#[tokio::test]
async fn a_state_is_not_used_again_after_apply_panicked_half_way() {
    let store = CountedStore::new(Memory::new());
    let app = App::over(store.store()).start().await.unwrap();
    app.execute(write::<MarkedState>(1, &["one"])).await.unwrap();
    let more = ["two", "bomb", "four"].map(|text| diptych::Event::encode(&line(1, text)).unwrap());
    store.write(Append::events(more));
    ARMED.set(true);
    for _ in 0..2 {
        let failed = app.execute(Look { panics: false }).await.unwrap_err();
        let ExecuteError::Failed(CommandError::Fold(failed)) = failed else { panic!("{failed}") };
        assert_eq!(failed.position.get(), 3);
        assert!(failed.to_string().contains("boom"), "{failed}");
    }
    ARMED.set(false);
    assert_eq!(saw(&app).await, Saw { lines: 4, marks: 0 }, "no line was folded twice");
}

/// Polls the future of a command at most `polls` times, then drops it. Returns whether it ended.
fn abandon<C: Command>(app: &App, command: C, polls: u32) -> bool {
    let mut future = app.execute(command).into_future();
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..polls {
        if let Poll::Ready(answer) = Pin::new(&mut future).poll(&mut context) {
            assert!(answer.is_ok());
            return true;
        }
    }
    false
}

#[tokio::test]
async fn a_future_dropped_anywhere_leaves_at_most_a_miss() {
    let store = CountedStore::new(Memory::new());
    let app = App::over(store.store()).start().await.unwrap();
    app.execute(open("a")).await.unwrap();
    let (mut ended, mut committed) = (0, 0);
    for polls in 0..40 {
        // In odd rounds the command conflicts with an event of another process and decides a
        // second time.
        if polls % 2 == 1 {
            write_event(store.inner(), deposited("a", 100));
        }
        let before = (cache(&app), store.inner().head().position());
        store.slow();
        ended += u32::from(abandon(&app, deposit("a", 1), polls / 2));
        store.quick();
        let after = store.inner().head().position();
        committed += after.get() - before.1.get();
        let dropped = cache(&app);
        assert!(before.0.states - dropped.states <= 1, "{dropped:?}");
        let balance = 100 * (u64::from(polls) + 1).div_euclid(2) + committed;
        let refused = app.execute(withdraw("a", u64::MAX)).await.unwrap_err();
        let ExecuteError::Rejected(reason) = refused else { panic!("{refused}") };
        assert_eq!(reason, No::Overdrawn { balance, amount: u64::MAX }, "after {polls}");
        assert!(cache(&app).misses - dropped.misses <= 1);
    }
    assert!(ended > 5, "too few commands ended before the drop: {ended}");
    assert!(committed > u64::from(ended), "no command was dropped after its commit");
    app.stop().await.unwrap();
}

thread_local! {
    static LIVE: Cell<i64> = const { Cell::new(0) };
}

/// Counts its live instances.
#[derive(Debug, Serialize)]
pub(crate) struct Counted {
    page: u64,
}

impl Counted {
    fn new(page: u64) -> Counted {
        LIVE.set(LIVE.get() + 1);
        Counted { page }
    }
}

impl Clone for Counted {
    fn clone(&self) -> Counted {
        Counted::new(self.page)
    }
}

impl PartialEq for Counted {
    fn eq(&self, other: &Counted) -> bool {
        self.page == other.page
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        LIVE.set(LIVE.get() - 1);
    }
}

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Counted, D::Error> {
        #[derive(Deserialize)]
        struct Plain {
            page: u64,
        }
        Ok(Counted::new(Plain::deserialize(from)?.page))
    }
}

events!(Counting { Counted(Counted) = "counted", 1, [page]; });

#[derive(Default)]
struct HowMany(u64);

impl Fold for HowMany {
    type Event = Counting;

    fn apply(&mut self, _: &Recorded<Counting>) {
        self.0 += 1;
    }
}

struct Count(u64);

impl Command for Count {
    type State = HowMany;
    type Event = Counting;
    type Rejection = Never;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("page", self.0))
    }

    fn decide(&self, _: &HowMany, _: &DecisionContext) -> Result<Vec<Counting>, Never> {
        Ok((0..100).map(|_| Counting::Counted(Counted::new(self.0))).collect())
    }
}

/// Regression: a failed command left its decoded events beside the state in the cache. The budget
/// did not count them.
#[tokio::test]
async fn the_events_of_a_failed_command_are_not_kept() {
    let store = CountedStore::new(Memory::new());
    let retries = Retries { attempts: 1, ..Retries::default() };
    let app = App::over(store.store()).retries(retries).start().await.unwrap();
    app.execute(Count(1)).await.unwrap();
    assert_eq!(LIVE.get(), 0);
    let other = diptych::Event::encode(&Counting::Counted(Counted::new(1))).unwrap();
    store.other_writes(Append::event(other));
    let conflict = app.execute(Count(1)).await.unwrap_err();
    assert!(matches!(conflict, ExecuteError::Failed(CommandError::Conflict(_))), "{conflict}");
    assert_eq!(cache(&app).states, 1);
    assert_eq!(LIVE.get(), 0);
    app.execute(Count(1)).await.unwrap();
    assert_eq!(store.inner().head().position().get(), 201);
}

/// Regression: after a reused key or a request that was too large, the next command read the whole
/// history.
#[tokio::test]
async fn a_refused_append_leaves_the_cached_state_in_place() {
    let app = app(1 << 20).await;
    app.execute(open("a")).key("k").await.unwrap();
    for _ in 0..3 {
        let reused = app.execute(deposit("a", 1)).key("k").await.unwrap_err();
        assert!(matches!(reused, ExecuteError::Failed(CommandError::KeyReused(_))), "{reused}");
        let large = app.execute(deposit("a", 1)).extra("n", "x".repeat(1 << 20)).await;
        assert!(
            matches!(large, Err(ExecuteError::Failed(CommandError::InvalidRequest(_)))),
            "{large:?}"
        );
    }
    app.execute(deposit("a", 1)).await.unwrap();
    assert_eq!((cache(&app).hits, cache(&app).misses), (7, 1));
}

/// Reports an impossible size, and panics once it has two events.
#[derive(Debug, Default)]
struct Odd(u64);

impl Fold for Odd {
    type Event = Book;

    fn apply(&mut self, _: &Recorded<Book>) {
        self.0 += 1;
    }

    fn heap_bytes(&self) -> Option<usize> {
        assert!(self.0 < 2, "cannot count");
        Some(usize::MAX)
    }
}

/// Regression: if the size of the state overflowed the sum, or its computation panicked, a command
/// lost its answer although its events were written.
#[tokio::test]
async fn a_state_that_cannot_report_its_size_is_not_kept_and_fails_no_command() {
    for budget in [1 << 20, usize::MAX] {
        let app = app(budget).await;
        for at in 1..4 {
            let receipt = app.execute(write::<Odd>(1, &["x"])).await.unwrap();
            assert_eq!(receipt.last().get(), at);
        }
        assert_eq!((cache(&app).states, cache(&app).bytes), (0, 0));
    }
}
