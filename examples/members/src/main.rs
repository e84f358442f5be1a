//! Uniqueness: an email address belongs to one member at a time, and can be released again. The
//! rule folds the events with the address as their tag (`commands.rs`). It does not use the
//! directory, in which members look each other up (`queries.rs`). `cargo run -p example-members`
#![allow(clippy::print_stdout)] // The example prints its results.

mod commands;
mod queries;
#[cfg(test)]
mod tests;

use diptych::{App, Event, ExecuteError, SessionToken};

use crate::{
    commands::{Leave, Register},
    queries::{Directory, Search, WhoHas},
};

#[derive(Debug, PartialEq, Event)]
pub(crate) enum Membership {
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

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let app = App::open(folder.path())?.view::<Directory>().start().await?;
    let email = || "ann@example.org".to_owned();
    let register = |member: &str| Register { member: member.to_owned(), email: email() };

    // One user's session. Its queries see all of its own writes, and never an older state than
    // before.
    let session = app.session();
    app.execute(register("ann")).session(&session).await?;
    if let Err(ExecuteError::Rejected(reason)) = app.execute(register("another-ann")).await {
        println!("another Ann is refused: {reason}");
    }
    let whose = app.query(WhoHas { email: email() }).session(&session).await?;
    if let Some(entry) = &*whose {
        println!("the address is that of {}, since {}", entry.member, entry.since);
    }

    app.execute(Leave { member: "ann".to_owned() }).session(&session).await?;
    let receipt = app.execute(register("another-ann")).session(&session).await?;
    println!("another Ann is registered at position {}: the address was free", receipt.last());

    // The session goes out in a cookie, and comes back with the next request.
    let cookie = session.token().await?.to_string();
    let token: SessionToken = cookie.parse()?;
    let session = app.resume_session(&token).await?;
    let found = app.query(Search { prefix: "ann".to_owned() }).session(&session).await?;
    println!("a search for ann finds {}", found.join(", "));

    // Before the last event the address had no owner.
    let then = app.query(WhoHas { email: email() }).as_of(receipt.last().before()).await?;
    let whose = then.value.map_or("nobody".to_owned(), |entry| entry.member);
    println!("as of position {} the address was that of {whose}", then.position);
    app.stop().await?;
    Ok(())
}
