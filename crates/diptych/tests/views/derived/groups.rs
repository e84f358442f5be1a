//! Two kinds of rows in a many-to-many relation: students and the courses that they take.

use std::collections::{BTreeMap, BTreeSet};

use diptych::{
    Event, Fold, Recorded,
    derived::{Derivation, Derived, Reads, Rows, Source},
};
use fastrand::Rng;

use super::{folded, recorded};

#[derive(Clone, Debug, PartialEq, Event)]
enum Schooling {
    #[event("course-named")]
    Named { course: u32, title: String },
    #[event("course-dropped")]
    Dropped { course: u32 },
    #[event("student-joined")]
    Joined { student: u32, course: u32 },
    #[event("student-left")]
    Left { student: u32, course: u32 },
}

use Schooling::{Dropped, Joined, Left, Named};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Course(u32),
    Student(u32),
}

#[derive(Clone, Debug, PartialEq)]
enum Row {
    Course { title: String },
    Student { courses: BTreeSet<u32> },
}

#[derive(Clone, Debug, Default, PartialEq)]
struct School {
    rows: Rows<Key, Row>,
}

impl School {
    fn courses(&mut self, student: u32) -> &mut BTreeSet<u32> {
        let key = Key::Student(student);
        if self.rows.get(&key).is_none() {
            self.rows.insert(key.clone(), Row::Student { courses: BTreeSet::new() });
        }
        match self.rows.change(&key) {
            Some(Row::Student { courses }) => courses,
            other => panic!("{other:?} is not a student"),
        }
    }
}

impl Fold for School {
    type Event = Schooling;

    fn apply(&mut self, event: &Recorded<Schooling>) {
        match event.event.clone() {
            Named { course, title } => {
                self.rows.insert(Key::Course(course), Row::Course { title });
            }
            Dropped { course } => drop(self.rows.remove(&Key::Course(course))),
            Joined { student, course } => drop(self.courses(student).insert(course)),
            Left { student, course } => drop(self.courses(student).remove(&course)),
        }
    }
}

impl Source for School {
    type Key = Key;
    type Row = Row;

    fn rows(&self) -> &Rows<Key, Row> {
        &self.rows
    }

    fn rows_mut(&mut self) -> &mut Rows<Key, Row> {
        &mut self.rows
    }
}

/// A course with its students. The row exists while the course has a title or a student.
struct Roll;

#[derive(Clone, Debug, Default, PartialEq)]
struct Course {
    title: Option<String>,
    students: Vec<u32>,
}

impl Derivation for Roll {
    type Source = School;
    type Key = u32;
    type Value = Course;

    fn keys(key: &Key, row: &Row) -> impl IntoIterator<Item = u32> {
        match (key, row) {
            (_, Row::Student { courses }) => courses.iter().copied().collect(),
            (Key::Course(course), _) => vec![*course],
            (Key::Student(_), Row::Course { .. }) => vec![],
        }
    }

    fn derive(_: &u32, school: &Reads<'_, School>) -> Option<Course> {
        let mut course = Course::default();
        for (key, row) in school.named_by() {
            match (key, row) {
                (Key::Student(student), _) => course.students.push(*student),
                (_, Row::Course { title }) => course.title = Some(title.clone()),
                (Key::Course(_), Row::Student { .. }) => {}
            }
        }
        Some(course)
    }
}

/// The titles of the courses of a student. `derive` looks the titles up in the course rows.
struct Titles;

impl Derivation for Titles {
    type Source = School;
    type Key = u32;
    type Value = Vec<String>;

    fn keys(key: &Key, _: &Row) -> impl IntoIterator<Item = u32> {
        match key {
            Key::Student(student) => Some(*student),
            Key::Course(_) => None,
        }
    }

    fn derive(student: &u32, school: &Reads<'_, School>) -> Option<Vec<String>> {
        let Some(Row::Student { courses }) = school.get(&Key::Student(*student)) else {
            return None;
        };
        let title = |course: &u32| match school.get(&Key::Course(*course)) {
            Some(Row::Course { title }) => title.clone(),
            _ => format!("course {course}"),
        };
        Some(courses.iter().map(title).collect())
    }
}

type View = Derived<(Roll, Titles)>;

fn named(course: u32, title: &str) -> Schooling {
    Named { course, title: title.to_owned() }
}

#[test]
fn a_row_is_in_several_groups_and_a_group_has_several_rows() {
    let mut view: View =
        folded([Joined { student: 1, course: 7 }, Joined { student: 1, course: 8 }]);
    view.apply(&recorded(3, Joined { student: 2, course: 7 }));
    // The course is named after students have joined it.
    view.apply(&recorded(4, named(7, "Latin")));
    let (roll, titles) = view.rows();
    let latin = Course { title: Some("Latin".to_owned()), students: vec![1, 2] };
    assert_eq!(roll.get(&7), Some(&latin));
    assert_eq!(roll.get(&8), Some(&Course { title: None, students: vec![1] }));
    assert_eq!(titles.get(&1).unwrap(), &["Latin", "course 8"]);

    view.apply(&recorded(5, Left { student: 1, course: 8 }));
    view.apply(&recorded(6, Dropped { course: 7 }));
    let (roll, titles) = view.rows();
    assert_eq!(roll.get(&8), None);
    assert_eq!(roll.get(&7), Some(&Course { title: None, students: vec![1, 2] }));
    assert_eq!(titles.get(&1).unwrap(), &["course 7"]);
}

#[test]
fn step_by_step_rows_equal_rows_derived_anew_after_random_changes() {
    for seed in 0..10 {
        let mut random = Rng::with_seed(seed);
        let mut view = View::default();
        for position in 1..=1_000 {
            let (course, student) = (random.u32(..6), random.u32(..9));
            view.apply(&recorded(
                position,
                match random.u8(..8) {
                    0..3 => Joined { student, course },
                    3..6 => Left { student, course },
                    6 => named(course, ["Latin", "Greek"][random.usize(..2)]),
                    _ => Dropped { course },
                },
            ));
            assert_eq!(view, View::new(view.source().clone()), "seed {seed}, {position}");
            let mut students: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
            for (key, row) in view.source().rows.iter() {
                if let (Key::Student(student), Row::Student { courses }) = (key, row) {
                    courses.iter().for_each(|of| students.entry(*of).or_default().push(*student));
                }
            }
            let (roll, _) = view.rows();
            let with_students = roll.iter().filter(|(_, course)| !course.students.is_empty());
            let found = with_students.map(|(of, course)| (of, &course.students));
            assert!(found.eq(&students), "seed {seed}, {position}");
        }
    }
}
