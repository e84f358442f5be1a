//! Reading while other threads write: an observed position is final.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{
    Suite,
    probe::{Probe, SeenEvent, event, key, numbers, parse, tag},
};
use crate::{
    append::{Append, Tracking},
    batch::Read,
    position::Position,
};

const WRITERS: usize = 6;
const READERS: usize = 2;
const COMMITS: u64 = 30;
const EVENTS: u64 = 3;
const ALL: u64 = WRITERS as u64 * COMMITS * EVENTS;

/// Writers commit three events at a time. Readers call `look` until all commits are published.
fn while_writing(probe: &Probe, look: impl Fn(&Probe) + Sync) {
    let writing = AtomicUsize::new(WRITERS);
    probe.parallel(WRITERS + READERS, |number, probe| {
        if number < WRITERS {
            let name = format!("writer:{number}");
            for _ in 0..COMMITS {
                probe.put((0..EVENTS).map(|_| event("e", &[&name])));
            }
            writing.fetch_sub(1, Ordering::AcqRel);
            return;
        }
        let done = probe.eventually(|| {
            look(probe);
            writing.load(Ordering::Acquire) == 0
        });
        assert!(done, "the writers do not end");
        look(probe);
    });
    assert_eq!(probe.head(), ALL);
}

fn upto(probe: &Probe, head: u64) -> Vec<SeenEvent> {
    probe.seen(&parse("*"), Read::all().upto(head.into()))
}

pub(super) fn events_up_to_an_observed_head_are_readable(suite: &Suite<'_>) {
    let probe = suite.probe();
    while_writing(&probe, |probe| {
        let head = probe.head();
        let after = head.saturating_sub(40);
        let read = Read::after(after.into()).upto(head.into());
        let seen = numbers(&probe.seen(&parse("*"), read));
        assert_eq!(seen, (after + 1..=head).collect::<Vec<_>>(), "head {head}");
        assert_eq!(probe.last("*", head), (head > 0).then_some(head));
    });
}

pub(super) fn nothing_appears_at_or_below_an_observed_position(suite: &Suite<'_>) {
    let probe = suite.probe();
    while_writing(&probe, |probe| {
        let head = probe.head();
        let before = upto(probe, head);
        let selective = parse("tag=writer:1");
        let tagged = probe.seen(&selective, Read::all().upto(head.into()));
        let moved = probe.eventually(|| probe.head() > head || head == ALL);
        assert!(moved, "the writers make no progress");
        assert!(upto(probe, head) == before, "events at or below {head} changed");
        let again = probe.seen(&selective, Read::all().upto(head.into()));
        assert!(again == tagged, "matches at or below {head} changed");
    });
}

pub(super) fn a_head_is_never_inside_a_commit(suite: &Suite<'_>) {
    let probe = suite.probe();
    while_writing(&probe, |probe| {
        let head = probe.head();
        assert_eq!(head % EVENTS, 0, "the head {head} is inside a commit of {EVENTS} events");
        let upto = probe.read(&parse("*"), Read::after(head.into())).upto();
        assert_eq!(upto.get() % EVENTS, 0, "a read reached {upto}, inside a commit");
    });
}

pub(super) fn the_head_never_goes_back(suite: &Suite<'_>) {
    let probe = suite.probe();
    while_writing(&probe, |probe| {
        let (held, mut highest) = (probe.store.head(), 0);
        for _ in 0..20 {
            let now = probe.head();
            assert!(now >= highest, "the head was {highest} and is {now}");
            highest = now;
        }
        assert!(held.position().get() >= highest, "a held head stays behind");
    });
}

pub(super) fn look_ups_agree_with_the_head(suite: &Suite<'_>) {
    let probe = suite.probe();
    let tag = tag("writer:2");
    while_writing(&probe, |probe| {
        let head = probe.head();
        let read = probe.seen(&tag.clone().into(), Read::all().upto(head.into()));
        assert_eq!(probe.count(tag.as_str(), head), read.len() as u64, "head {head}");
        let last = probe.last("tag=writer:2", head);
        assert_eq!(last, read.last().map(|seen| seen.position), "head {head}");
    });
}

pub(super) fn look_ups_show_only_what_is_published(suite: &Suite<'_>) {
    let probe = suite.probe();
    let mut waiting = Vec::new();
    for number in 1..=30 {
        let name = number.to_string();
        let append = Append::event(event("e", &["k:1"])).key(key(&name, "r"));
        let append = append.tracking(Tracking::new("s", number));
        waiting.push(probe.append(append).unwrap());
        let keyed = probe.keyed(&name).map_or(0, |commit| commit.last.get());
        assert!(keyed <= probe.head(), "the key is found before its commit");
        let tracked = probe.tracked("s").map_or(0, |tracking| tracking.position.get());
        assert!(tracked <= probe.head(), "tracking is found before its commit");
        let last = probe.last("tag=k:1", Position::MAX).unwrap_or(0);
        assert!(last <= probe.head(), "the last match is found before its commit");
        let count = probe.count("k:1", Position::MAX);
        assert!(count <= probe.head(), "an event is counted before its commit");
    }
    for accepted in waiting {
        probe.synced(accepted);
    }
}

pub(super) fn a_sync_is_done_once_its_commit_is_published(suite: &Suite<'_>) {
    let probe = suite.probe();
    for number in 1..=30 {
        let accepted = probe.append(Append::event(event("e", &[]))).unwrap();
        let sync = accepted.sync.clone();
        assert!(!sync.is_done() || probe.head() >= number, "done before it is published");
        probe.synced(accepted);
        assert!(sync.is_done(), "not done after its sync");
    }
}

pub(super) fn a_commit_is_published_without_a_wait_for_its_sync(suite: &Suite<'_>) {
    let probe = suite.probe();
    let head = probe.store.head();
    let accepted = probe.append(Append::event(event("e", &[]))).unwrap();
    // No caller polls the sync: the store itself has to publish the commit.
    let reached = probe.wait("head", head.after(Position::START)).unwrap();
    assert_eq!(reached, accepted.last);
    drop(accepted);
    assert_eq!(probe.positions("*"), [1]);
}
