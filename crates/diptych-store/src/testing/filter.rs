//! Filters in reads: OR of items, OR of types, AND of tags.

use super::{
    Suite,
    probe::{Probe, event},
};
use crate::{
    batch::Read,
    filter::{Filter, FilterItem},
};

fn prepared(suite: &Suite<'_>) -> Probe {
    let probe = suite.probe();
    probe.put([
        event("a", &["k:1"]),
        event("b", &["k:1", "l:1"]),
        event("c", &["k:2", "l:1"]),
        event("a", &["l:1", "k:1", "m:1"]),
        event("b", &[]),
    ]);
    probe
}

#[track_caller]
fn finds(probe: &Probe, filter: &str, positions: &[u64]) {
    assert_eq!(probe.positions(filter), positions, "{filter}");
}

pub(super) fn a_filter_takes_any_of_the_types(suite: &Suite<'_>) {
    let probe = prepared(suite);
    finds(&probe, "type=a", &[1, 4]);
    finds(&probe, "type=a,b", &[1, 2, 4, 5]);
    finds(&probe, "type=c,a,b", &[1, 2, 3, 4, 5]);
    finds(&probe, "type=b,zzz", &[2, 5]);
}

pub(super) fn a_filter_takes_all_of_the_tags(suite: &Suite<'_>) {
    let probe = prepared(suite);
    finds(&probe, "tag=k:1", &[1, 2, 4]);
    finds(&probe, "tag=k:1 tag=l:1", &[2, 4]);
    finds(&probe, "tag=m:1 tag=l:1 tag=k:1", &[4]);
    finds(&probe, "tag=k:1 tag=k:2", &[]);
    finds(&probe, "tag=k:1 tag=zzz:1", &[]);
}

pub(super) fn a_filter_takes_type_and_tags_of_an_item(suite: &Suite<'_>) {
    let probe = prepared(suite);
    finds(&probe, "type=a tag=l:1", &[4]);
    finds(&probe, "type=a,b tag=k:1", &[1, 2, 4]);
    finds(&probe, "type=c tag=k:1", &[]);
}

pub(super) fn a_filter_takes_any_of_the_items(suite: &Suite<'_>) {
    let probe = prepared(suite);
    finds(&probe, "type=c or tag=m:1", &[3, 4]);
    finds(&probe, "tag=k:2 or tag=m:1 or type=b", &[2, 3, 4, 5]);
    finds(&probe, "type=zzz or type=c", &[3]);
}

pub(super) fn items_of_a_filter_do_not_mix(suite: &Suite<'_>) {
    let probe = prepared(suite);
    finds(&probe, "type=a tag=k:2 or type=c tag=k:1", &[]);
    finds(&probe, "type=a tag=m:1 or type=b tag=l:1", &[2, 4]);
}

pub(super) fn overlapping_items_give_an_event_once(suite: &Suite<'_>) {
    let probe = prepared(suite);
    finds(&probe, "tag=k:1 or tag=l:1", &[1, 2, 3, 4]);
    finds(&probe, "type=a or type=a,b or tag=k:1 or tag=k:1 tag=l:1", &[1, 2, 4, 5]);
    finds(&probe, "type=a or *", &[1, 2, 3, 4, 5]);
}

pub(super) fn a_term_given_twice_changes_nothing(suite: &Suite<'_>) {
    let probe = prepared(suite);
    finds(&probe, "type=a,a", &[1, 4]);
    finds(&probe, "tag=k:1 tag=k:1", &[1, 2, 4]);
}

pub(super) fn everything_is_every_event(suite: &Suite<'_>) {
    let probe = prepared(suite);
    finds(&probe, "*", &[1, 2, 3, 4, 5]);
    finds(&probe, "type=zzz or *", &[1, 2, 3, 4, 5]);
    let empty_item = Filter::from(FilterItem::everything());
    assert_eq!(probe.seen(&empty_item, Read::all()).len(), 5);
}

pub(super) fn nothing_is_no_event(suite: &Suite<'_>) {
    let probe = prepared(suite);
    finds(&probe, "nothing", &[]);
    assert_eq!(probe.last("nothing", 5), None);
}

pub(super) fn unknown_types_and_tags_match_nothing(suite: &Suite<'_>) {
    let probe = prepared(suite);
    finds(&probe, "type=zzz", &[]);
    finds(&probe, "tag=zzz:1", &[]);
    finds(&probe, "type=zzz tag=k:1", &[]);
}
