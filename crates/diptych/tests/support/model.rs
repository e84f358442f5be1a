//! A model of the commands that does not use the crate. It applies events to plain maps, and
//! evaluates the rules over these maps. Tests compare the log with it.

use std::collections::{BTreeMap, BTreeSet};

use diptych_store::EventRef;
use serde_json::Value;

use crate::support::{
    bank,
    school::{self, COURSES, COURSES_EACH},
};

/// A command as plain data.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Wish {
    Open(u64),
    Deposit(u64, u64),
    Withdraw(u64, u64),
    Offer(u64, u64),
    End(u64),
    Visit(u64),
    Join(u64, u64),
    JoinBoth([u64; 2], u64),
    Leave(u64, u64),
    Compare(u64, u64),
    CompareBack(u64, u64),
}

pub(crate) fn account(number: u64) -> String {
    format!("account-{number}")
}

pub(crate) fn course(number: u64) -> String {
    format!("course-{number}")
}

pub(crate) fn student(number: u64) -> String {
    format!("student-{number}")
}

/// The state of the whole domain after some number of events.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    open: BTreeSet<String>,
    balances: BTreeMap<String, u64>,
    offered: u64,
    capacities: BTreeMap<String, u64>,
    places: BTreeSet<(String, String)>,
}

impl World {
    /// Applies an event. Panics if the rules forbid it.
    pub(crate) fn apply(&mut self, event: &EventRef<'_>) {
        let payload: Value = serde_json::from_slice(event.payload()).unwrap();
        let text = |name: &str| payload[name].as_str().unwrap().to_owned();
        match event.event_type() {
            "account-opened" => assert!(self.open.insert(text("account")), "account opened twice"),
            "money-deposited" => {
                let amount = payload["amount"].as_u64().unwrap();
                *self.balances.entry(text("account")).or_default() += amount;
            }
            "money-withdrawn" => {
                let balance = self.balances.entry(text("account")).or_default();
                let left = balance.checked_sub(payload["amount"].as_u64().unwrap());
                *balance = left.expect("an account was overdrawn");
            }
            "course-offered" => {
                self.offered += 1;
                assert!(self.offered <= COURSES, "too many courses");
                let capacity = payload["capacity"].as_u64().unwrap();
                assert_eq!(self.capacities.insert(text("course"), capacity), None);
            }
            "course-ended" => drop(self.capacities.remove(&text("course"))),
            "course-visited" => {}
            "place-taken" => {
                let place = (text("course"), text("student"));
                let capacity = *self.capacities.get(&place.0).expect("the course is closed");
                assert!(self.students(&place.0) < capacity, "a course has too many students");
                assert!(self.courses(&place.1) < COURSES_EACH, "a student has too many courses");
                assert!(self.places.insert(place), "a student joined a course twice");
            }
            "place-left" => assert!(self.places.remove(&(text("course"), text("student")))),
            other => panic!("unknown event type {other}"),
        }
    }

    fn students(&self, course: &str) -> u64 {
        self.places.iter().filter(|place| place.0 == course).count() as u64
    }

    fn courses(&self, student: &str) -> usize {
        self.places.iter().filter(|place| place.1 == student).count()
    }

    /// Returns the number of events that the command writes, or the text of its rejection.
    pub(crate) fn judge(&self, wish: &Wish) -> Result<usize, String> {
        match *wish {
            Wish::Open(_) | Wish::Deposit(..) | Wish::Withdraw(..) => {
                self.judge_banking(wish).map_err(|no| no.to_string())
            }
            _ => self.judge_schooling(wish).map_err(|no| no.to_string()),
        }
    }

    fn judge_banking(&self, wish: &Wish) -> Result<usize, bank::No> {
        match *wish {
            Wish::Open(number) if self.open.contains(&account(number)) => {
                Err(bank::No::AlreadyOpen)
            }
            Wish::Deposit(number, _) if !self.open.contains(&account(number)) => {
                Err(bank::No::NotOpen)
            }
            Wish::Deposit(_, 0) => Ok(0),
            Wish::Withdraw(number, amount) => {
                let balance = self.balances.get(&account(number)).copied().unwrap_or(0);
                match balance < amount {
                    true => Err(bank::No::Overdrawn { balance, amount }),
                    false => Ok(1),
                }
            }
            _ => Ok(1),
        }
    }

    fn judge_schooling(&self, wish: &Wish) -> Result<usize, school::No> {
        let is_open = |number| self.capacities.contains_key(&course(number));
        match *wish {
            Wish::Offer(number, _) if is_open(number) => Err(school::No::Offered),
            Wish::Offer(..) if self.offered >= COURSES => Err(school::No::Enough),
            Wish::End(number) | Wish::Visit(number) if !is_open(number) => Err(school::No::NotOpen),
            Wish::Join(course, who) => self.may_join(course, who, 1).map(|()| 1),
            Wish::JoinBoth([first, second], who) => {
                self.may_join(first, who, 2)?;
                self.may_join(second, who, 2).map(|()| 2)
            }
            Wish::Leave(number, who) => {
                match self.places.contains(&(course(number), student(who))) {
                    true => Ok(1),
                    false => Err(school::No::NotJoined),
                }
            }
            Wish::Compare(..) | Wish::CompareBack(..) => Ok(0),
            _ => Ok(1),
        }
    }

    fn may_join(&self, number: u64, who: u64, more: usize) -> Result<(), school::No> {
        let (course, student) = (course(number), student(who));
        let Some(capacity) = self.capacities.get(&course) else {
            return Err(school::No::NotOpen);
        };
        if self.places.contains(&(course.clone(), student.clone())) {
            return Err(school::No::Joined);
        }
        if self.students(&course) >= *capacity {
            return Err(school::No::Full);
        }
        match self.courses(&student) + more > COURSES_EACH {
            true => Err(school::No::Busy),
            false => Ok(()),
        }
    }
}
