//! Hand-overs between private types of the log, in every schedule.

use diptych_log::schedules;

use crate::explore::explore_all;

#[test]
fn a_thread_does_not_sleep_over_its_batch() {
    explore_all(schedules::a_batch_is_done);
}

#[test]
fn a_thread_does_not_sleep_over_a_batch_of_the_same_word() {
    explore_all(schedules::two_batches_of_one_word_are_done);
}

#[test]
fn a_thread_does_not_sleep_over_a_release() {
    explore_all(schedules::a_batch_is_released);
}

#[test]
fn a_thread_does_not_sleep_over_the_end() {
    explore_all(schedules::batches_end);
}

#[test]
fn no_look_up_misses_a_deferred_commit() {
    explore_all(schedules::deferred_commits_are_added);
}
