//! Lanes run commands in one order, without waiting for the disk.

use std::{env, task::Poll};

use diptych::{
    App, Command, CommandError, DecisionContext, EventStore, ExecuteError, Filter, LogOptions,
    Memory, Receipt, Tag, command::LaneOptions, store::FilterItem,
};
use diptych_log::disk::simulated::{Random, SimulatedDisk};
use diptych_store::Read;
use serde::Serialize;

use crate::support::{
    bank::{self, Account, Banking, Withdrawn, deposit, open, withdraw},
    manual_sync::{HeldFuture, Rig, begin, positions, raw, rejected, send},
    school::{self, join, join_both, leave, offer, order, visit},
};

#[test]
fn commands_are_decided_in_order_without_a_sync() {
    let rig = Rig::new();
    let lane = rig.app.lane();
    let mut pending = vec![HeldFuture::new(lane.execute(open("a")).submit()).done()];
    for amount in 1..=100 {
        pending.push(HeldFuture::new(lane.execute(deposit("a", amount)).submit()).done());
    }
    pending.push(HeldFuture::new(lane.execute(withdraw("a", 5050)).submit()).done());
    let over = HeldFuture::new(lane.execute(withdraw("a", 1)).submit()).done();
    pending.push(HeldFuture::new(lane.execute(deposit("a", 1)).submit()).done());
    let (mut over, mut pending) =
        (HeldFuture::new(over), pending.into_iter().map(HeldFuture::new).collect::<Vec<_>>());
    assert_eq!(rig.head(), 0);
    over.waits();
    pending.iter_mut().for_each(HeldFuture::waits);
    rig.flush();
    for (at, pending) in (1..).zip(&mut pending) {
        assert_eq!(positions(&pending.done().unwrap()), (at, at));
    }
    assert_eq!(rejected(over.done()), bank::No::Overdrawn { balance: 0, amount: 1 });
}

/// The first poll of each command decides the order. The order of later polls does not matter.
#[test]
fn commands_that_wait_keep_their_order() {
    let rig = Rig::new();
    let lane = rig.app.lane_with(LaneOptions { in_flight: 1 });
    let mut sent = vec![send(lane.execute(open("a")))];
    sent.extend((1..=20).map(|amount| send(lane.execute(deposit("a", amount)))));
    assert_eq!(rig.app.stats().accepted, 1);
    let mut answers = vec![None; sent.len()];
    for _ in 0..sent.len() {
        rig.flush();
        for (sent, answer) in sent.iter_mut().zip(&mut answers).rev() {
            if answer.is_none()
                && let Poll::Ready(receipt) = sent.poll()
            {
                *answer = Some(positions(&receipt.unwrap()));
            }
        }
    }
    rig.flush();
    for (at, (sent, answer)) in (1..).zip(sent.iter_mut().zip(answers)) {
        let answer = answer.unwrap_or_else(|| positions(&sent.done().unwrap()));
        assert_eq!(answer, (at, at));
    }
}

#[test]
fn no_more_are_in_flight_than_allowed() {
    let rig = Rig::new();
    let lane = rig.app.lane_with(LaneOptions { in_flight: 3 });
    let mut sent = vec![send(lane.execute(open("a")))];
    // A command that writes nothing does not count as in flight.
    let mut rejections: Vec<_> = (0..5).map(|_| send(lane.execute(open("a")))).collect();
    sent.extend((0..2).map(|_| send(lane.execute(deposit("a", 1)))));
    assert_eq!(rig.app.stats().accepted, 3);
    let mut fourth = send(lane.execute(deposit("a", 1)));
    let mut fifth = send(lane.execute(withdraw("a", 9)));
    assert_eq!(rig.app.stats().accepted, 3);
    rig.flush();
    fourth.waits();
    fifth.waits();
    assert_eq!(rig.app.stats().accepted, 4);
    sent.iter_mut().for_each(|sent| assert!(sent.done().is_ok()));
    for rejection in &mut rejections {
        assert_eq!(rejected(rejection.done()), bank::No::AlreadyOpen);
    }
    rig.flush();
    assert_eq!(positions(&fourth.done().unwrap()), (4, 4));
    assert_eq!(rejected(fifth.done()), bank::No::Overdrawn { balance: 3, amount: 9 });
}

