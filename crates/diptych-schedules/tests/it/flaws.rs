//! The exploration finds mistakes: each of these flaws of the hand-over makes a property fail in
//! some schedule.

use diptych_store::sync::Flaw;

use crate::{
    appends::callers_commit,
    conditions::callers_count,
    explore::schedules_to_fail,
    head::a_waiter_and_a_publication,
    log::{options, small},
    reads::readers_read,
};

/// More than the most that any flaw has needed with any of a few seeds, by far.
const MOST: usize = 1_000;

/// Asserts that a schedule fails, and for this reason.
#[track_caller]
fn assert_found(flaw: Flaw, why: &str, test: impl Fn() + Send + Sync + 'static) {
    Flaw::set(Some(flaw));
    let found = schedules_to_fail(MOST, test);
    Flaw::set(None);
    let (schedules, message) = found.unwrap_or_else(|| panic!("{flaw:?} was not found"));
    assert!(message.contains(why), "{flaw:?} was found as: {message}");
    println!("{flaw:?} was found in schedule {schedules}: {message}");
}

#[test]
fn a_wait_that_looks_only_once_is_found() {
    assert_found(Flaw::OneLook, "deadlock", a_waiter_and_a_publication);
}

#[test]
fn a_head_that_is_published_before_the_bytes_is_found() {
    assert_found(Flaw::EarlyHead, "record", || readers_read(options()));
}

#[test]
fn a_signal_before_the_state_is_found() {
    assert_found(Flaw::EarlyWake, "deadlock", callers_commit);
}

#[test]
fn a_turn_that_ends_without_a_look_at_the_queue_is_found() {
    assert_found(Flaw::ForgottenQueue, "deadlock", callers_commit);
}

#[test]
fn a_condition_that_is_checked_only_before_the_lock_is_found() {
    assert_found(Flaw::StaleCheck, "missed an event", || callers_count(options(), 0));
}

#[test]
fn a_look_up_that_misses_deferred_commits_is_found() {
    assert_found(Flaw::HiddenCommits, "missed an event", || callers_count(options(), 64 << 10));
}

#[test]
fn a_gap_in_the_catalog_is_found() {
    // Readers miss records, or answers change.
    assert_found(Flaw::CatalogGap, "", || readers_read(small()));
}
