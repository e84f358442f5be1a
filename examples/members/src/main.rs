//! Uniqueness: an email address belongs to one member at a time, and can be released again. That
//! is a fold over the address's own tag; no table of addresses has to be kept in step.
//! `cargo run -p example-members`
#![allow(clippy::print_stdout)] // It shows something.

#[cfg(test)]
mod tests;

use diptych::{App, Command, Event, ExecuteError, Filter, Fold, Invalid, Recorded, Tag};
use serde::Serialize;

#[derive(Debug, PartialEq, Event)]
enum Membership {
    #[event("member-registered")]
    Registered {
        #[tag]
        member: String,
        #[tag]
        email: String,
    },
    #[event("member-left")]
    Left {
        #[tag]
        member: String,
        #[tag]
        email: String,
    },
}

/// Whose an address is.
#[derive(Default)]
struct Address {
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

/// What the rules know of a member.
#[derive(Default)]
struct Member {
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
enum Refused {
    #[error("{0} is taken")]
    EmailTaken(String),
    #[error("this member is registered already")]
    Registered,
    #[error("there is no such member")]
    NoMember,
}

#[derive(Serialize)]
struct Register {
    member: String,
    email: String,
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

    fn decide(&self, (member, address): (&Member, &Address)) -> Result<Vec<Membership>, Refused> {
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
struct Leave {
    member: String,
}

impl Command for Leave {
    type State = Member;
    type Event = Membership;
    type Rejection = Refused;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("member", &self.member))
    }

    fn decide(&self, member: &Member) -> Result<Vec<Membership>, Refused> {
        let email = member.email.clone().ok_or(Refused::NoMember)?;
        // Tagged with the address, so that whoever asks about it knows that it is free.
        Ok(vec![Membership::Left { member: self.member.clone(), email }])
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let app = App::open(folder.path())?.start().await?;
    let register =
        |member: &str| Register { member: member.to_owned(), email: "ann@example.org".to_owned() };
    app.execute(register("ann")).await?;
    if let Err(ExecuteError::Rejected(reason)) = app.execute(register("another-ann")).await {
        println!("refused: {reason}");
    }
    app.execute(Leave { member: "ann".to_owned() }).await?;
    let receipt = app.execute(register("another-ann")).await?;
    println!("registered at position {}, the address was free again", receipt.last());
    app.stop().await?;
    Ok(())
}
