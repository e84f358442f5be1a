//! A domain of courses and students. Its rules rest on two tags at once, and some commands write
//! several events, so a boundary is wider than one stream.

use std::collections::BTreeSet;

use diptych::{
    Command, DecisionContext, Event, EventType, Filter, Fold, Recorded, Tag,
    event::{Codec, EncodedEvent, Json, SchemaError},
    store::{FilterItem, RawEvent},
};
use serde::{Deserialize, Serialize};

/// Maximum number of courses that one student may take.
pub(crate) const COURSES_EACH: usize = 3;
/// Maximum number of courses.
pub(crate) const COURSES: u64 = 4;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Offered {
    pub(crate) course: String,
    pub(crate) capacity: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Course {
    pub(crate) course: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) course: String,
    pub(crate) student: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Schooling {
    Offered(Offered),
    Ended(Course),
    Visited(Course),
    Joined(Place),
    Left(Place),
}

fn encode<T: Serialize>(name: &'static str, event: &T) -> Result<RawEvent, SchemaError> {
    Ok(RawEvent::new(name, Json::encode(event)?))
}

fn course_tag(course: &str) -> Tag {
    Tag::new("course", course)
}

fn student_tag(student: &str) -> Tag {
    Tag::new("student", student)
}

impl Event for Schooling {
    fn types() -> Vec<EventType> {
        let both = ["place-taken", "place-left"];
        let course = ["course-offered", "course-ended", "course-visited"];
        let both = both.map(|name| EventType::new(name).tags(&["course", "student"]));
        let course = course.map(|name| EventType::new(name).tags(&["course"]));
        course.into_iter().chain(both).collect()
    }

    fn encode(&self) -> Result<RawEvent, SchemaError> {
        let (event, place) = match self {
            Schooling::Offered(event) => {
                return Ok(encode("course-offered", event)?.tag(course_tag(&event.course)));
            }
            Schooling::Ended(event) => {
                return Ok(encode("course-ended", event)?.tag(course_tag(&event.course)));
            }
            Schooling::Visited(event) => {
                return Ok(encode("course-visited", event)?.tag(course_tag(&event.course)));
            }
            Schooling::Joined(place) => (encode("place-taken", place)?, place),
            Schooling::Left(place) => (encode("place-left", place)?, place),
        };
        Ok(event.tag(course_tag(&place.course)).tag(student_tag(&place.student)))
    }

    fn decode(encoded: &EncodedEvent<'_>) -> Result<Schooling, SchemaError> {
        match encoded.event_type {
            "course-offered" => encoded.read::<Json, _>().map(Schooling::Offered),
            "course-ended" => encoded.read::<Json, _>().map(Schooling::Ended),
            "course-visited" => encoded.read::<Json, _>().map(Schooling::Visited),
            "place-taken" => encoded.read::<Json, _>().map(Schooling::Joined),
            "place-left" => encoded.read::<Json, _>().map(Schooling::Left),
            _ => Err(encoded.unknown::<Schooling>()),
        }
    }
}

/// The state of a course, folded from the events with its tag.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Class {
    pub(crate) open: bool,
    pub(crate) capacity: u64,
    pub(crate) students: BTreeSet<String>,
    pub(crate) visits: u64,
}

impl Fold for Class {
    type Event = Schooling;

    fn apply(&mut self, event: &Recorded<Schooling>) {
        match &event.event {
            Schooling::Offered(event) => (self.open, self.capacity) = (true, event.capacity),
            Schooling::Ended(_) => self.open = false,
            Schooling::Visited(_) => self.visits += 1,
            Schooling::Joined(place) => assert!(self.students.insert(place.student.clone())),
            Schooling::Left(place) => assert!(self.students.remove(&place.student)),
        }
    }
}

/// The state of a student, folded from the events with their tag.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Student {
    pub(crate) courses: BTreeSet<String>,
}

impl Fold for Student {
    type Event = Schooling;

    fn apply(&mut self, event: &Recorded<Schooling>) {
        match &event.event {
            Schooling::Joined(place) => assert!(self.courses.insert(place.course.clone())),
            Schooling::Left(place) => assert!(self.courses.remove(&place.course)),
            _ => {}
        }
    }
}

/// The number of courses offered, folded from one event type whatever its tags.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Catalogue {
    pub(crate) courses: u64,
}

impl Fold for Catalogue {
    type Event = Schooling;

