//! The left panel: the commands, and the rules that decide about them.

use diptych::{Command, DecisionContext, Filter, Fold, Invalid, Recorded, Tag};
use serde::Serialize;

use crate::Membership;

/// The owner of an address.
#[derive(Default)]
pub(crate) struct Address {
    member: Option<String>,
}

impl Fold for Address {
    type Event = Membership;

    fn apply(&mut self, event: &Recorded<Membership>) {
        self.member = match &event.event {
            Membership::Registered { member, .. } => Some(member.clone()),
            Membership::Left { .. } => None,
        }
    }
}

/// The state of a member, for the rules.
#[derive(Default)]
pub(crate) struct Member {
    email: Option<String>,
}

impl Fold for Member {
    type Event = Membership;

    fn apply(&mut self, event: &Recorded<Membership>) {
        self.email = match &event.event {
            Membership::Registered { email, .. } => Some(email.clone()),
            Membership::Left { .. } => None,
        }
    }
}

#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("{0} is taken")]
    EmailTaken(String),
    #[error("this member is registered already")]
    Registered,
    #[error("there is no such member")]
    NoMember,
}

#[derive(Serialize)]
pub(crate) struct Register {
    pub(crate) member: String,
    pub(crate) email: String,
}

impl Command for Register {
    type State = (Member, Address);
    type Event = Membership;
    type Rejection = Refused;

    fn boundary(&self) -> (Filter, Filter) {
        let member = Filter::tag(Tag::new("member", &self.member));
        (member, Filter::tag(Tag::new("email", &self.email)))
    }

    fn validate(&self) -> Result<(), Invalid> {
        match self.email.contains('@') && self.email == self.email.to_lowercase() {
            true => Ok(()),
            false => Err(Invalid::new("email", "write an address in lower case")),
        }
    }

    fn decide(
        &self,
        (member, address): (&Member, &Address),
        _: &DecisionContext,
    ) -> Result<Vec<Membership>, Refused> {
        if member.email.is_some() {
            return Err(Refused::Registered);
        }
        if address.member.is_some() {
            return Err(Refused::EmailTaken(self.email.clone()));
        }
        let (member, email) = (self.member.clone(), self.email.clone());
        Ok(vec![Membership::Registered { member, email }])
    }
}

#[derive(Serialize)]
pub(crate) struct Leave {
    pub(crate) member: String,
}

impl Command for Leave {
    type State = Member;
    type Event = Membership;
    type Rejection = Refused;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("member", &self.member))
    }

    fn decide(&self, member: &Member, _: &DecisionContext) -> Result<Vec<Membership>, Refused> {
        let email = member.email.clone().ok_or(Refused::NoMember)?;
        // The address is a tag, so that a rule about the address sees that it is free.
        Ok(vec![Membership::Left { member: self.member.clone(), email }])
    }
}
