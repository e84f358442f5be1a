//! The filters of live subscribers, found by the tags and types of an event.

use std::{collections::HashMap, sync::Arc};

use diptych::store::{Batch, EventRef, Filter};

use crate::hinge::live::{mailbox::Mailbox, page::LivePage};

/// The subscribers by their filters.
#[derive(Default)]
pub(crate) struct FilterIndex {
    groups: HashMap<u64, FilterGroup>,
    by_filter: HashMap<Filter, u64>,
    /// The groups with an item that asks for this tag first.
    by_tag: HashMap<Box<str>, Vec<u64>>,
    /// The groups with an item that asks for this type, and for no tag.
    by_type: HashMap<Box<str>, Vec<u64>>,
    /// The groups with an item that asks for nothing.
    of_all: Vec<u64>,
    last_group: u64,
    last_member: u64,
}

/// Subscribers with one filter.
struct FilterGroup {
    filter: Filter,
    members: Vec<(u64, Arc<Mailbox>)>,
    /// The indexes of the events in a batch that match, while the batch is delivered.
    matching: Vec<u32>,
}

/// A subscriber in the index.
pub(crate) struct MemberId {
    group: u64,
    member: u64,
}

/// Where an item of a filter stands.
enum Place<'f> {
    Tag(&'f str),
    Types(Vec<&'f str>),
    All,
}

fn places(filter: &Filter) -> impl Iterator<Item = Place<'_>> {
    filter.items().iter().map(|item| match (item.tags.first(), item.types.is_empty()) {
        (Some(tag), _) => Place::Tag(tag.as_str()),
        (None, false) => Place::Types(item.types.iter().map(AsRef::as_ref).collect()),
        (None, true) => Place::All,
    })
}

impl FilterIndex {
    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    pub(crate) fn enter(&mut self, filter: &Filter, mailbox: Arc<Mailbox>) -> MemberId {
        self.last_member += 1;
        let member = self.last_member;
        let group = match self.by_filter.get(filter) {
            Some(group) => *group,
            None => self.add_group(filter),
        };
        if let Some(group) = self.groups.get_mut(&group) {
            group.members.push((member, mailbox));
        }
        MemberId { group, member }
    }

    fn add_group(&mut self, filter: &Filter) -> u64 {
        self.last_group += 1;
        let id = self.last_group;
        let add = |list: &mut Vec<u64>| {
            // A filter can ask for one tag in several items.
            if list.last() != Some(&id) {
                list.push(id);
            }
        };
        for place in places(filter) {
            match place {
                Place::Tag(tag) => add(self.by_tag.entry(tag.into()).or_default()),
                Place::Types(types) => {
                    for name in types {
                        add(self.by_type.entry(name.into()).or_default());
                    }
                }
                Place::All => add(&mut self.of_all),
            }
        }
        let (members, matching) = (Vec::new(), Vec::new());
        self.groups.insert(id, FilterGroup { filter: filter.clone(), members, matching });
        self.by_filter.insert(filter.clone(), id);
        id
    }

    /// Removes a subscriber, which may have been removed before.
    pub(crate) fn leave(&mut self, MemberId { group: id, member }: &MemberId) {
        let Some(group) = self.groups.get_mut(id) else { return };
        group.members.retain(|(other, _)| other != member);
        if group.members.is_empty() {
            self.remove_group(*id);
        }
    }

    fn remove_group(&mut self, id: u64) {
        let Some(FilterGroup { filter, .. }) = self.groups.remove(&id) else { return };
        self.by_filter.remove(&filter);
        for place in places(&filter) {
            match place {
                Place::Tag(tag) => remove(&mut self.by_tag, tag, id),
                Place::Types(types) => {
                    types.into_iter().for_each(|name| remove(&mut self.by_type, name, id));
                }
                Place::All => self.of_all.retain(|other| *other != id),
            }
        }
    }

    /// Gives each group with a matching event a page of these events. A subscriber without room for
    /// it is removed.
    pub(crate) fn deliver(&mut self, batch: &Batch, page: impl Fn(Vec<u32>) -> Arc<LivePage>) {
        for id in self.matching(batch) {
            let Some(group) = self.groups.get_mut(&id) else { continue };
            let page = page(std::mem::take(&mut group.matching));
            group.members.retain(|(_, mailbox)| mailbox.put(&page));
            if group.members.is_empty() {
                self.remove_group(id);
            }
        }
    }

    /// Notes the matching events of each group, and returns the groups that have some.
    fn matching(&mut self, batch: &Batch) -> Vec<u64> {
        let FilterIndex { groups, by_tag, by_type, of_all, .. } = self;
        let mut with_events = Vec::new();
        for (at, event) in (0_u32..).zip(batch.iter()) {
            let by_tag = event.tags().filter_map(|tag| by_tag.get(tag)).flatten();
            let by_type = by_type.get(event.event_type()).into_iter().flatten();
            for id in by_tag.chain(by_type).chain(&*of_all) {
                if let Some(group) = groups.get_mut(id)
                    && group.note(at, &event)
                    && group.matching.len() == 1
                {
                    with_events.push(*id);
                }
            }
        }
        with_events
    }

    /// Closes the mailboxes of all subscribers, and removes the subscribers.
    pub(crate) fn close(&mut self) {
        for group in std::mem::take(self).groups.into_values() {
            group.members.iter().for_each(|(_, mailbox)| mailbox.close());
        }
    }
}

impl FilterGroup {
    /// Notes the event if it matches and is not noted yet: several items can lead to one event.
    /// Returns whether it is noted now.
    fn note(&mut self, at: u32, event: &EventRef<'_>) -> bool {
        let is_new = self.matching.last() != Some(&at) && self.filter.matches(event);
        if is_new {
            self.matching.push(at);
        }
        is_new
    }
}

fn remove(lists: &mut HashMap<Box<str>, Vec<u64>>, name: &str, id: u64) {
    if let Some(list) = lists.get_mut(name) {
        list.retain(|other| *other != id);
        if list.is_empty() {
            lists.remove(name);
        }
    }
}
