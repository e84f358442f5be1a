//! Proof of the conformance suite: each case fails for a store with a flaw that it is about, each
//! flaw makes a case fail, and a store without a flaw passes all cases.

use std::{collections::BTreeSet, time::Duration};

use diptych_store::testing::{
    Outcome, Setup, Suite, TestStore, cases, run_all,
    wrong::{self, Flaw},
};

/// The longest wait for one answer. A flawed store that hangs fails after this time; a store
/// without a flaw is much faster.
const PATIENCE: Duration = Duration::from_millis(1_500);

macro_rules! proofs {
    ($($case:ident: $($flaw:ident)+,)*) => {
        /// For each case, the flaws that make it fail.
        const PROOFS: &[(&str, &[Flaw])] = &[$((stringify!($case), &[$(Flaw::$flaw),+])),*];

        $(
            #[test]
            fn $case() {
                for flaw in [$(Flaw::$flaw),+] {
                    assert_fails(stringify!($case), flaw);
                }
            }
        )*
    };
}

fn assert_fails(name: &str, flaw: Flaw) {
    let Some(case) = cases().iter().find(|case| case.name == name) else {
        panic!("there is no case {name}");
    };
    let fresh = |setup: &Setup| Some(wrong::test_store(Some(flaw), setup));
    let outcome = case.run(&Suite::new(&fresh).patience(PATIENCE));
    assert!(
        matches!(outcome, Outcome::Failed(_)),
        "{name} does not fail for {flaw:?}: {outcome:?}"
    );
}

#[test]
fn every_case_fails_for_a_flaw() {
    let proven: BTreeSet<_> = PROOFS.iter().map(|(name, _)| *name).collect();
    let all: BTreeSet<_> = cases().iter().map(|case| case.name).collect();
    assert_eq!(all, proven);
    assert_eq!(all.len(), cases().len(), "a name is used twice");
}

#[test]
fn every_flaw_fails_a_case() {
    let found = |flaw: &Flaw| PROOFS.iter().any(|(_, flaws)| flaws.contains(flaw));
    let unfound: Vec<_> = Flaw::ALL.iter().filter(|flaw| !found(flaw)).collect();
    assert!(unfound.is_empty(), "{unfound:?}");
}

#[test]
fn a_store_without_a_flaw_passes_every_case() {
    let fresh = |setup: &Setup| Some(wrong::test_store(None, setup));
    for (case, outcome) in run_all(&Suite::new(&fresh)) {
        assert_eq!(outcome, Outcome::Passed, "{}", case.name);
    }
}

#[test]
fn a_case_that_needs_a_lacking_ability_is_not_applicable() {
    let fresh = |setup: &Setup| -> Option<TestStore> {
        let plain = *setup == Setup::default();
        plain.then(|| TestStore::new(wrong::WrongStore::new(None, setup)))
    };
    for (case, outcome) in run_all(&Suite::new(&fresh)) {
        match case.needs.first() {
            Some(need) => assert_eq!(outcome, Outcome::NotApplicable(*need), "{}", case.name),
            None => assert_eq!(outcome, Outcome::Passed, "{}", case.name),
        }
    }
}