    fn apply(&mut self, event: &Recorded<Schooling>) {
        self.courses += u64::from(matches!(event.event, Schooling::Offered(_)));
    }
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum No {
    #[error("there are {COURSES} courses")]
    Enough,
    #[error("the course is offered already")]
    Offered,
    #[error("the course is not open")]
    NotOpen,
    #[error("the course is full")]
    Full,
    #[error("the student has the place")]
    Joined,
    #[error("the student has no place")]
    NotJoined,
    #[error("the student has {COURSES_EACH} courses")]
    Busy,
    #[error("course and student do not say the same")]
    Torn,
}

pub(crate) fn course(course: &str) -> Filter {
    Filter::tag(course_tag(course))
}

pub(crate) fn student(student: &str) -> Filter {
    Filter::tag(student_tag(student))
}

fn place(course: &str, student: &str) -> Place {
    Place { course: course.to_owned(), student: student.to_owned() }
}

/// Offers a course. Its boundary is an event type without tags, and the course itself.
#[derive(Clone, Serialize)]
pub(crate) struct Offer(pub(crate) String, pub(crate) u64);

impl Command for Offer {
    type State = (Catalogue, Class);
    type Event = Schooling;
    type Rejection = No;

    fn boundary(&self) -> (Filter, Filter) {
        (Filter::event_type("course-offered"), course(&self.0))
    }

    fn decide(
        &self,
        (catalogue, class): (&Catalogue, &Class),
        _: &DecisionContext,
    ) -> Result<Vec<Schooling>, No> {
        if class.open {
            return Err(No::Offered);
        }
        if catalogue.courses >= COURSES {
            return Err(No::Enough);
        }
        let Offer(course, capacity) = self.clone();
        Ok(vec![Schooling::Offered(Offered { course, capacity })])
    }
}

#[derive(Clone, Serialize)]
pub(crate) struct End(pub(crate) String);

impl Command for End {
    type State = Class;
    type Event = Schooling;
    type Rejection = No;

    fn boundary(&self) -> Filter {
        course(&self.0)
    }

    fn decide(&self, class: &Class, _: &DecisionContext) -> Result<Vec<Schooling>, No> {
        match class.open {
            true => Ok(vec![Schooling::Ended(Course { course: self.0.clone() })]),
            false => Err(No::NotOpen),
        }
    }
}

/// Visits a course. Only the end of the course conflicts with it.
#[derive(Clone, Serialize)]
pub(crate) struct Visit(pub(crate) String);

impl Command for Visit {
    type State = Class;
    type Event = Schooling;
    type Rejection = No;

    fn boundary(&self) -> Filter {
        course(&self.0)
    }

    fn decide(&self, class: &Class, _: &DecisionContext) -> Result<Vec<Schooling>, No> {
        match class.open {
            true => Ok(vec![Schooling::Visited(Course { course: self.0.clone() })]),
            false => Err(No::NotOpen),
        }
    }

    fn conflicts_with(&self) -> Option<Filter> {
        let ended = FilterItem::everything().or_type("course-ended");
        Some(ended.and_tag(course_tag(&self.0)).into())
    }
}

fn may_join(class: &Class, student: &Student, name: &str, more: usize) -> Result<(), No> {
    if !class.open {
        return Err(No::NotOpen);
    }
    if class.students.contains(name) {
        return Err(No::Joined);
    }
    if class.students.len() as u64 >= class.capacity {
        return Err(No::Full);
    }
    match student.courses.len() + more > COURSES_EACH {
        true => Err(No::Busy),
        false => Ok(()),
    }
}

#[derive(Clone, Serialize)]
pub(crate) struct Join(pub(crate) String, pub(crate) String);

impl Command for Join {
    type State = (Class, Student);
    type Event = Schooling;
    type Rejection = No;

    fn boundary(&self) -> (Filter, Filter) {
        (course(&self.0), student(&self.1))
    }

    fn decide(
        &self,
        (class, student): (&Class, &Student),
        _: &DecisionContext,
    ) -> Result<Vec<Schooling>, No> {
        may_join(class, student, &self.1, 1)?;
        Ok(vec![Schooling::Joined(place(&self.0, &self.1))])
    }
}

/// Joins two courses or neither. The command writes two events and has three boundaries.
#[derive(Clone, Serialize)]
pub(crate) struct JoinBoth(pub(crate) [String; 2], pub(crate) String);

impl Command for JoinBoth {
    type State = (Class, Class, Student);
    type Event = Schooling;
    type Rejection = No;

