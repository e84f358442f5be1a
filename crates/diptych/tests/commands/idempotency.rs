//! A command under a key runs once, however often its caller sends it. Restarts, crashes and
//! unsynced commits do not change that.

use std::task::Poll;

use diptych::{App, CommandError, ExecuteError, Filter, Memory, Receipt, command::KeyReused};
use diptych_log::disk::simulated::SimulatedDisk;
use diptych_store::Read;

use crate::support::{
    bank::{self, deposit, open, withdraw},
    call_hooks::yielding,
    manual_sync::{self, HeldFuture, Rig, begin, now, positions, rejected, send},
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

/// The app is dropped without a stop, after some answers and before others.
#[tokio::test]
async fn a_key_is_remembered_without_a_stop() {
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
fn a_hundred_sends_before_the_first_sync_are_one() {
    let rig = Rig::new();
    let other = now(App::over(rig.log.clone()).start()).unwrap();
    // Without the key, the rule would reject every command after the first.
    let sends = (0..100).map(|_| send(rig.app.execute(open("a")).key("open")));
    let mut sent: Vec<_> = sends.collect();
    // This app does not know the first commit, so the store refuses its append. The log syncs
    // before it answers.
    sent.push(begin(other.execute(open("a")).key("open")));
    assert!(sent[100].done().is_ok());
    assert_eq!(rig.head(), 1);
    for sent in &mut sent[..100] {
        assert_eq!(positions(&sent.done().unwrap()), (1, 1));
    }
    assert_eq!((rig.head(), rig.app.stats().accepted), (1, 1));
}

/// Every call of this store yields, so the future of a command can be dropped at each of its
/// points. At each point, before or after the commit, the caller drops the future and sends the
/// command again.
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
        assert!(polls > 4, "the future has only {polls} points");
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
        assert!(polls > 8, "the future has only {polls} points");
    }
}

fn opened_once(app: &App, polls: usize) {
    let opened = Filter::event_type("account-opened");
    let mut read = HeldFuture::new({
        let store = app.store().clone();
        async move { store.read(&opened, Read::all()).await.unwrap().len() }
    });
    let times = (0..9).find_map(|_| match read.poll() {
        Poll::Ready(times) => Some(times),
        Poll::Pending => None,
    });
    assert_eq!(times, Some(1), "dropped after {polls} polls");
}

