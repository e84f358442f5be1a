//! The right panel: the view, and the queries to it.

use std::collections::{BTreeMap, BTreeSet};

use diptych::{Filter, Fold, Query, Recorded, Tag};

use crate::School;

/// The list of courses at the door. It combines events of courses and of students, and no rule uses
/// it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Catalogue {
    courses: BTreeMap<String, Course>,
    names: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Course {
    seats: u32,
    students: BTreeSet<String>,
}

impl Fold for Catalogue {
    type Event = School;

    fn apply(&mut self, event: &Recorded<School>) {
        match &event.event {
            School::Offered(offered) => self.course(&offered.course).seats = offered.seats,
            School::Subscribed(subscribed) => {
                let student = subscribed.student.clone();
                self.course(&subscribed.course).students.insert(student);
            }
            School::Enrolled(enrolled) => {
                self.names.insert(enrolled.student.clone(), enrolled.name.clone());
            }
        }
    }
}

impl Catalogue {
    fn course(&mut self, course: &str) -> &mut Course {
        self.courses.entry(course.to_owned()).or_default()
    }
}

impl Course {
    fn free_seats(&self) -> u32 {
        self.seats.saturating_sub(self.students.len() as u32)
    }
}

/// Courses with free seats, and the number of these seats.
pub(crate) struct Open;

impl Query for Open {
    type View = Catalogue;
    type Answer = Vec<(String, u32)>;

    fn answer(&self, catalogue: &Catalogue) -> Vec<(String, u32)> {
        let seats = catalogue.courses.iter().map(|(name, of)| (name.clone(), of.free_seats()));
        seats.filter(|(_, free)| *free > 0).collect()
    }
}

/// The number of free seats in one course; none if there is no such course.
pub(crate) struct FreeSeats {
    pub(crate) course: String,
}

impl Query for FreeSeats {
    type View = Catalogue;
    type Answer = Option<u32>;

    fn answer(&self, catalogue: &Catalogue) -> Option<u32> {
        catalogue.courses.get(&self.course).map(Course::free_seats)
    }

    fn scope(&self) -> Filter {
        Filter::tag(Tag::new("course", &self.course))
    }
}

/// The names of the students in a course.
pub(crate) struct Students {
    pub(crate) course: String,
}

impl Query for Students {
    type View = Catalogue;
    type Answer = Vec<String>;

    fn answer(&self, catalogue: &Catalogue) -> Vec<String> {
        let course = catalogue.courses.get(&self.course);
        let students = course.into_iter().flat_map(|course| &course.students);
        students.filter_map(|student| catalogue.names.get(student)).cloned().collect()
    }

    /// The events of subscriptions do not contain names, so the scope includes all enrolments.
    fn scope(&self) -> Filter {
        let course = Filter::tag(Tag::new("course", &self.course));
        course.or(Filter::event_type("student-enrolled"))
    }
}