/// Regression: a caller was dropped while it waited for room. Each such caller let one command too
/// many in.
#[test]
fn dropped_callers_make_no_room() {
    let rig = Rig::new();
    let lane = rig.app.lane_with(LaneOptions { in_flight: 2 });
    let _sent = [send(lane.execute(open("a"))), send(lane.execute(open("b")))];
    for _ in 0..5 {
        drop(send(lane.execute(open("c"))));
    }
    let mut last = send(lane.execute(open("d")));
    last.waits();
    assert_eq!(rig.app.stats().accepted, 2);
    rig.flush();
    last.waits();
    rig.flush();
    assert_eq!(positions(&last.done().unwrap()), (3, 3));
}

#[test]
fn a_rejection_does_not_block_later_commands() {
    let rig = Rig::new();
    let lane = rig.app.lane_with(LaneOptions { in_flight: 100 });
    let _opened = send(lane.execute(open("a")));
    let mut accepted = 1;
    for _ in 0..20 {
        let _rejection = send(lane.execute(open("a")));
        let _empty = send(lane.execute(deposit("a", 0)));
        let _moved = send(lane.execute(deposit("a", 1)));
        accepted += 1;
        assert_eq!(rig.app.stats().accepted, accepted);
    }
    assert_eq!(rig.head(), 0);
}

#[test]
fn dropping_a_pending_answer_changes_nothing() {
    let rig = Rig::new();
    let lane = rig.app.lane_with(LaneOptions { in_flight: 2 });
    for _ in 0..5 {
        let mut submitted = HeldFuture::new(lane.execute(open("a")).submit());
        drop(submitted.poll());
        drop(HeldFuture::new(lane.execute(deposit("a", 1)).submit()).poll());
        rig.flush();
    }
    let mut last = send(lane.execute(withdraw("a", 5)));
    rig.flush();
    assert_eq!(positions(&last.done().unwrap()), (7, 7));
}

#[test]
fn a_lane_over_a_failed_store_answers_every_command() {
    let rig = Rig::new();
    let lane = rig.app.lane_with(LaneOptions { in_flight: 3 });
    let mut accepted = vec![send(lane.execute(open("a")))];
    accepted.extend((0..2).map(|_| send(lane.execute(deposit("a", 1)))));
    // The first waits for room, and the others wait behind it.
    let mut waiting: Vec<_> = (0..3).map(|_| send(lane.execute(deposit("a", 1)))).collect();
    rig.fail();
    for (at, accepted) in (1..).zip(&mut accepted) {
        let Err(ExecuteError::Failed(CommandError::OutcomeUnknown(unknown))) = accepted.done()
        else {
            panic!()
        };
        assert_eq!(unknown.first.get(), at);
    }
    for waiting in &mut waiting {
        assert!(matches!(waiting.done(), Err(ExecuteError::Failed(CommandError::Unavailable(_)))));
    }
    for _ in 0..5 {
        let answer = begin(lane.execute(open("b"))).done();
        assert!(
            matches!(answer, Err(ExecuteError::Failed(CommandError::Unavailable(_)))),
            "{answer:?}"
        );
    }
}

/// Withdraws from the account "a". Only the opening of the account conflicts with it.
#[derive(Serialize)]
struct Draw(u64);

impl Command for Draw {
    type State = Account;
    type Event = Banking;
    type Rejection = bank::No;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("account", "a"))
    }

    fn decide(&self, account: &Account, _: &DecisionContext) -> Result<Vec<Banking>, bank::No> {
        let (balance, amount) = (account.balance, self.0);
        match balance < amount {
            true => Err(bank::No::Overdrawn { balance, amount }),
            false => Ok(vec![Banking::Withdrawn(Withdrawn { account: "a".to_owned(), amount })]),
        }
    }

    fn conflicts_with(&self) -> Option<Filter> {
        let opened = FilterItem::everything().or_type("account-opened");
        Some(opened.and_tag(Tag::new("account", "a")).into())
    }
}

/// Regression: a command with a narrowed condition missed an event that its own lane had just
/// written. This happened if a commit of another writer was in between and no state was cached.
#[test]
fn a_command_sees_all_of_its_lane_whatever_its_condition() {
    for cache_bytes in [0, 1 << 20] {
        let set = |builder: diptych::AppBuilder| builder.cache_bytes(cache_bytes);
        let rig = Rig::with(SimulatedDisk::new(1), set);
        let lane = rig.app.lane();
        let mut sent = [send(lane.execute(open("a"))), send(lane.execute(deposit("a", 10)))];
        rig.flush();
        sent.iter_mut().for_each(|sent| assert!(sent.done().is_ok()));
        rig.write(raw("course-visited", &school::Course::default(), &["course:x"]));
        let mut first = send(lane.execute(withdraw("a", 10)));
        let mut second = send(lane.execute(Draw(10)));
        rig.flush();
        first.done().unwrap();
        let no = bank::No::Overdrawn { balance: 0, amount: 10 };
        assert_eq!(rejected(second.done()), no);
        assert_eq!(rig.app.stats().conflicts, 0);
    }
}