/// Returns whether the first command was answered before it could be dropped.
fn lose_and_ask_again(app: &App, lane: bool, polls: usize, flush: impl Fn()) -> bool {
    let lane = lane.then(|| app.lane());
    let execute = || match &lane {
        Some(lane) => lane.execute(open("a")).key("k"),
        None => app.execute(open("a")).key("k"),
    };
    let mut first = begin(execute());
    let mut lost = true;
    for poll in 0..polls {
        // The sync is late, so some futures are dropped before it and some after it.
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
    // A command of another caller runs in between and has to see the log as it is.
    let mut moved = begin(app.execute(deposit("a", 1)));
    let _ = moved.poll();
    let mut again = begin(execute());
    let (moved, again) = until_done(&mut moved, &mut again, &flush);
    assert_eq!(positions(&again.unwrap()), (1, 1));
    // The deposit may have run before the account was open.
    assert!(moved.is_ok() || lost);
    let (mut moved, mut again) = (begin(app.execute(deposit("a", 1)).key("1")), begin(execute()));
    let (_, again) = until_done(&mut moved, &mut again, &flush);
    assert_eq!(positions(&again.unwrap()), (1, 1));
    !lost
}

/// Polls both futures in turn, because one may block the other.
fn until_done<A, B>(
    one: &mut HeldFuture<A>,
    other: &mut HeldFuture<B>,
    flush: &impl Fn(),
) -> (A, B) {
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
    (first.expect("the first never ends"), second.expect("the second never ends"))
}

#[test]
fn a_success_that_is_sent_again_is_no_rejection() {
    let app = now(App::over(Memory::new()).start()).unwrap();
    let receipt = begin(app.execute(open("a")).key("k")).done().unwrap();
    assert_eq!(rejected(begin(app.execute(open("a"))).done()), bank::No::AlreadyOpen);
    assert_eq!(rejected(begin(app.execute(open("a")).key("other")).done()), bank::No::AlreadyOpen);
    assert_eq!(begin(app.execute(open("a")).key("k")).done().unwrap(), receipt);
    // The receipt also comes back if the caller expects the state before the first command.
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
fn the_receipt_under_a_key_is_that_of_a_retry() {
    let app = now(App::over(Memory::new()).start()).unwrap();
    assert_eq!(now(app.receipt_under("k")).unwrap(), None);
    begin(app.execute(open("a")).key("open")).done().unwrap();
    let receipt = begin(app.execute(deposit("a", 5)).key("k")).done().unwrap();
    assert_eq!(now(app.receipt_under("k")).unwrap(), Some(receipt));
    assert_eq!(begin(app.execute(deposit("a", 5)).key("k")).done().unwrap(), receipt);
    // A command that was rejected, or wrote nothing, is not remembered.
    rejected(begin(app.execute(open("a")).key("again")).done());
    begin(app.execute(deposit("a", 0)).key("nothing")).done().unwrap();
    for key in ["again", "nothing", "", &"k".repeat(5_000)] {
        assert_eq!(now(app.receipt_under(key)).unwrap(), None, "{key}");
    }
}

#[test]
fn the_receipt_under_a_key_is_of_durable_events() {
    let rig = Rig::new();
    let mut sent = send(rig.app.execute(open("a")).key("k"));
    assert_eq!(now(rig.app.receipt_under("k")).unwrap(), None);
    rig.flush();
    let receipt = sent.done().unwrap();
    assert_eq!(now(rig.app.receipt_under("k")).unwrap(), Some(receipt));
}

#[test]
fn a_key_of_the_same_command_with_other_content_is_refused() {
    let app = now(App::over(Memory::new()).start()).unwrap();
    for name in ["a", "b"] {
        begin(app.execute(offer(name, 1))).done().unwrap();
    }
    let both = begin(app.execute(join_both(["a", "b"], "ann")).key("k")).done().unwrap();
    assert_eq!(positions(&both), (3, 4));
    // The rule may accept the command or reject it, or the caller may expect a position.
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
    assert_eq!(again.done().unwrap(), receipt, "the actor is not part of the request");
    assert_eq!(reused(different.done()).first.get(), 1);
}

#[test]
fn a_command_that_wrote_nothing_leaves_its_key_free() {
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
    // The key is still free, for this command or another one.
    let receipt = begin(app.execute(deposit("a", 5)).key("k")).done().unwrap();
    assert_eq!(positions(&receipt), (2, 2));
    assert_eq!(begin(app.execute(deposit("a", 5)).key("k")).done().unwrap(), receipt);
    // Under a used key, an invalid command reports the reuse of the key.
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
    // A repeated note is the same note, even if its rule would reject it now.
    assert_eq!(note(&long, &withdraw("a", 1), "closed").unwrap(), 1);
    for (key, amount, reason) in [(&*long, 2, "closed"), (&*long, 1, "empty"), ("k", 1, "closed")] {
        let another = note(key, &withdraw("a", amount), reason);
        assert!(matches!(another, Err(ExecuteError::Rejected(bank::No::AlreadyOpen))), "{key}");
    }
    assert_eq!(app.store().head().position().get(), 1);
}

#[test]
fn the_note_under_a_key_is_that_of_one_command_and_reason() {
    let rig = Rig::new();
    let found = |key: &str, amount, reason: &str| {
        now(rig.app.note_under(key, &withdraw("a", amount), reason)).unwrap()
    };
    let note = rig.app.execute(open("notes"));
    let mut sent = send(note.note_of("k", &withdraw("a", 1), "closed"));
    assert_eq!(found("k", 1, "closed"), None, "it is not durable yet");
    rig.flush();
    let receipt = sent.done().unwrap();
    assert_eq!(found("k", 1, "closed"), Some(receipt));
    for (key, amount, reason) in [("k", 2, "closed"), ("k", 1, "empty"), ("other", 1, "closed")] {
        assert_eq!(found(key, amount, reason), None, "{key} {amount} {reason}");
    }
    // A command under the key is no note.
    let mut sent = send(rig.app.execute(open("a")).key("opened"));
    rig.flush();
    sent.done().unwrap();
    assert_eq!(now(rig.app.note_under("opened", &open("a"), "closed")).unwrap(), None);
}

#[test]
fn a_key_with_the_prefix_of_this_crate_is_invalid() {
    let app = now(App::over(Memory::new()).start()).unwrap();
    for key in ["diptych:", "diptych:note:00"] {
        let refused = begin(app.execute(open("a")).key(key)).done().unwrap_err();
        let ExecuteError::Failed(CommandError::Invalid(invalid)) = refused else {
            panic!("{refused}")
        };
        assert_eq!(invalid.field, "key");
        let refused = now(app.receipt_under(key)).unwrap_err();
        assert!(matches!(&refused, CommandError::Invalid(again) if *again == invalid), "{refused}");
    }
    begin(app.execute(open("a")).key("diptych")).done().unwrap();
}

/// A sync of commands with keys fails. Any prefix of the commits may survive. The callers send all
/// commands again in the same order, and then the log has each commit once.
#[test]
fn after_a_failed_sync_sending_everything_again_writes_each_commit_once() {
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
        let answers: Vec<_> = sent.iter_mut().map(manual_sync::HeldFuture::poll).collect();
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
