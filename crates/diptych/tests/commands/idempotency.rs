//! A command under a key is carried out once, however often and in whatever state of things it
//! is sent.

use std::task::Poll;

use diptych::{App, CommandError, ExecuteError, Filter, Memory, Receipt, command::KeyReused};
use diptych_log::disk::simulated::SimulatedDisk;
use diptych_store::Read;

use crate::support::{
    bank::{self, deposit, open, withdraw},
    call_hooks::yielding,
    manual_sync::{self, Held, Rig, begin, now, positions, rejected, send},
    school::{join_both, offer},
};

#[tokio::test]
async fn a_key_is_remembered_across_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let mut receipts = Vec::new();
    for restart in 0..4_u64 {
        let app = App::open(folder.path()).unwrap().start().await.unwrap();
        receipts.push(app.execute(open("a")).key("open").await.unwrap());
        receipts.push(app.execute(deposit("a", 7)).key("deposit").await.unwrap());
        app.execute(deposit("a", 1)).key(format!("deposit {restart}")).await.unwrap();
        assert_eq!(app.store().head().position().get(), 3 + restart);
        app.stop().await.unwrap();
    }
    for pair in receipts.chunks(2) {
        assert_eq!([positions(&pair[0]), positions(&pair[1])], [(1, 1), (2, 2)]);
    }
}

/// The process ends without a word, after some answers and before others.
#[tokio::test]
async fn a_key_is_remembered_without_an_orderly_end() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..4 {
        let app = App::open(folder.path()).unwrap().start().await.unwrap();
        for number in 0..10 {
            let execute = app.execute(open(&number.to_string())).key(number.to_string());
            let pending = execute.submit().await;
            if number % 2 == 0 {
                let receipt = pending.await.unwrap();
                assert_eq!(positions(&receipt), (number + 1, number + 1));
            }
        }
        drop(app);
    }
    let app = App::open(folder.path()).unwrap().start().await.unwrap();
    assert_eq!(app.store().head().position().get(), 10);
}

