//! A course has so many seats, and a student takes so many courses: a rule that depends on two
//! things at once has a boundary of two tags. `cargo run -p example-courses`
#![allow(clippy::print_stdout)] // It shows something.

#[cfg(test)]
mod tests;

use diptych::{App, Command, Event, Filter, Fold, Recorded, Tag};
use serde::{Deserialize, Serialize};

/// How many courses a student takes at most.
const COURSES_PER_STUDENT: u32 = 3;

#[derive(Debug, PartialEq, Event, Serialize, Deserialize)]
#[event("course-offered")]
struct Offered {
    #[tag]
    course: String,
    seats: u32,
}

#[derive(Debug, PartialEq, Event, Serialize, Deserialize)]
#[event("student-subscribed")]
struct Subscribed {
    #[tag]
    course: String,
    #[tag]
    student: String,
}

#[derive(Debug, PartialEq, Event)]
enum School {
    Offered(Offered),
    Subscribed(Subscribed),
}

/// What the rules know of one course.
#[derive(Default)]
struct Seats {
    offered: Option<u32>,
    taken: u32,
}

impl Fold for Seats {
    type Event = School;

    fn apply(&mut self, event: &Recorded<School>) {
        match &event.event {
            School::Offered(offered) => self.offered = Some(offered.seats),
            School::Subscribed(_) => self.taken += 1,
        }
    }
}

/// What the rules know of one student, folded from one of the events alone.
#[derive(Default)]
struct Load {
    courses: Vec<String>,
}

impl Fold for Load {
    type Event = Subscribed;

    fn apply(&mut self, event: &Recorded<Subscribed>) {
        self.courses.push(event.course.clone());
    }
}

#[derive(Debug, PartialEq, thiserror::Error)]
enum Refused {
    #[error("the course is offered already")]
    AlreadyOffered,
    #[error("there is no such course")]
    NotOffered,
    #[error("all seats are taken")]
    Full,
    #[error("the student takes {COURSES_PER_STUDENT} courses, which is the most")]
    TooManyCourses,
}

struct Offer {
    course: String,
    seats: u32,
}

impl Command for Offer {
    type State = Seats;
    type Event = Offered;
    type Rejection = Refused;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("course", &self.course))
    }

    fn decide(&self, course: &Seats) -> Result<Vec<Offered>, Refused> {
        if course.offered.is_some() {
            return Err(Refused::AlreadyOffered);
        }
        Ok(vec![Offered { course: self.course.clone(), seats: self.seats }])
    }
}

struct Subscribe {
    course: String,
    student: String,
}

impl Command for Subscribe {
    type State = (Seats, Load);
    type Event = Subscribed;
    type Rejection = Refused;

    fn boundary(&self) -> (Filter, Filter) {
        let course = Filter::tag(Tag::new("course", &self.course));
        (course, Filter::tag(Tag::new("student", &self.student)))
    }

    fn decide(&self, (course, student): (&Seats, &Load)) -> Result<Vec<Subscribed>, Refused> {
        if student.courses.contains(&self.course) {
            return Ok(Vec::new());
        }
        let seats = course.offered.ok_or(Refused::NotOffered)?;
        if course.taken >= seats {
            return Err(Refused::Full);
        }
        if student.courses.len() >= COURSES_PER_STUDENT as usize {
            return Err(Refused::TooManyCourses);
        }
        let (course, student) = (self.course.clone(), self.student.clone());
        Ok(vec![Subscribed { course, student }])
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let app = App::open(folder.path())?.start().await?;
    app.execute(Offer { course: "logic".to_owned(), seats: 30 }).await?;
    let sent: Vec<_> = (0..100)
        .map(|number| Subscribe { course: "logic".to_owned(), student: format!("s{number}") })
        .map(|subscribe| tokio::spawn(app.execute(subscribe).into_future()))
        .collect();
    let mut subscribed = 0;
    for answer in sent {
        subscribed += usize::from(answer.await?.is_ok());
    }
    println!("{subscribed} of 100 students got one of 30 seats");
    Ok(app.stop().await?)
}
