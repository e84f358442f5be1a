//! A family tree. Each event that arrives updates the grandfathers that it affects, so that queries
//! need not derive them (`queries.rs`). `cargo run -p example-family`
#![allow(clippy::print_stdout)] // The example prints its results.

mod commands;
mod queries;
#[cfg(test)]
mod tests;

use diptych::{App, Event, Memory};

use crate::{
    commands::{CorrectFather, RegisterBirth},
    queries::{Family, GrandchildrenOf, GrandfatherOf},
};

#[derive(Clone, Debug, PartialEq, Event)]
pub(crate) enum Parish {
    #[event("birth-registered")]
    Born {
        #[tag]
        person: String,
        father: Option<String>,
    },
    #[event("father-corrected")]
    FatherCorrected {
        #[tag]
        person: String,
        father: String,
    },
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let app = App::over(Memory::new()).view::<Family>().start().await?;
    let births = [
        // The grandson's parish sends its register first.
        ("Otto", Some("Paul")),
        ("Quentin", None),
        ("Paul", Some("Quentin")),
        ("Berta", Some("Paul")),
        ("Rudolf", None),
    ];
    for (person, father) in births {
        let receipt = app.execute(RegisterBirth { person, father }).await?;
        let grandfather = app.query(GrandfatherOf("Otto")).after(&receipt).await?;
        let grandfather = grandfather.value.unwrap_or("not known".to_owned());
        println!("{person} is registered; the grandfather of Otto is {grandfather}");
    }

    // One event updates the derived rows of all descendants.
    let mistaken = app.head();
    let receipt = app.execute(CorrectFather { person: "Paul", father: "Rudolf" }).await?;
    for grandfather in ["Quentin", "Rudolf"] {
        let children = app.query(GrandchildrenOf(grandfather)).after(&receipt).await?;
        println!("Paul's father is corrected; grandchildren of {grandfather}: {:?}", *children);
    }

    // Queries can still ask for the state before the correction.
    let before = app.query(GrandchildrenOf("Quentin")).as_of(mistaken).await?;
    println!("as of position {mistaken} they were those of Quentin: {:?}", *before);

    let status = app.view::<Family>()?.status();
    println!("the view is {}, at position {}", status.state, status.position);
    app.stop().await?;
    Ok(())
}