proofs! {
    positions_are_dense_from_one: LeavesGaps,
    events_of_a_commit_keep_their_order: ReversesCommits,
    a_commit_of_many_events_is_complete: CutsLargeCommits,
    accepted_positions_are_those_of_the_events: AnswersOnePositionTooHigh,
    a_synced_commit_is_readable: PublishesOneCommitLate,
    several_can_wait_for_one_sync: NeverSyncs,
    look_ups_show_only_what_is_published: PublishesOneCommitLate,
    a_sync_is_done_once_its_commit_is_published: PublishesOneCommitLate,
    a_commit_is_published_without_a_wait_for_its_sync: PublishesOneCommitLate,
    a_dropped_append_is_complete_or_absent: WritesInTwoSteps,
    every_field_is_read_as_written: ForgetsMetadata,
    bytes_are_the_encoding_of_the_event: SortsTags,
    the_checksum_of_an_event_is_known_from_its_append: ForgetsMetadata SortsTags,
    a_checksum_is_that_of_the_event_that_is_read: ChecksumsLeaveOutTheTime,
    an_event_has_a_type: AcceptsEmptyNames,
    an_event_occurred_at_an_instant_that_has_a_text: MovesTimesIntoTheCalendar,
    a_payload_is_any_bytes: EndsPayloadsAtNul,
    tags_are_a_set_in_the_order_given: SortsTags,
    an_append_of_nothing_writes_nothing: WritesEmptyCommits,
    an_append_of_nothing_is_checked: SkipsChecksWithoutEvents,
    an_append_of_nothing_is_synced_after_the_commits_it_saw: PublishesOneCommitLate,
    a_fresh_log_accepts_an_append_of_nothing: AnswersZeroWithoutEvents,
    reading_takes_nothing_away: ReadsTakeAway,
    tracking_is_checked_before_the_key: ChecksKeyFirst,
    tracking_is_checked_before_the_condition: ChecksConditionFirst,
    the_key_is_checked_before_the_condition: ChecksConditionFirst,
    every_check_has_to_pass: SkipsTheConditionUnderAKey,
    a_refused_commit_leaves_no_event: WritesBeforeItChecks,
    a_refused_commit_leaves_its_key_free: KeepsTheKeyOfARefusedCommit,
    a_refused_commit_moves_no_tracking: KeepsTheTrackingOfARefusedCommit,
    a_refusal_does_not_stop_the_store: FailsAfterARefusal,
    checks_see_accepted_commits: ChecksMissTheNewestCommit,
    a_refusal_rests_on_published_commits: PublishesOneCommitLate,
    a_match_after_the_position_is_a_conflict: IgnoresConditions,
    no_match_after_the_position_is_no_conflict: TakesEveryConditionForEverything,
    a_match_at_the_position_is_no_conflict: ConditionsIncludeTheirPosition,
    a_match_just_after_the_position_is_a_conflict: ConditionsSkipOne,
    a_condition_from_the_start_sees_the_whole_log: ConditionsSeeTheNewest100,
    a_conflict_names_the_last_match: ConflictsNameTheFirstMatch,
    the_position_may_be_above_the_last_match: TakesThePositionForAVersion,
    a_commit_does_not_conflict_with_itself: ChecksItsOwnEvents,
    a_condition_takes_any_of_the_types: NeedsEveryType,
    a_condition_takes_all_of_the_tags: TakesAnyTag,
    a_condition_takes_any_of_the_items: TakesTheFirstItemOnly MixesItems,
    a_condition_on_everything_is_on_the_head: EverythingMatchesNothing,
    a_condition_on_nothing_never_refuses: NothingMatchesEverything,
    a_condition_above_the_head_is_invalid: AcceptsPositionsAboveTheHead,
    any_of_several_conditions_refuses: ChecksTheFirstConditionOnly RefusesOnlyIfAllAreViolated,
    a_commit_needs_all_of_its_conditions: RefusesOnlyIfAllAreViolated,
    each_condition_counts_from_its_own_position:
        TakesTheLowestPositionForAll TakesTheHighestPositionForAll,
    a_conflict_over_several_conditions_names_the_last_match:
        ConflictsNameTheFirstViolation ConflictsNameTheFirstPosition,
    every_condition_sees_accepted_commits:
        LaterConditionsMissTheNewestCommit ChecksMissTheNewestCommit,
    any_condition_above_the_head_is_invalid: ChecksTheFirstConditionOnly,
    a_key_finds_its_commit: KeysFindTheFirstEventOnly,
    an_unused_key_finds_nothing: KeysIgnoreCase,
    a_repeated_request_gets_the_positions_of_the_first: ForgetsKeys KeyRefusalsSayTheHead,
    another_request_under_a_used_key_is_refused_as_reused: IgnoresDigests,
    digests_are_compared_whole: ComparesHalfADigest,
    a_key_without_events_is_invalid: AcceptsKeysWithoutEvents,
    a_key_has_a_name: AcceptsEmptyNames,
    keys_are_a_space_of_their_own: TakesTagsForKeys,
    a_key_is_remembered_for_ever: ForgetsOldKeys,
    tracking_is_stored_with_the_commit: TracksWithoutOrigin,
    tracking_accepts_only_higher_positions: TakesTheSamePositionAgain,
    tracking_may_skip_positions: NeedsTheNextPosition,
    a_tracking_refusal_names_the_head_of_the_import: TrackingRefusalsSayTheHead,
    another_origin_is_refused: IgnoresOrigins,
    sources_are_tracked_apart: TracksAllSourcesTogether,
    tracking_alone_is_a_commit: TracksOnlyWithEvents,
    tracking_alone_is_checked: SkipsChecksWithoutEvents,
    tracking_alone_in_an_empty_log: TracksOnlyWithEvents,
    a_source_has_a_name: AcceptsEmptyNames,
    a_filter_takes_any_of_the_types: NeedsEveryType,
    a_filter_takes_all_of_the_tags: TakesAnyTag,
    a_filter_takes_type_and_tags_of_an_item: IgnoresTypesWhereThereAreTags,
    a_filter_takes_any_of_the_items: TakesTheFirstItemOnly,
    items_of_a_filter_do_not_mix: MixesItems,
    overlapping_items_give_an_event_once: RepeatsOverlaps,
    a_term_given_twice_changes_nothing: CountsTagsToCompare,
    everything_is_every_event: EverythingMatchesNothing,
    nothing_is_no_event: NothingMatchesEverything,
    unknown_types_and_tags_match_nothing: LeavesOutUnknownTerms,
    a_read_gives_events_in_order: SortsPositionsAsText,
    a_read_backwards_gives_events_in_reverse: IgnoresDirection,
    a_read_starts_just_after: ReadsIncludeAfter,
    a_read_ends_at_upto: ReadsExcludeUpto,
    both_bounds_hold_in_both_directions: BackwardsForgetsAfter,
    a_read_goes_to_the_head_at_most: SaysTheAskedUpto,
    a_read_from_above_the_head_is_invalid: AcceptsPositionsAboveTheHead,
    a_read_gives_at_most_its_limit: IgnoresTheLimit,
    a_limit_backwards_counts_from_the_high_end: LimitsBackwardsFromTheLowEnd,
    a_limit_of_zero_considers_nothing: TakesLimitZeroForNone,
    upto_covers_events_that_do_not_match: SaysTheLastMatch,
    upto_stops_before_a_match_left_out: SaysTheBound,
    upto_backwards_stops_above_a_match_left_out: SaysTheBound,
    upto_is_within_the_bounds: SaysTheHead,
    an_empty_log_reads_empty: EmptyLogIsAnError,
    paging_forwards_gives_every_match_once: SaysTheBound,
    paging_backwards_gives_every_match_once: SaysTheBound,
    small_batches_neither_lose_nor_repeat_events: LosesWhatDoesNotFit,
    a_batch_tells_where_its_commit_ends: CommitEndIsUpto CommitEndIsTheHead,
    a_batch_up_to_any_position_tells_where_its_commit_ends: CommitEndIsUpto CommitEndIsTheHead,
    whole_commits_are_those_that_were_accepted: JoinsCommits,
    a_commit_is_read_whole: SplitsCommits,
    a_commit_is_read_whole_in_small_batches: SplitsCommits,
    batches_of_commits_keep_to_their_limits: IgnoresBatchLimits,
    commits_have_their_keys: CommitsForgetKeys CommitsForgetDigests,
    commits_have_their_tracking: CommitsForgetTracking CommitsForgetOrigins,
    commits_have_their_times: CommitsHaveTheLastTime,
    commits_without_events_are_read: LeavesOutTrackingAlone,
    commits_are_read_after_the_end_of_one: CommitsBeginAnywhere,
    a_copy_by_whole_commits_is_equal: CommitsForgetDigests LeavesOutTrackingAlone JoinsCommits,
    last_is_the_last_match: LastSaysTheFirst,
    last_looks_at_and_below_upto: LastIgnoresUpto,
    last_of_no_match_is_none: LastOfNothingIsStart,
    look_ups_may_ask_above_the_head: RefusesLookUpsAboveTheHead,
    count_is_the_revision_of_a_tag: CountsCommits,
    count_upto_an_event_is_its_rank: CountExcludesUpto,
    an_unknown_tag_counts_zero: UnknownTagIsAnError,
    every_type_is_listed_once: TypesAsOftenAsWritten TypesOfTheNewest,
    a_tag_given_twice_counts_once: CountsATagAsOftenAsGiven,
    look_ups_are_right_in_a_large_log: LooksUpTheNewest1000,
    a_fresh_log_is_empty: StartsWithAnEvent,
    the_head_is_the_last_position: HeadCountsCommits,
    a_held_head_moves: HeadIsACopy,
    a_wait_for_the_head_wakes: HeadIsACopy,
    a_fresh_head_has_every_synced_commit: FreshHeadIsOneTooLow,
    a_log_keeps_its_identity: IdentityChanges,
    every_log_has_its_own_identity: IdentityIsTheSameEverywhere,
    two_logs_share_nothing: SharesOneLog,
    recorded_at_never_decreases: ClockGoesBack,
    a_commit_is_recorded_at_one_instant: StampsEveryEvent,
    recorded_at_of_an_event_never_changes: StampsOnRead,
    a_store_with_a_clock_refuses_a_given_time: AcceptsAnyTime,
    the_callers_time_is_recorded: IgnoresTheCallersTime,
    the_callers_time_is_raised_to_the_last: TakesTimeThatWentBack,
    a_missing_caller_time_is_invalid: AcceptsAnyTime,
    the_time_of_a_refused_commit_does_not_count: KeepsTheTimeOfARefusedCommit,
    accepted_reports_its_recorded_at: AcceptedSaysTheTimeBefore,
    accepted_reports_the_callers_time_as_recorded: AcceptedSaysTheTimeGiven,
    an_append_of_nothing_reports_the_last_time: AcceptedSaysTheClockForNothing,
    event_bytes_is_enforced: IgnoresLimits LimitsAreOneTooSmall,
    type_bytes_is_enforced: IgnoresLimits LimitsAreOneTooSmall,
    tag_bytes_is_enforced: IgnoresLimits LimitsAreOneTooSmall,
    tags_per_event_is_enforced: IgnoresLimits LimitsAreOneTooSmall,
    metadata_bytes_is_enforced: IgnoresLimits LimitsAreOneTooSmall,
    commit_events_is_enforced: IgnoresLimits LimitsAreOneTooSmall,
    commit_bytes_is_enforced: IgnoresLimits LimitsAreOneTooSmall,
    commit_conditions_is_enforced: IgnoresLimits LimitsAreOneTooSmall,
    key_bytes_is_enforced: IgnoresLimits LimitsAreOneTooSmall,
    source_bytes_is_enforced: IgnoresLimits LimitsAreOneTooSmall,
    tracking_sources_is_enforced: IgnoresLimits LimitsAreOneTooSmall,
    filter_items_is_enforced: IgnoresLimits LimitsAreOneTooSmall,
    filter_terms_is_enforced: IgnoresLimits LimitsAreOneTooSmall,
    filters_of_a_commit_are_bounded_together: BoundsEachFilterAlone,
    a_batch_holds_at_most_batch_events: IgnoresBatchLimits,
    a_batch_holds_at_most_batch_bytes: IgnoresBatchLimits LosesWhatDoesNotFit,
    an_event_larger_than_a_batch_is_read_alone: LetsNothingLargeThrough,
    an_invalid_last_event_leaves_nothing_of_its_commit: WritesUpToTheInvalidEvent,
    a_store_enforces_the_limits_it_reports: SaysOtherLimits,
    hostile_types_are_told_apart: TrimsNames,
    hostile_tags_are_told_apart: TrimsNames,
    hostile_keys_are_told_apart: TrimsNames,
    hostile_sources_are_told_apart: TrimsNames,
    hostile_metadata_is_read_as_written: TrimsNames,
    a_tag_is_not_found_by_its_prefix: FindsTagsByPrefix,
    a_type_is_not_a_tag: TakesTypesForTags,
    a_tag_may_have_an_empty_value: DropsTagsWithoutValue,
    an_event_is_found_by_each_of_its_tags: IndexesFourTags,
    names_may_be_as_long_as_the_limits: CutsLongNames,
    a_long_name_in_a_filter_finds_nothing: FailsOnLongNames,
    an_event_is_seen_by_each_of_its_tags_in_every_call:
        ConditionsMissEventsOf9Tags ConditionsMissEventsOf33Tags CountsFourTags IndexesFourTags,
    each_tag_of_an_item_counts: ComparesEightTags,
    each_condition_of_the_most_is_checked: Checks16Conditions,
    each_item_and_type_of_the_most_is_considered: Takes16Items Takes16Types Lists100Types,
    a_read_of_any_limit_is_right_in_both_directions: LimitsAbove40FromTheLowEnd,
    a_count_has_no_small_limit: CountsUpTo255,
    a_conflict_far_away_is_named: FarConflictsNameTheNextEvent,
    payloads_of_any_size_are_read_as_written: CutsLargePayloads,
    numbers_are_stored_whole: VersionsHaveTwoBytes TrackingHasFourBytes,
    many_commits_have_their_facts: CommitsForgetLateKeys CommitsForgetLateTracking,
    many_keys_outlive_the_store: ReopeningForgetsTheOldestKey,
    many_sources_outlive_the_store: ReopeningForgetsTheOldestSource,
    one_of_64_contenders_wins: ChecksBeforeTheLock,
    every_boundary_has_its_own_winner: ChecksBeforeTheLock TakesEveryConditionForEverything,
    boundaries_that_overlap_exclude_each_other: ChecksBeforeTheLock,
    conditions_that_overlap_exclude_each_other: ChecksBeforeTheLock,
    a_loser_finds_the_winning_event: PublishesOneCommitLate,
    retries_lose_no_update: ChecksBeforeTheLock,
    one_of_many_sends_of_a_key_is_committed: ChecksBeforeTheLock,
    parallel_imports_take_each_position_once: ChecksBeforeTheLock,
    parallel_commits_share_no_position: TakesPositionsBeforeTheLock,
    parallel_commits_do_not_mix: WritesEventByEvent,
    parallel_commits_are_recorded_in_order: TakesTimeBeforeTheLock,
    events_up_to_an_observed_head_are_readable: PublishesBeforeItWrites,
    nothing_appears_at_or_below_an_observed_position: FillsGapsLater,
    a_head_is_never_inside_a_commit: PublishesEventByEvent,
    the_head_never_goes_back: HeadGoesBack,
    look_ups_agree_with_the_head: CountsCommits,
    a_subscription_catches_up_and_goes_live: ReadsIncludeAfter,
    a_subscription_to_an_empty_log_is_live_at_once: StartsWithAnEvent,
    a_waiting_subscription_wakes: HeadIsACopy,
    a_selective_subscription_catches_up: SaysTheLastMatch,
    a_live_subscription_advances_over_other_events: SaysTheLastMatch,
    a_subscription_misses_nothing_while_8_writers_append: FillsGapsLater,
    a_slow_subscription_reports_that_it_fell_behind: HeadCountsCommits,
    a_subscription_from_above_the_head_is_an_error: HeadRunsAhead,
    a_dropped_wait_loses_no_event: ReadsIncludeAfter,
    subscriptions_do_not_take_from_each_other: ReadsTakeAway,
    a_subscription_continues_where_another_stopped: SaysTheBound,
    handles_are_on_one_log: HandlesHaveTheirOwnIdentity FreshHeadMovesNoHead,
    a_store_with_other_writers_says_so: SaysItWritesAlone,
    a_fresh_head_sees_other_handles: FreshHeadIsTheHead SaysItWritesAlone,
    a_fresh_head_moves_the_head: FreshHeadMovesNoHead,
    reads_after_a_fresh_head_see_other_handles: FreshHeadMovesNoHead,
    a_key_of_another_handle_is_found_after_a_fresh_head: LookUpsMissOtherHandles,
    conditions_see_other_handles: ChecksMissOtherHandles,
    keys_and_tracking_are_checked_across_handles: ChecksMissOtherHandles,
    a_refusal_publishes_what_it_rests_on: RefusalsMoveNoHead,
    a_head_follows_other_handles: HeadsIgnoreOtherHandles,
    a_condition_at_a_position_of_another_handle_is_valid: ComparesConditionsWithItsHead,
    an_ended_store_accepts_no_commits: TakesCommitsAfterTheEnd,
    an_ended_store_ends_its_head: EndsInSilence,
    the_end_wakes_waiters: EndsInSilence,
    a_synced_commit_stays_synced_after_the_end: NeverSyncs,
    the_end_answers_every_wait_for_a_sync: NeverSyncs,
    the_end_ends_a_subscription_with_an_error: EndsInSilence,
    events_outlive_the_store: ReopeningStampsAgain,
    checksums_outlive_the_store: ReopeningStampsAgain,
    the_head_outlives_the_store: ReopeningForgetsTheHead,
    positions_continue_after_reopening: ReopeningStartsAtOne,
    keys_outlive_the_store: ReopeningForgetsKeys,
    tracking_outlives_the_store: ReopeningForgetsTracking,
    tracking_alone_outlives_the_store: ReopeningForgetsTrackingAlone,
    commits_outlive_the_store: ReopeningForgetsKeys,
    conditions_see_events_from_before_reopening: ReopeningForgetsTags,
    look_ups_see_events_from_before_reopening: ReopeningForgetsTags,
    the_identity_outlives_the_store: ReopeningChangesTheIdentity,
    an_empty_log_can_be_reopened: ReopeningChangesTheIdentity,
    a_log_can_be_reopened_often: ReopeningLosesTheLastCommit,
    recorded_at_does_not_go_back_after_reopening: ReopeningForgetsTheTime,
    generated_operations_agree_with_the_model: ConflictsNameTheFirstMatch,
    generated_operations_agree_in_small_batches: LosesWhatDoesNotFit,
    generated_operations_agree_across_reopening: ReopeningForgetsKeys,
}
