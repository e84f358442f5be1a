//! The list of all cases. Each has a name, the file with its code, its needs, and the promise that
//! it proves. Both the table of cases and the tests of [`conformance!`](crate::conformance) are
//! generated from this list.

use super::{Case, Need::*};

/// Every case of the suite, in the order of the contract.
pub fn cases() -> &'static [Case] {
    const CASES: &[Case] = crate::__conformance_cases! { (case_table) () };
    CASES
}

macro_rules! case_table {
    (() $($name:ident: $group:ident, $needs:tt, $proves:literal;)*) => {
        &[$(Case {
            name: stringify!($name),
            proves: $proves,
            needs: &$needs,
            run: super::$group::$name,
        }),*]
    };
}
use case_table;

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_cases {
    (($($then:tt)+) $arguments:tt) => {
        $($then)+! {
            $arguments
            positions_are_dense_from_one: append, [],
                "Positions are dense, in commit order, and start at 1.";
            events_of_a_commit_keep_their_order: append, [],
                "The events of a commit stand next to each other, in the order given.";
            a_commit_of_many_events_is_complete: append, [],
                "A commit of thousands of events is written whole.";
            accepted_positions_are_those_of_the_events: append, [],
                "An append returns the positions of its events.";
            a_synced_commit_is_readable: append, [],
                "Once a commit is synced, head, reads and look-ups show it.";
            several_can_wait_for_one_sync: append, [],
                "Any number of clones can wait for the sync of one commit, also after it.";
            look_ups_show_only_what_is_published: publish, [],
                "Look-ups show a commit only once it is published.";
            a_sync_is_done_once_its_commit_is_published: publish, [],
                "A sync is done once its commit is published, and not before.";
            a_commit_is_published_without_a_wait_for_its_sync: publish, [],
                "An accepted commit is published even if no caller waits for its sync.";
            a_dropped_append_is_complete_or_absent: append, [],
                "The commit of a dropped append exists completely or not at all.";
            every_field_is_read_as_written: append, [],
                "Type, version, tags, payload, id and metadata are read as they were written.";
            bytes_are_the_encoding_of_the_event: append, [],
                "The bytes of an event in a batch are its encoding.";
            the_checksum_of_an_event_is_known_from_its_append: append, [],
                "The checksum that follows from an append is that of every later read.";
            a_checksum_is_that_of_the_event_that_is_read: append, [],
                "`checksum` is that of the event that a read returns, and `None` above the head.";
            an_event_has_a_type: append, [],
                "An event without a type is invalid, and its commit writes nothing.";
            an_event_occurred_at_an_instant_that_has_a_text: append, [],
                "An event that occurred outside of the calendar is invalid, and writes nothing.";
            a_payload_is_any_bytes: append, [],
                "A payload may be empty, contain NULs, and need not be text.";
            tags_are_a_set_in_the_order_given: append, [],
                "Tags of an event are a set and keep the order in which they were given.";
            an_append_of_nothing_writes_nothing: append, [],
                "An append without events and tracking writes nothing and uses no position.";
            an_append_of_nothing_is_checked: append, [],
                "An append without events and tracking is still checked.";
            an_append_of_nothing_is_synced_after_the_commits_it_saw: append, [],
                "An append without events is synced once the commits that it saw are synced.";
            a_fresh_log_accepts_an_append_of_nothing: append, [],
                "An append of nothing to an empty log returns positions 1 and 0.";
            reading_takes_nothing_away: append, [],
                "A repeated read gives the same events.";

            tracking_is_checked_before_the_key: checks, [],
                "If tracking and key both fail, the refusal is about tracking.";
            tracking_is_checked_before_the_condition: checks, [],
                "If tracking and condition both fail, the refusal is about tracking.";
            the_key_is_checked_before_the_condition: checks, [],
                "If key and condition both fail, the refusal is about the key.";
            every_check_has_to_pass: checks, [],
                "A commit is refused unless tracking, key and condition all pass.";
            a_refused_commit_leaves_no_event: checks, [],
                "A refused commit writes no event, moves no head and uses no position.";
            a_refused_commit_leaves_its_key_free: checks, [],
                "The key of a refused commit is not stored.";
            a_refused_commit_moves_no_tracking: checks, [],
                "The tracking of a refused commit is not stored.";
            a_refusal_does_not_stop_the_store: checks, [],
                "After a refusal the store accepts the next commit as before.";
            checks_see_accepted_commits: checks, [],
                "Every check sees all commits accepted before, synced or not.";
            a_refusal_rests_on_published_commits: checks, [],
                "The commits that cause a refusal are published when the refusal is returned.";

            a_match_after_the_position_is_a_conflict: condition, [],
                "An event that matches after the condition's position is a conflict.";
            no_match_after_the_position_is_no_conflict: condition, [],
                "Without a match after the condition's position the commit is accepted.";
            a_match_at_the_position_is_no_conflict: condition, [],
                "The condition's position is exclusive: a match at it is no conflict.";
            a_match_just_after_the_position_is_a_conflict: condition, [],
                "The very next position after the condition's is considered.";
            a_condition_from_the_start_sees_the_whole_log: condition, [],
                "A condition after position 0 considers every event in the log.";
            a_conflict_names_the_last_match: condition, [],
                "A conflict names the position of the last match.";
            the_position_may_be_above_the_last_match: condition, [],
                "A condition's position may be above the last match.";
            a_commit_does_not_conflict_with_itself: condition, [],
                "A condition does not consider the events of its own commit.";
            a_condition_takes_any_of_the_types: condition, [],
                "A condition's item matches any of its types.";
            a_condition_takes_all_of_the_tags: condition, [],
                "A condition's item matches only events with all of its tags.";
            a_condition_takes_any_of_the_items: condition, [],
                "A condition matches any of its items, and does not mix them.";
            a_condition_on_everything_is_on_the_head: condition, [],
                "A condition on everything is violated by any commit after its position.";
            a_condition_on_nothing_never_refuses: condition, [],
                "A condition on nothing is always met.";
            a_condition_above_the_head_is_invalid: condition, [],
                "A condition after a position that the log has not reached is invalid.";
            any_of_several_conditions_refuses: condition, [],
                "One violated condition refuses the commit, at any place among several.";
            a_commit_needs_all_of_its_conditions: condition, [],
                "A commit is accepted if all of its conditions hold, and only then.";
            each_condition_counts_from_its_own_position: condition, [],
                "Each of several conditions considers the events after its own position.";
            a_conflict_over_several_conditions_names_the_last_match: condition, [],
                "A conflict names the last match of all conditions, with its condition's position.";
            every_condition_sees_accepted_commits: condition, [],
                "Each of several conditions sees all commits accepted before, synced or not.";
            any_condition_above_the_head_is_invalid: condition, [],
                "One condition above the head makes a commit invalid, also beside violated ones.";

            a_key_finds_its_commit: key, [],
                "A key finds the first and last position of its commit, and the digest.";
            an_unused_key_finds_nothing: key, [],
                "Only the whole name of a key finds its commit.";
            a_repeated_request_gets_the_positions_of_the_first: key, [],
                "A repeated request is refused with the positions of the first commit.";
            another_request_under_a_used_key_is_refused_as_reused: key, [],
                "A different request under a used key is refused as a reused key.";
            digests_are_compared_whole: key, [],
                "All 16 bytes of a digest distinguish requests.";
            a_key_without_events_is_invalid: key, [],
                "A key without events is invalid and not remembered.";
            a_key_has_a_name: key, [],
                "A key with an empty name is invalid.";
            keys_are_a_space_of_their_own: key, [],
                "Keys are separate from types, tags and sources of the same text.";
            a_key_is_remembered_for_ever: key, [],
                "A key is remembered also after hundreds of other keys.";

            tracking_is_stored_with_the_commit: tracking, [],
                "Source, origin and position are stored with their commit.";
            tracking_accepts_only_higher_positions: tracking, [],
                "A position of a source at or below the stored one is refused.";
            tracking_may_skip_positions: tracking, [],
                "A source's positions may leave gaps.";
            a_tracking_refusal_names_the_head_of_the_import: tracking, [],
                "A tracking refusal names the head at which the tracking was stored.";
            another_origin_is_refused: tracking, [],
                "Another log or epoch under the same source name is refused.";
            sources_are_tracked_apart: tracking, [],
                "Sources are distinguished by their whole names.";
            tracking_alone_is_a_commit: tracking, [],
                "Tracking without events is a commit that uses no position.";
            tracking_alone_is_checked: tracking, [],
                "Tracking without events is subject to the other checks.";
            tracking_alone_in_an_empty_log: tracking, [],
                "Tracking can be the first commit of a log.";
            a_source_has_a_name: tracking, [],
                "A source with an empty name is invalid.";

            a_filter_takes_any_of_the_types: filter, [],
                "An item matches any of its types.";
            a_filter_takes_all_of_the_tags: filter, [],
                "An item matches only events with all of its tags.";
            a_filter_takes_type_and_tags_of_an_item: filter, [],
                "An item with types and tags matches only events that have both.";
            a_filter_takes_any_of_the_items: filter, [],
                "A filter matches any of its items.";
            items_of_a_filter_do_not_mix: filter, [],
                "Types of one item are not combined with tags of another.";
            overlapping_items_give_an_event_once: filter, [],
                "An event that matches several items is returned once.";
            a_term_given_twice_changes_nothing: filter, [],
                "A repeated type or tag in a filter has no effect.";
            everything_is_every_event: filter, [],
                "A filter on everything matches every event.";
            nothing_is_no_event: filter, [],
                "A filter without items matches no event.";
            unknown_types_and_tags_match_nothing: filter, [],
                "Types and tags that no event has match nothing, and are no error.";

            a_read_gives_events_in_order: read, [],
                "A read returns events from low positions to high ones.";
            a_read_backwards_gives_events_in_reverse: read, [],
                "A backward read returns events from high positions to low ones.";
            a_read_starts_just_after: read, [],
                "A read returns the events above its `after`, without the one at it.";
            a_read_ends_at_upto: read, [],
                "A read returns the events up to its `upto`, including the one at it.";
            both_bounds_hold_in_both_directions: read, [],
                "`after` and `upto` bound a read in both directions.";
            a_read_goes_to_the_head_at_most: read, [],
                "If `upto` is above the head, the read and its batch end at the head.";
            a_read_from_above_the_head_is_invalid: read, [],
                "A read from a position that the log has not reached is invalid.";
            a_read_gives_at_most_its_limit: read, [],
                "A batch has at most as many events as its read's limit.";
            a_limit_backwards_counts_from_the_high_end: read, [],
                "The limit of a backward read counts from the high end.";
            a_limit_of_zero_considers_nothing: read, [],
                "A read with limit 0 considers nothing, and its `upto` shows that.";
            upto_covers_events_that_do_not_match: read, [],
                "A batch's `upto` covers events that do not match, up to the head.";
            upto_stops_before_a_match_left_out: read, [],
                "A batch's `upto` never passes a match that is not in the batch.";
            upto_backwards_stops_above_a_match_left_out: read, [],
                "The `upto` of a backward batch never passes a match that is not in it.";
            upto_is_within_the_bounds: read, [],
                "A batch's `upto` stays within the bounds of its read, in both directions.";
            an_empty_log_reads_empty: read, [],
                "A read of an empty log returns an empty batch.";

            paging_forwards_gives_every_match_once: page, [],
                "Pages after each `upto` contain every match once, with any limit.";
            paging_backwards_gives_every_match_once: page, [],
                "Pages below each `upto` contain every match once, with any limit.";
            small_batches_neither_lose_nor_repeat_events: page, [SmallLimits],
                "Batches that the store's limits cut short neither lose nor repeat events.";

            a_batch_tells_where_its_commit_ends: commits, [],
                "A batch has the last position of the commit that its `upto` belongs to.";
            a_batch_up_to_any_position_tells_where_its_commit_ends: commits, [],
                "A batch has the end of its commit, also if no event of that commit matches.";
            whole_commits_are_those_that_were_accepted: commits, [],
                "Whole commits have the positions and events of the appends, in order.";
            a_commit_is_read_whole: commits, [],
                "A commit is read whole, also if it is larger than the limit of the read.";
            a_commit_is_read_whole_in_small_batches: commits, [SmallLimits],
                "A commit is read whole, also if it is larger than a batch of the store.";
            batches_of_commits_keep_to_their_limits: commits, [SmallLimits],
                "A batch of several commits is within the limits of the read and of the store.";
            commits_have_their_keys: commits, [],
                "A commit is read with its key and the digest of its request.";
            commits_have_their_tracking: commits, [],
                "A commit is read with its tracking, origin included.";
            commits_have_their_times: commits, [],
                "A commit is read with the time at which it was recorded.";
            commits_without_events_are_read: commits, [],
                "Of commits without events next to each other, the newest of each source is read.";
            commits_are_read_after_the_end_of_one: commits, [],
                "Whole commits are read after the end of a commit; another position is an error.";
            a_copy_by_whole_commits_is_equal: commits, [CallerTime],
                "A store that takes the commits of another has its events, keys and tracking.";

            last_is_the_last_match: lookup, [],
                "`last` is the position of the last match.";
            last_looks_at_and_below_upto: lookup, [],
                "`last` considers the positions at and below `upto`.";
            last_of_no_match_is_none: lookup, [],
                "`last` without a match is `None`.";
            look_ups_may_ask_above_the_head: lookup, [],
                "`last` and `count` accept an `upto` above the head.";
            count_is_the_revision_of_a_tag: lookup, [],
                "`count` is the number of events that carry a tag.";
            count_upto_an_event_is_its_rank: lookup, [],
                "`count` up to an event's position is its rank among the events of the tag.";
            an_unknown_tag_counts_zero: lookup, [],
                "`count` of an unknown tag is 0.";
            every_type_is_listed_once: lookup, [],
                "`types` lists each event type in the log once, in order.";
            a_tag_given_twice_counts_once: lookup, [],
                "A repeated tag of one event counts once.";
            look_ups_are_right_in_a_large_log: lookup, [],
                "`last` and `count` are right in a log of thousands of events.";

            a_fresh_log_is_empty: head, [],
                "A fresh log has head 0 and no events.";
            the_head_is_the_last_position: head, [],
                "The head is the position of the last event.";
            a_held_head_moves: head, [],
                "A head that a caller holds moves with the log.";
            a_wait_for_the_head_wakes: head, [],
                "A wait for a position ends when the position is published.";
            a_fresh_head_has_every_synced_commit: head, [],
                "The fresh head is at least each position that was synced before the call.";
            a_log_keeps_its_identity: head, [],
                "A log's id and epoch stay the same while it is open.";
            every_log_has_its_own_identity: head, [],
                "Two logs have different ids.";
            two_logs_share_nothing: head, [],
                "Two logs share nothing.";

            recorded_at_never_decreases: time, [],
                "`recorded_at` never decreases along the log.";
            a_commit_is_recorded_at_one_instant: time, [],
                "All events of a commit have the same `recorded_at`.";
            recorded_at_of_an_event_never_changes: time, [],
                "`recorded_at` of an event never changes.";
            a_store_with_a_clock_refuses_a_given_time: time, [],
                "A store that takes time from its clock refuses a time in an append.";
            the_callers_time_is_recorded: time, [CallerTime],
                "A store that takes time from its caller records that time.";
            the_callers_time_is_raised_to_the_last: time, [CallerTime],
                "A caller's time that went back is raised to the last recorded time.";
            a_missing_caller_time_is_invalid: time, [CallerTime],
                "A store that takes time from its caller refuses an append without a time.";
            the_time_of_a_refused_commit_does_not_count: time, [CallerTime],
                "The time of a refused commit does not become the last recorded time.";
            accepted_reports_its_recorded_at: time, [],
                "An accepted commit has the `recorded_at` that later reads return.";
            accepted_reports_the_callers_time_as_recorded: time, [CallerTime],
                "An accepted commit has the caller's time as it is recorded.";
            an_append_of_nothing_reports_the_last_time: time, [],
                "An append that records nothing returns the last recorded time.";

            event_bytes_is_enforced: limits, [SmallLimits],
                "An event may have `event_bytes` and no more.";
            type_bytes_is_enforced: limits, [SmallLimits],
                "A type may have `type_bytes` and no more.";
            tag_bytes_is_enforced: limits, [SmallLimits],
                "A tag may have `tag_bytes` and no more.";
            tags_per_event_is_enforced: limits, [SmallLimits],
                "An event may have `tags_per_event` and no more.";
            metadata_bytes_is_enforced: limits, [SmallLimits],
                "Actor and extra metadata may have `metadata_bytes` and no more.";
            commit_events_is_enforced: limits, [SmallLimits],
                "A commit may have `commit_events` and no more.";
            commit_bytes_is_enforced: limits, [SmallLimits],
                "A commit may have `commit_bytes` and no more.";
            commit_conditions_is_enforced: limits, [SmallLimits],
                "A commit may have `commit_conditions` and no more.";
            key_bytes_is_enforced: limits, [SmallLimits],
                "A key may have `key_bytes` and no more.";
            source_bytes_is_enforced: limits, [SmallLimits],
                "A source may have `source_bytes` and no more.";
            tracking_sources_is_enforced: limits, [SmallLimits],
                "A log may have `tracking_sources` and no more.";
            filter_items_is_enforced: limits, [SmallLimits],
                "A filter may have `filter_items` and no more, wherever it is used.";
            filter_terms_is_enforced: limits, [SmallLimits],
                "A filter may have `filter_terms` and no more, wherever it is used.";
            filters_of_a_commit_are_bounded_together: limits, [SmallLimits],
                "Items and terms of all conditions of a commit count together.";
            a_batch_holds_at_most_batch_events: page, [SmallLimits],
                "A batch has at most `batch_events`.";
            a_batch_holds_at_most_batch_bytes: page, [SmallLimits],
                "A batch has at most `batch_bytes`, and skips no event.";
            an_event_larger_than_a_batch_is_read_alone: page, [SmallLimits],
                "An event larger than `batch_bytes` is read alone.";
            an_invalid_last_event_leaves_nothing_of_its_commit: limits, [SmallLimits],
                "A commit with an invalid last event writes none of its events.";
            a_store_enforces_the_limits_it_reports: limits, [SmallLimits],
                "A store enforces the limits that it reports.";

            hostile_types_are_told_apart: hostile, [],
                "Types of any text are read as written and distinguished.";
            hostile_tags_are_told_apart: hostile, [],
                "Tags of any text are read as written and distinguished.";
            hostile_keys_are_told_apart: hostile, [],
                "Keys of any text are distinguished.";
            hostile_sources_are_told_apart: hostile, [],
                "Sources of any text are distinguished.";
            hostile_metadata_is_read_as_written: hostile, [],
                "Metadata of any text is read as written.";
            a_tag_is_not_found_by_its_prefix: hostile, [],
                "A tag does not match another one that begins with the same text.";
            a_type_is_not_a_tag: hostile, [],
                "A type and a tag of the same text are distinguished.";
            a_tag_may_have_an_empty_value: hostile, [],
                "A tag with an empty value is stored and found.";
            an_event_is_found_by_each_of_its_tags: hostile, [],
                "An event with the maximum of tags is found by each tag and by all together.";
            names_may_be_as_long_as_the_limits: hostile, [],
                "Names of the maximum length are distinguished.";
            a_long_name_in_a_filter_finds_nothing: hostile, [],
                "Names that are too long to be stored match nothing, and are no error.";

            an_event_is_seen_by_each_of_its_tags_in_every_call: extremes, [],
                "An event of any number of tags is seen by each of them, in every call.";
            each_tag_of_an_item_counts: extremes, [],
                "An event that lacks any one of the tags of an item does not match.";
            each_condition_of_the_most_is_checked: extremes, [],
                "Each condition of a commit with as many as are allowed is checked.";
            each_item_and_type_of_the_most_is_considered: extremes, [],
                "Each item and each type of a large filter is considered, in every call.";
            a_read_of_any_limit_is_right_in_both_directions: extremes, [],
                "Pages of any limit contain every match once, in both directions.";
            a_count_has_no_small_limit: extremes, [],
                "`count` is right for hundreds of events.";
            a_conflict_far_away_is_named: extremes, [],
                "A conflict names the event, however far from the head it is.";
            payloads_of_any_size_are_read_as_written: extremes, [],
                "Payloads of any size are read as they were written.";
            numbers_are_stored_whole: extremes, [],
                "Versions and tracked positions of any size are read as they were written.";
            many_commits_have_their_facts: extremes, [],
                "Each of several hundred commits is read with its key and its tracking.";
            many_keys_outlive_the_store: extremes, [Reopening],
                "Each of several hundred keys is found and refused after reopening.";
            many_sources_outlive_the_store: extremes, [Reopening],
                "Each of several hundred sources is found and refused after reopening.";

            one_of_64_contenders_wins: concurrent, [],
                "If 64 threads decide on one boundary at once, one wins.";
            every_boundary_has_its_own_winner: concurrent, [],
                "Each of several contended boundaries has one winner.";
            boundaries_that_overlap_exclude_each_other: concurrent, [],
                "Commits with overlapping boundaries exclude each other.";
            conditions_that_overlap_exclude_each_other: concurrent, [],
                "Commits with overlapping conditions exclude each other.";
            a_loser_finds_the_winning_event: concurrent, [],
                "A conflict names a position that is published and has the winning event.";
            retries_lose_no_update: concurrent, [],
                "Threads that read, decide and retry on a conflict lose no update.";
            one_of_many_sends_of_a_key_is_committed: concurrent, [],
                "One of 100 parallel sends of a key is committed; the others get its positions.";
            parallel_imports_take_each_position_once: concurrent, [],
                "Parallel imports of one source take each position once, in order.";
            parallel_commits_share_no_position: concurrent, [],
                "Parallel commits get dense positions, and share none.";
            parallel_commits_do_not_mix: concurrent, [],
                "Events of parallel commits do not mix.";
            parallel_commits_are_recorded_in_order: concurrent, [],
                "`recorded_at` never decreases under parallel commits either.";

            events_up_to_an_observed_head_are_readable: publish, [],
                "Every event up to an observed head can be read at once.";
            nothing_appears_at_or_below_an_observed_position: publish, [],
                "Events at or below an observed position never change.";
            a_head_is_never_inside_a_commit: publish, [],
                "Readers see a commit completely or not at all.";
            the_head_never_goes_back: publish, [],
                "The head never goes back.";
            look_ups_agree_with_the_head: publish, [],
                "`last` and `count` agree with a read up to the same head.";

            a_subscription_catches_up_and_goes_live: subscribe, [],
                "A subscription delivers existing events, reports `CaughtUp`, and goes live.";
            a_subscription_to_an_empty_log_is_live_at_once: subscribe, [],
                "A subscription to an empty log is live at once.";
            a_waiting_subscription_wakes: subscribe, [],
                "The next commit wakes a waiting subscription.";
            a_selective_subscription_catches_up: subscribe, [],
                "A subscription whose filter matches little or nothing catches up.";
            a_live_subscription_advances_over_other_events: subscribe, [],
                "A live subscription advances over events that do not match.";
            a_subscription_misses_nothing_while_8_writers_append: subscribe, [],
                "Under parallel commits a subscription delivers each match once, in order.";
            a_slow_subscription_reports_that_it_fell_behind: subscribe, [],
                "A live subscription that falls behind reports by how much.";
            a_subscription_from_above_the_head_is_an_error: subscribe, [],
                "A subscription from a position that the log has not reached is an error.";
            a_dropped_wait_loses_no_event: subscribe, [],
                "A dropped wait for a delivery loses no event.";
            subscriptions_do_not_take_from_each_other: subscribe, [],
                "Subscriptions are independent of each other.";
            a_subscription_continues_where_another_stopped: subscribe, [],
                "A subscription continues at the position where another stopped.";

            handles_are_on_one_log: handles, [SecondHandle],
                "Two handles on a log have one identity and show the same events.";
            a_store_with_other_writers_says_so: handles, [SecondHandle],
                "A store whose log can have other writers says so, on every handle.";
            a_fresh_head_sees_other_handles: handles, [SecondHandle],
                "The fresh head has each commit that was synced through another handle before.";
            a_fresh_head_moves_the_head: handles, [SecondHandle],
                "When a fresh head is known, the head of that handle has reached it.";
            reads_after_a_fresh_head_see_other_handles: handles, [SecondHandle],
                "After a fresh head, reads and look-ups show the events of other handles.";
            a_key_of_another_handle_is_found_after_a_fresh_head: handles, [SecondHandle],
                "After a fresh head, the keys and tracking of other handles are found.";
            conditions_see_other_handles: handles, [SecondHandle],
                "Conditions see the commits of other handles, whatever the head of this one.";
            keys_and_tracking_are_checked_across_handles: handles, [SecondHandle],
                "Keys and tracking of other handles refuse a commit, whatever the head.";
            a_refusal_publishes_what_it_rests_on: handles, [SecondHandle],
                "A refusal moves the head of its handle to the commits of others that it names.";
            a_head_follows_other_handles: handles, [SecondHandle],
                "The head of a handle follows the commits of another one by itself.";
            a_condition_at_a_position_of_another_handle_is_valid: handles, [SecondHandle],
                "A condition may count from a position that only another handle has shown.";

            an_ended_store_accepts_no_commits: end, [Ending],
                "A store that has ended refuses every append as unavailable.";
            an_ended_store_ends_its_head: end, [Ending],
                "The head of an ended store is ended, and waits for more are errors.";
            the_end_wakes_waiters: end, [Ending],
                "The end of a store wakes all waits for its head.";
            a_synced_commit_stays_synced_after_the_end: end, [Ending],
                "A synced commit stays synced after the end of its store.";
            the_end_answers_every_wait_for_a_sync: end, [Ending],
                "Every wait for a sync gets an answer when the store ends.";
            the_end_ends_a_subscription_with_an_error: end, [Ending],
                "A subscription ends with an error that has the position to continue after.";

            events_outlive_the_store: reopen, [Reopening],
                "Events, positions and `recorded_at` are the same after reopening.";
            checksums_outlive_the_store: reopen, [Reopening],
                "The checksum of each event is the same after reopening.";
            the_head_outlives_the_store: reopen, [Reopening],
                "The head is the same after reopening.";
            positions_continue_after_reopening: reopen, [Reopening],
                "Positions continue after reopening.";
            keys_outlive_the_store: reopen, [Reopening],
                "Keys, with positions and digests, are found after reopening.";
            tracking_outlives_the_store: reopen, [Reopening],
                "Tracking, with its origin, is found after reopening.";
            tracking_alone_outlives_the_store: reopen, [Reopening],
                "Tracking that was committed without events is found after reopening.";
            commits_outlive_the_store: reopen, [Reopening],
                "Whole commits are the same after reopening.";
            conditions_see_events_from_before_reopening: reopen, [Reopening],
                "Conditions see the events from before reopening.";
            look_ups_see_events_from_before_reopening: reopen, [Reopening],
                "Reads, `last` and `count` see the events from before reopening.";
            the_identity_outlives_the_store: reopen, [Reopening],
                "Id and epoch stay the same after a clean close.";
            an_empty_log_can_be_reopened: reopen, [Reopening],
                "A log without commits can be reopened.";
            a_log_can_be_reopened_often: reopen, [Reopening],
                "A log can be reopened after every commit.";
            recorded_at_does_not_go_back_after_reopening: reopen, [Reopening, CallerTime],
                "`recorded_at` does not go back after reopening.";

            generated_operations_agree_with_the_model: model, [],
                "A store answers generated operations like the model.";
            generated_operations_agree_in_small_batches: model, [SmallLimits],
                "A store with small batches answers generated operations like the model.";
            generated_operations_agree_across_reopening: model, [Reopening],
                "A store that is reopened in between answers generated operations like the model.";
        }
    };
}