/// A command as plain data.
#[derive(Clone, Debug, PartialEq)]
enum Wish {
    Open(String),
    Deposit(String, u64),
    Withdraw(String, u64),
    Draw(u64),
    Offer(String, u64),
    Visit(String),
    Join(String, String),
    JoinBoth([String; 2], String),
    Leave(String, String),
    Order(String, String),
}

fn wishes(random: &mut Random) -> Vec<(Wish, Option<String>)> {
    let one = |random: &mut Random, names: &[&str]| (*random.pick(names).unwrap()).to_owned();
    let mut wishes: Vec<(Wish, Option<String>)> = Vec::new();
    for number in 0..40 + random.index(40) {
        let again = random.chance(10).then(|| random.pick(&wishes).cloned()).flatten();
        if let Some(again) = again {
            wishes.push(again);
            continue;
        }
        let account = one(random, &["a", "b"]);
        let (course, student) = (one(random, &["x", "y", "z"]), one(random, &["s", "t"]));
        let wish = match random.below(12) {
            0 => Wish::Open(account),
            1 | 2 => Wish::Deposit(account, random.below(6)),
            3 => Wish::Withdraw(account, random.below(9)),
            4 => Wish::Draw(random.below(9)),
            5 | 6 => Wish::Offer(course, random.below(3)),
            7 => Wish::Visit(course),
            8 => Wish::Join(course, student),
            9 => Wish::JoinBoth(["x".to_owned(), "y".to_owned()], student),
            10 => Wish::Leave(course, student),
            _ => Wish::Order("never offered".to_owned(), format!("student {number}")),
        };
        wishes.push((wish, random.chance(25).then(|| format!("key {number}"))));
    }
    wishes
}

/// Creates the future of a command, in a lane or without one. Its answer is a text.
fn start(
    app: &App,
    lane: Option<&diptych::command::Lane>,
    wish: &(Wish, Option<String>),
) -> HeldFuture<String> {
    fn go<C: Command + Serialize>(
        (app, lane, key): (&App, Option<&diptych::command::Lane>, &Option<String>),
        command: C,
    ) -> HeldFuture<String> {
        let execute = match lane {
            Some(lane) => lane.execute(command),
            None => app.execute(command),
        };
        let execute = match key {
            Some(key) => execute.key(key),
            None => execute,
        };
        HeldFuture::new(async move { text(execute.await) })
    }
    let (wish, key) = wish;
    let how = (app, lane, key);
    match wish.clone() {
        Wish::Open(account) => go(how, open(&account)),
        Wish::Deposit(account, amount) => go(how, deposit(&account, amount)),
        Wish::Withdraw(account, amount) => go(how, withdraw(&account, amount)),
        Wish::Draw(amount) => go(how, Draw(amount)),
        Wish::Offer(course, capacity) => go(how, offer(&course, capacity)),
        Wish::Visit(course) => go(how, visit(&course)),
        Wish::Join(course, student) => go(how, join(&course, &student)),
        Wish::JoinBoth([first, second], student) => go(how, join_both([&first, &second], &student)),
        Wish::Leave(course, student) => go(how, leave(&course, &student)),
        Wish::Order(course, student) => go(how, order(&course, &student)),
    }
}

fn text<R: std::error::Error>(answer: Result<Receipt, ExecuteError<R>>) -> String {
    match answer {
        // An empty receipt has the position of the state, which may differ between the runs.
        Ok(receipt) if receipt.is_empty() => "nothing".to_owned(),
        Ok(receipt) => format!("{:?}", positions(&receipt)),
        Err(error) => error.to_string(),
    }
}

/// Type, tags and payload of every event, in order.
fn contents(log: &diptych::Log) -> Vec<String> {
    let batch = log.blocking().read(&Filter::everything(), Read::all()).unwrap();
    let show = |event: diptych_store::EventRef<'_>| {
        let payload = String::from_utf8_lossy(event.payload()).into_owned();
        format!("{} {:?} {payload}", event.event_type(), event.tags().collect::<Vec<_>>())
    };
    batch.iter().map(show).collect()
}

