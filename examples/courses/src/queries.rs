//! The right panel: what is shown, and the questions to it.

use std::collections::{BTreeMap, BTreeSet};

use diptych::{Filter, Fold, Query, Recorded, Tag};

use crate::School;

/// The list of courses, as it hangs beside the door: made of what happened to courses and of what
/// happened to students, and nothing that any rule asks for.
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

/// Courses that one can still subscribe to, and for how many seats.
pub(crate) struct Open;

impl Query for Open {
    type View = Catalogue;
    type Answer = Vec<(String, u32)>;

    fn answer(&self, catalogue: &Catalogue) -> Vec<(String, u32)> {
        let seats = catalogue.courses.iter().map(|(name, of)| (name.clone(), of.free_seats()));
        seats.filter(|(_, free)| *free > 0).collect()
    }
}

/// The seats of one course that are free; none if there is no such course.
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

/// Who is in a course, by name.
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

    /// What a student is called is not said where the student subscribes.
    fn scope(&self) -> Filter {
        let course = Filter::tag(Tag::new("course", &self.course));
        course.or(Filter::event_type("student-enrolled"))
    }
}
