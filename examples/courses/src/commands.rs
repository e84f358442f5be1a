//! The left panel: the commands, and the rules that decide about them.

use diptych::{Command, DecisionContext, Filter, Fold, Recorded, Tag};

use crate::{Enrolled, Offered, School, Subscribed};

/// The largest number of courses for one student.
const COURSES_PER_STUDENT: u32 = 3;

/// The state of one course, for the rules.
#[derive(Default)]
pub(crate) struct Seats {
    offered: Option<u32>,
    taken: u32,
}

impl Fold for Seats {
    type Event = School;

    fn apply(&mut self, event: &Recorded<School>) {
        match &event.event {
            School::Offered(offered) => self.offered = Some(offered.seats),
            School::Subscribed(_) => self.taken += 1,
            School::Enrolled(_) => {}
        }
    }
}

/// The courses of one student, for the rules. It folds only one of the event types.
#[derive(Default)]
pub(crate) struct Load {
    courses: Vec<String>,
}

impl Fold for Load {
    type Event = Subscribed;

    fn apply(&mut self, event: &Recorded<Subscribed>) {
        self.courses.push(event.course.clone());
    }
}

/// Whether a student is enrolled. It folds another event type.
#[derive(Default)]
pub(crate) struct Enrolment {
    is_there: bool,
}

impl Fold for Enrolment {
    type Event = Enrolled;

    fn apply(&mut self, _: &Recorded<Enrolled>) {
        self.is_there = true;
    }
}

#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the course is offered already")]
    AlreadyOffered,
    #[error("the student is enrolled already")]
    AlreadyEnrolled,
    #[error("there is no such course")]
    NotOffered,
    #[error("all seats are taken")]
    Full,
    #[error("the student takes {COURSES_PER_STUDENT} courses, which is the most")]
    TooManyCourses,
}

pub(crate) struct Offer {
    pub(crate) course: String,
    pub(crate) seats: u32,
}

impl Command for Offer {
    type State = Seats;
    type Event = Offered;
    type Rejection = Refused;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("course", &self.course))
    }

    fn decide(&self, course: &Seats, _: &DecisionContext) -> Result<Vec<Offered>, Refused> {
        if course.offered.is_some() {
            return Err(Refused::AlreadyOffered);
        }
        Ok(vec![Offered { course: self.course.clone(), seats: self.seats }])
    }
}

pub(crate) struct Enroll {
    pub(crate) student: String,
    pub(crate) name: String,
}

impl Command for Enroll {
    type State = Enrolment;
    type Event = Enrolled;
    type Rejection = Refused;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("student", &self.student))
    }

    fn decide(&self, student: &Enrolment, _: &DecisionContext) -> Result<Vec<Enrolled>, Refused> {
        if student.is_there {
            return Err(Refused::AlreadyEnrolled);
        }
        Ok(vec![Enrolled { student: self.student.clone(), name: self.name.clone() }])
    }
}

pub(crate) struct Subscribe {
    pub(crate) course: String,
    pub(crate) student: String,
}

impl Command for Subscribe {
    type State = (Seats, Load);
    type Event = Subscribed;
    type Rejection = Refused;

    fn boundary(&self) -> (Filter, Filter) {
        let course = Filter::tag(Tag::new("course", &self.course));
        (course, Filter::tag(Tag::new("student", &self.student)))
    }

    fn decide(
        &self,
        (course, student): (&Seats, &Load),
        _: &DecisionContext,
    ) -> Result<Vec<Subscribed>, Refused> {
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