#[test]
fn a_lane_gives_the_results_of_sequential_commands() {
    let number = |name| env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    let seeds = match number("DIPTYCH_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..200,
    };
    for seed in seeds {
        let mut random = Random::new(seed);
        let wishes = wishes(&mut random);
        let one_by_one = Rig::new();
        let mut expected = Vec::new();
        for wish in &wishes {
            let mut sent = start(&one_by_one.app, None, wish);
            expected.push(match sent.poll() {
                Poll::Ready(answer) => answer,
                Poll::Pending => {
                    one_by_one.flush();
                    sent.done()
                }
            });
        }
        let cache_bytes = *random.pick(&[0, 2_000, 1 << 20]).unwrap();
        let rig = Rig::with(SimulatedDisk::new(1), |builder| builder.cache_bytes(cache_bytes));
        let in_flight = *random.pick(&[1, 3, 1_000]).unwrap();
        let lane = rig.app.lane_with(LaneOptions { in_flight });
        let answers = in_lane(&rig, &lane, &wishes, &mut random);
        for (at, (answer, expected_here)) in answers.iter().zip(&expected).enumerate() {
            // The lane may answer a rejected command with a key late. A later command may have
            // used the same key by then, and the answer is the receipt of that commit.
            let later = (at..wishes.len()).filter(|later| wishes[*later] == wishes[at]);
            let found = later.map(|later| &expected[later]).any(|later| later == answer);
            let (wish, key) = &wishes[at];
            let right = answer == expected_here || key.is_some() && found;
            assert!(right, "DIPTYCH_SEED={seed}, {at}: {wish:?}: {answer}, not {expected_here}");
        }
        assert_eq!(contents(&rig.log), contents(&one_by_one.log), "DIPTYCH_SEED={seed}");
    }
}

fn in_lane(
    rig: &Rig,
    lane: &diptych::command::Lane,
    wishes: &[(Wish, Option<String>)],
    random: &mut Random,
) -> Vec<String> {
    let mut answers = vec![None; wishes.len()];
    let mut sent = Vec::new();
    for wish in wishes {
        sent.push(start(&rig.app, Some(lane), wish));
        let at = sent.len() - 1;
        // The first poll gives the command its place in the lane. Then poll any, in any order.
        let mut polled = vec![at];
        polled.extend((0..random.below(3)).map(|_| random.index(sent.len())));
        for at in polled {
            if answers[at].is_none()
                && let Poll::Ready(answer) = sent[at].poll()
            {
                answers[at] = Some(answer);
            }
        }
        if random.chance(8) {
            rig.flush();
        }
    }
    for _ in 0..=2 * wishes.len() {
        rig.flush();
        for (sent, answer) in sent.iter_mut().zip(&mut answers) {
            if answer.is_none()
                && let Poll::Ready(given) = sent.poll()
            {
                *answer = Some(given);
            }
        }
    }
    answers.into_iter().map(|answer| answer.expect("a command was never answered")).collect()
}

async fn lanes_and_others(app: App) {
    app.execute(open("a")).await.unwrap();
    let mut tasks = Vec::new();
    for number in 0..4 {
        let (app, lane) = (app.clone(), app.lane_with(LaneOptions { in_flight: 1 << number }));
        tasks.push(tokio::spawn(async move {
            let mut pending = Vec::new();
            let own = format!("own {number}");
            pending.push(lane.execute(open(&own)).submit().await);
            for _ in 0..60 {
                pending.push(lane.execute(deposit("a", 1)).submit().await);
                pending.push(lane.execute(deposit(&own, 1)).submit().await);
                pending.push(lane.execute(withdraw(&own, 1)).submit().await);
                app.execute(deposit("a", 1)).await.unwrap();
            }
            let mut last = 0;
            for pending in pending {
                let (first, end) = positions(&pending.await.unwrap());
                assert!(first > last, "lane {number}: {first} after {last}");
                last = end;
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let all = app.execute(withdraw("a", 480)).await.unwrap();
    assert_eq!(all.last().get(), 1 + 480 + 4 + 4 * 120 + 1);
    assert_eq!(app.store().head().position(), all.last());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_lanes_and_others_beside_them_in_memory() {
    lanes_and_others(App::over(Memory::new()).start().await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_lanes_and_others_beside_them_in_a_log() {
    let folder = tempfile::tempdir().unwrap();
    let log = diptych::Log::open(folder.path(), LogOptions::default()).unwrap();
    lanes_and_others(App::over(log.clone()).start().await.unwrap()).await;
    assert_eq!(EventStore::head(&log).position().get(), 966);
}
