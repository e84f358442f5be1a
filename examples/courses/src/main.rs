//! A course has a limited number of seats, and a student takes a limited number of courses. Such a
//! rule depends on two things at once, so its boundary has two tags (`commands.rs`). The list of
//! courses depends on events of courses and of students, and is one view (`queries.rs`).
//! `cargo run -p example-courses`
#![allow(clippy::print_stdout)] // The example prints its results.

mod commands;
mod queries;
#[cfg(test)]
mod tests;

use diptych::{App, Event};
use serde::{Deserialize, Serialize};

use crate::{
    commands::{Enroll, Offer, Subscribe},
    queries::{Catalogue, FreeSeats, Open, Students},
};

#[derive(Debug, PartialEq, Event, Serialize, Deserialize)]
#[event("course-offered")]
pub(crate) struct Offered {
    #[tag]
    course: String,
    seats: u32,
}

#[derive(Debug, PartialEq, Event, Serialize, Deserialize)]
#[event("student-subscribed")]
pub(crate) struct Subscribed {
    #[tag]
    course: String,
    #[tag]
    student: String,
}

#[derive(Debug, PartialEq, Event, Serialize, Deserialize)]
#[event("student-enrolled")]
pub(crate) struct Enrolled {
    #[tag]
    student: String,
    name: String,
}

#[derive(Debug, PartialEq, Event)]
pub(crate) enum School {
    Offered(Offered),
    Subscribed(Subscribed),
    Enrolled(Enrolled),
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let app = App::open(folder.path())?.view::<Catalogue>().start().await?;
    app.execute(Offer { course: "logic".to_owned(), seats: 30 }).await?;
    app.execute(Offer { course: "music".to_owned(), seats: 8 }).await?;
    for (student, name) in [("s7", "Ann"), ("s8", "Ben")] {
        app.execute(Enroll { student: student.to_owned(), name: name.to_owned() }).await?;
        app.execute(Subscribe { course: "music".to_owned(), student: student.to_owned() }).await?;
    }

    // A display at the door. It gets each new answer.
    let mut door = app.watch(FreeSeats { course: "logic".to_owned() });
    let display = tokio::spawn(async move {
        let mut shown = Vec::new();
        loop {
            let free = door.next().await?;
            shown.push(free.value);
            if *free == Some(0) {
                return Ok::<_, diptych::QueryError>(shown);
            }
        }
    });

    let sent: Vec<_> = (0..100)
        .map(|number| Subscribe { course: "logic".to_owned(), student: format!("s{number}") })
        .map(|subscribe| tokio::spawn(app.execute(subscribe).into_future()))
        .collect();
    let mut subscribed = 0;
    for answer in sent {
        subscribed += usize::from(answer.await?.is_ok());
    }
    println!("{subscribed} of 100 students got one of 30 seats");
    let shown = display.await??;
    println!("the display at the door showed {} numbers, the last is 0", shown.len());

    // Strong: the answer contains every event that was durable when the query began.
    let open = app.query(Open).strong().await?;
    println!("open courses: {:?}", *open);
    let music = app.query(Students { course: "music".to_owned() }).strong().await?;
    println!("in music: {}", music.join(", "));

    // Which events made an answer? Those in the query's scope.
    let why = app.explain(FreeSeats { course: "music".to_owned() }).await?;
    println!("how many seats are free there, rests on");
    for event in &why.events {
        println!("  position {}: {:?}", event.position, event.event);
    }
    Ok(app.stop().await?)
}