    fn boundary(&self) -> (Filter, Filter, Filter) {
        (course(&self.0[0]), course(&self.0[1]), student(&self.1))
    }

    fn decide(
        &self,
        (first, second, student): (&Class, &Class, &Student),
        _: &DecisionContext,
    ) -> Result<Vec<Schooling>, No> {
        may_join(first, student, &self.1, 2)?;
        may_join(second, student, &self.1, 2)?;
        let join = |course| Schooling::Joined(place(course, &self.1));
        Ok(self.0.iter().map(|course| join(course)).collect())
    }
}

#[derive(Clone, Serialize)]
pub(crate) struct Leave(pub(crate) String, pub(crate) String);

impl Command for Leave {
    type State = Student;
    type Event = Schooling;
    type Rejection = No;

    fn boundary(&self) -> Filter {
        student(&self.1)
    }

    fn decide(&self, student: &Student, _: &DecisionContext) -> Result<Vec<Schooling>, No> {
        match student.courses.contains(&self.0) {
            true => Ok(vec![Schooling::Left(place(&self.0, &self.1))]),
            false => Err(No::NotJoined),
        }
    }
}

/// Compares the states of a course and a student, and writes nothing. The two states must always
/// agree, so the rejection `Torn` never occurs.
#[derive(Clone, Serialize)]
pub(crate) struct Compare(pub(crate) String, pub(crate) String);

impl Command for Compare {
    type State = (Class, Student);
    type Event = Schooling;
    type Rejection = No;

    fn boundary(&self) -> (Filter, Filter) {
        (course(&self.0), student(&self.1))
    }

    fn decide(
        &self,
        (class, student): (&Class, &Student),
        _: &DecisionContext,
    ) -> Result<Vec<Schooling>, No> {
        match class.students.contains(&self.1) == student.courses.contains(&self.0) {
            true => Ok(Vec::new()),
            false => Err(No::Torn),
        }
    }
}

/// Makes the comparison of `Compare` with its two boundaries in the opposite order.
#[derive(Clone, Serialize)]
pub(crate) struct CompareBack(pub(crate) String, pub(crate) String);

impl Command for CompareBack {
    type State = (Student, Class);
    type Event = Schooling;
    type Rejection = No;

    fn boundary(&self) -> (Filter, Filter) {
        (student(&self.1), course(&self.0))
    }

    fn decide(
        &self,
        (student, class): (&Student, &Class),
        _: &DecisionContext,
    ) -> Result<Vec<Schooling>, No> {
        match class.students.contains(&self.1) == student.courses.contains(&self.0) {
            true => Ok(Vec::new()),
            false => Err(No::Torn),
        }
    }
}

/// Joins without any rule. The command has no state and no condition.
#[derive(Clone, Serialize)]
pub(crate) struct Order(pub(crate) String, pub(crate) String);

impl Command for Order {
    type State = ();
    type Event = Schooling;
    type Rejection = No;

    fn boundary(&self) {}

    fn decide(&self, (): (), _: &DecisionContext) -> Result<Vec<Schooling>, No> {
        Ok(vec![Schooling::Joined(place(&self.0, &self.1))])
    }
}

pub(crate) fn offer(course: &str, capacity: u64) -> Offer {
    Offer(course.to_owned(), capacity)
}

pub(crate) fn end(course: &str) -> End {
    End(course.to_owned())
}

pub(crate) fn visit(course: &str) -> Visit {
    Visit(course.to_owned())
}

pub(crate) fn join(course: &str, student: &str) -> Join {
    Join(course.to_owned(), student.to_owned())
}

pub(crate) fn join_both(courses: [&str; 2], student: &str) -> JoinBoth {
    JoinBoth(courses.map(str::to_owned), student.to_owned())
}

pub(crate) fn leave(course: &str, student: &str) -> Leave {
    Leave(course.to_owned(), student.to_owned())
}

pub(crate) fn compare(course: &str, student: &str) -> Compare {
    Compare(course.to_owned(), student.to_owned())
}

pub(crate) fn compare_back(course: &str, student: &str) -> CompareBack {
    CompareBack(course.to_owned(), student.to_owned())
}

pub(crate) fn order(course: &str, student: &str) -> Order {
    Order(course.to_owned(), student.to_owned())
}