async fn a_hundred_at_once(app: &App, at: u64) {
    let sent: Vec<_> = (0..100)
        .map(|_| {
            let app = app.clone();
            tokio::spawn(async move { app.execute(deposit("a", 5)).key("k").await.unwrap() })
        })
        .collect();
    for sent in sent {
        assert_eq!(positions(&sent.await.unwrap()), (at, at));
    }
    assert_eq!(app.store().head().position().get(), at);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_sends_at_once_are_one_in_memory() {
    let app = App::over(Memory::new()).start().await.unwrap();
    app.execute(open("a")).await.unwrap();
    a_hundred_at_once(&app, 2).await;
    a_hundred_at_once(&app, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_sends_at_once_are_one_in_a_log() {
    let folder = tempfile::tempdir().unwrap();
    for restart in 0..3 {
        let app = App::open(folder.path()).unwrap().start().await.unwrap();
        if restart == 0 {
            app.execute(open("a")).await.unwrap();
        }
        a_hundred_at_once(&app, 2).await;
        app.stop().await.unwrap();
    }
}

#[test]
fn a_hundred_sends_of_what_is_not_synced_yet_are_one() {
    let rig = Rig::new();
    let other = now(App::over(rig.log.clone()).start()).unwrap();
    // The rule would reject all but the first.
    let sends = (0..100).map(|_| send(rig.app.execute(open("a")).key("open")));
    let mut sent: Vec<_> = sends.collect();
    // This app does not know the first. It is refused, and the log syncs before it says so.
    sent.push(begin(other.execute(open("a")).key("open")));
    assert!(sent[100].done().is_ok());
    assert_eq!(rig.head(), 1);
    for sent in &mut sent[..100] {
        assert_eq!(positions(&sent.done().unwrap()), (1, 1));
    }
    assert_eq!((rig.head(), rig.app.stats().accepted), (1, 1));
}

/// A store whose every call lets others go first has all the places at which a future can be
/// dropped. At each of them the caller goes away, before or after the commit, and asks again.
#[test]
fn an_answer_that_was_lost_anywhere_is_found_again_in_memory() {
    for lane in [false, true] {
        let mut polls = 0;
        loop {
            let app = now(App::over(yielding(Memory::new())).start()).unwrap();
            let done = lose_and_ask_again(&app, lane, polls, || {});
            opened_once(&app, polls);
            polls += 1;
            if done {
                break;
            }
        }
        assert!(polls > 4, "there are only {polls} places");
    }
}

#[test]
fn an_answer_that_was_lost_anywhere_is_found_again_where_nothing_is_synced() {
    for (lane, cache_bytes) in [(false, 1 << 20), (false, 0), (true, 1 << 20), (true, 0)] {
        let mut polls = 0;
        loop {
            let log = manual_sync::open(&SimulatedDisk::new(1));
            let store = yielding(log.clone());
            let app = now(App::over(store).cache_bytes(cache_bytes).start()).unwrap();
            let flush = || log.blocking().flush().unwrap();
            let done = lose_and_ask_again(&app, lane, polls, flush);
            flush();
            opened_once(&app, polls);
            polls += 1;
            if done {
                break;
            }
        }
        assert!(polls > 8, "there are only {polls} places");
    }
}

fn opened_once(app: &App, polls: usize) {
    let opened = Filter::event_type("account-opened");
    let mut read = Held::new({
        let store = app.store().clone();
        async move { store.read(&opened, Read::all()).await.unwrap().len() }
    });
    let times = (0..9).find_map(|_| match read.poll() {
        Poll::Ready(times) => Some(times),
        Poll::Pending => None,
    });
    assert_eq!(times, Some(1), "dropped after {polls} polls");
}

/// Answers whether the first was not lost at all.
fn lose_and_ask_again(app: &App, lane: bool, polls: usize, flush: impl Fn()) -> bool {
    let lane = lane.then(|| app.lane());
    let execute = || match &lane {
        Some(lane) => lane.execute(open("a")).key("k"),
        None => app.execute(open("a")).key("k"),
    };
    let mut first = begin(execute());
    let mut lost = true;
    for poll in 0..polls {
        // What is to be synced is synced late: some are dropped before, some after.
        if poll == 20 {
            flush();
        }
        if let Poll::Ready(answer) = first.poll() {
            assert_eq!(positions(&answer.unwrap()), (1, 1));
            lost = false;
            break;
        }
    }
    drop(first);
    // Somebody else comes between, and has to see what is there.
    let mut moved = begin(app.execute(deposit("a", 1)));
    let _ = moved.poll();
    let mut again = begin(execute());
    let (moved, again) = until_done(&mut moved, &mut again, &flush);
    assert_eq!(positions(&again.unwrap()), (1, 1));
    // It may have come before the account.
    assert!(moved.is_ok() || lost);
    let (mut moved, mut again) = (begin(app.execute(deposit("a", 1)).key("1")), begin(execute()));
    let (_, again) = until_done(&mut moved, &mut again, &flush);
    assert_eq!(positions(&again.unwrap()), (1, 1));
    !lost
}

/// Polls both in turn, because one may stand in the way of the other.
fn until_done<A, B>(one: &mut Held<A>, other: &mut Held<B>, flush: &impl Fn()) -> (A, B) {
    let (mut first, mut second) = (None, None);
    for poll in 0..1_000 {
        if first.is_none()
            && let Poll::Ready(answer) = one.poll()
        {
            first = Some(answer);
        }
        if second.is_none()
            && let Poll::Ready(answer) = other.poll()
        {
            second = Some(answer);
        }
        if first.is_some() && second.is_some() {
            break;
        }
        if poll % 40 == 39 {
            flush();
        }
    }
    (first.expect("it is never done"), second.expect("it is never done"))
}

#[test]
fn a_success_that_is_sent_again_is_no_rejection() {
    let app = now(App::over(Memory::new()).start()).unwrap();
    let receipt = begin(app.execute(open("a")).key("k")).done().unwrap();
    assert_eq!(rejected(begin(app.execute(open("a"))).done()), bank::No::AlreadyOpen);
    assert_eq!(rejected(begin(app.execute(open("a")).key("other")).done()), bank::No::AlreadyOpen);
    assert_eq!(begin(app.execute(open("a")).key("k")).done().unwrap(), receipt);
    // Also where the caller expects what was so before the first.
    let start = diptych::Position::START;
    let again = begin(app.execute(open("a")).key("k").unchanged_since(start)).done();
    assert_eq!(again.unwrap(), receipt);
    let again = begin(app.execute(open("a")).key("k").expected_revision(0)).done();
    assert_eq!(again.unwrap(), receipt);
}

fn reused<R: std::error::Error>(answer: Result<Receipt, ExecuteError<R>>) -> KeyReused {
    match answer {
        Err(ExecuteError::Failed(CommandError::KeyReused(reused))) => reused,
        Err(other) => panic!("{other}"),
        Ok(receipt) => panic!("{receipt:?}"),
    }
}

#[test]
fn a_key_of_the_same_command_with_other_content_is_refused() {
    let app = now(App::over(Memory::new()).start()).unwrap();
    for name in ["a", "b"] {
        begin(app.execute(offer(name, 1))).done().unwrap();
    }
    let both = begin(app.execute(join_both(["a", "b"], "ann")).key("k")).done().unwrap();
    assert_eq!(positions(&both), (3, 4));
    // Whether the rule would let it through, reject it, or something was expected.
    let other = reused(begin(app.execute(offer("c", 1)).key("k")).done());
    assert_eq!((other.key.as_str(), other.first.get(), other.last.get()), ("k", 3, 4));
    assert!(other.to_string().contains("3 to 4"), "{other}");
    let full = reused(begin(app.execute(join_both(["a", "b"], "bob")).key("k")).done());
    assert_eq!((full.first, full.last), (both.first(), both.last()));
    let expected = app.execute(join_both(["b", "a"], "ann")).key("k");
    reused(begin(expected.unchanged_since(diptych::Position::START)).done());
    assert_eq!(app.store().head().position().get(), 4);
}

#[test]
fn a_key_of_another_command_with_the_same_content_is_refused() {
    let app = now(App::over(Memory::new()).start()).unwrap();
    begin(app.execute(open("a"))).done().unwrap();
    begin(app.execute(deposit("a", 5)).key("k")).done().unwrap();
    let other = reused(begin(app.execute(withdraw("a", 5)).key("k")).done());
    assert_eq!((other.key.as_str(), other.first.get(), other.last.get()), ("k", 2, 2));
    assert_eq!(app.store().head().position().get(), 2);
}

#[test]
fn a_key_that_is_reused_before_the_first_is_durable_waits_for_it() {
    let rig = Rig::new();
    let mut first = send(rig.app.execute(open("a")).key("k"));
    let mut other = send(rig.app.execute(open("a")));
    let mut again = rig.app.execute(open("a"));
    again = again.key("k").actor("somebody else");
    let mut again = send(again);
    let mut different = begin(rig.app.execute(deposit("a", 0)).key("k"));
    different.waits();
    rig.flush();
    let receipt = first.done().unwrap();
    assert_eq!(rejected(other.done()), bank::No::AlreadyOpen);
    assert_eq!(again.done().unwrap(), receipt, "who sends it is not what is asked for");
    assert_eq!(reused(different.done()).first.get(), 1);
}

#[test]
fn what_wrote_nothing_is_not_remembered() {
    let app = now(App::over(Memory::new()).start()).unwrap();
    let early = begin(app.execute(deposit("a", 5)).key("k")).done();
    assert_eq!(rejected(early), bank::No::NotOpen);
    let large = begin(app.execute(deposit("a", 2_000_000)).key("k")).done();
    assert!(matches!(large, Err(ExecuteError::Failed(CommandError::Invalid(_)))), "{large:?}");
    begin(app.execute(open("a"))).done().unwrap();
    assert!(begin(app.execute(deposit("a", 0)).key("k")).done().unwrap().is_empty());
    let expected = app.execute(deposit("a", 5)).key("k").unchanged_since(diptych::Position::START);
    let conflict = begin(expected).done();
    assert!(
        matches!(conflict, Err(ExecuteError::Failed(CommandError::Conflict(_)))),
        "{conflict:?}"
    );
    // The key is free still, for the same command or another.
    let receipt = begin(app.execute(deposit("a", 5)).key("k")).done().unwrap();
    assert_eq!(positions(&receipt), (2, 2));
    assert_eq!(begin(app.execute(deposit("a", 5)).key("k")).done().unwrap(), receipt);
    // What makes no sense does so also under a key that is known.
    let large = begin(app.execute(deposit("a", 2_000_000)).key("k")).done();
    assert_eq!(reused(large).first.get(), 2);
}

#[test]
fn a_key_that_no_store_takes_is_refused_and_nothing_is_written() {
    let app = now(App::over(Memory::new()).start()).unwrap();
    for key in [String::new(), "k".repeat(5_000)] {
        let answer = begin(app.execute(open("a")).key(key)).done();
        assert!(
            matches!(answer, Err(ExecuteError::Failed(CommandError::InvalidRequest(_)))),
            "{answer:?}"
        );
    }
    assert_eq!(app.store().head().position().get(), 0);
}

#[test]
fn a_note_is_kept_once_for_one_key_command_and_reason() {
    let app = now(App::over(Memory::new()).start()).unwrap();
    let note = |key: &str, command: &bank::Withdraw, reason: &str| {
        let note = app.execute(open("notes")).note_of(key, command, reason);
        begin(note).done().map(|receipt| receipt.last().get())
    };
    let long = "k".repeat(5_000);
    assert_eq!(note(&long, &withdraw("a", 1), "closed").unwrap(), 1);
    // The same again is the same note, whatever its own rule would say now.
    assert_eq!(note(&long, &withdraw("a", 1), "closed").unwrap(), 1);
    for (key, amount, reason) in [(&*long, 2, "closed"), (&*long, 1, "empty"), ("k", 1, "closed")] {
        let another = note(key, &withdraw("a", amount), reason);
        assert!(matches!(another, Err(ExecuteError::Rejected(bank::No::AlreadyOpen))), "{key}");
    }
    assert_eq!(app.store().head().position().get(), 1);
}

#[test]
fn a_key_of_this_crate_is_not_for_callers() {
    let app = now(App::over(Memory::new()).start()).unwrap();
    for key in ["diptych:", "diptych:note:00"] {
        let refused = begin(app.execute(open("a")).key(key)).done().unwrap_err();
        let ExecuteError::Failed(CommandError::Invalid(invalid)) = refused else {
            panic!("{refused}")
        };
        assert_eq!(invalid.field, "key");
    }
    begin(app.execute(open("a")).key("diptych")).done().unwrap();
}

/// A sync fails under commands with keys. Whatever of it survived, sending all of it again in
/// the same order leaves each of it once.
#[test]
fn after_a_failed_sync_everything_is_sent_again_and_is_there_once() {
    let mut survivors = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let rig = Rig::on(SimulatedDisk::new(seed));
        let mut sent = vec![send(rig.app.execute(open("a")).key("0"))];
        let note = "n".repeat(600);
        let amounts = [3, 3, 5];
        for (key, amount) in amounts.into_iter().enumerate() {
            let execute = rig.app.execute(deposit("a", amount)).key(format!("{key} more"));
            sent.push(send(execute.extra("note", &note)));
        }
        rig.fail();
        for sent in &mut sent {
            assert!(matches!(
                sent.done(),
                Err(ExecuteError::Failed(CommandError::OutcomeUnknown(_)))
            ));
        }
        let rig = rig.after_power_loss(seed);
        survivors.insert(rig.head());
        let mut sent = vec![begin(rig.app.execute(open("a")).key("0"))];
        for (key, amount) in amounts.into_iter().enumerate() {
            sent.push(begin(rig.app.execute(deposit("a", amount)).key(format!("{key} more"))));
        }
        let answers: Vec<_> = sent.iter_mut().map(manual_sync::Held::poll).collect();
        rig.flush();
        for ((at, answer), sent) in (1..).zip(answers).zip(&mut sent) {
            let receipt = match answer {
                Poll::Ready(answer) => answer.unwrap(),
                Poll::Pending => sent.done().unwrap(),
            };
            assert_eq!(positions(&receipt), (at, at), "seed {seed}");
        }
        assert_eq!(rig.head(), 4, "seed {seed}");
    }
    assert!(survivors.len() > 1, "the seeds do not differ: {survivors:?}");
}
