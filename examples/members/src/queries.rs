//! The right panel: the view, and the queries to it.

use std::collections::BTreeMap;

use diptych::{Filter, Fold, Query, Recorded, Tag, Timestamp};

use crate::Membership;

/// The members by address, with the time at which each registered.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Directory {
    by_email: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) member: String,
    pub(crate) since: Timestamp,
}

impl Fold for Directory {
    type Event = Membership;

    fn apply(&mut self, event: &Recorded<Membership>) {
        match &event.event {
            Membership::Registered { member, email } => {
                let since = event.occurred_at();
                self.by_email.insert(email.clone(), Entry { member: member.clone(), since });
            }
            Membership::Left { email, .. } => drop(self.by_email.remove(email)),
        }
    }
}

/// Looks up the owner of an address.
pub(crate) struct WhoHas {
    pub(crate) email: String,
}

impl Query for WhoHas {
    type View = Directory;
    type Answer = Option<Entry>;

    fn answer(&self, directory: &Directory) -> Option<Entry> {
        directory.by_email.get(&self.email).cloned()
    }

    fn scope(&self) -> Filter {
        Filter::tag(Tag::new("email", &self.email))
    }
}

/// The members whose address begins with `prefix`.
pub(crate) struct Search {
    pub(crate) prefix: String,
}

impl Query for Search {
    type View = Directory;
    type Answer = Vec<String>;

    fn answer(&self, directory: &Directory) -> Vec<String> {
        let from = directory.by_email.range(self.prefix.clone()..);
        let found = from.take_while(|(email, _)| email.starts_with(&self.prefix));
        found.map(|(_, entry)| entry.member.clone()).collect()
    }
}
