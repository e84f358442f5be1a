//! The left panel: the commands of a parish.

use std::convert::Infallible;

use diptych::{Command, DecisionContext, Filter, Fold, Recorded, Tag};

use crate::Parish;

/// The state of a person, for the rule.
#[derive(Default)]
pub(crate) struct Person {
    is_registered: bool,
}

impl Fold for Person {
    type Event = Parish;

    fn apply(&mut self, event: &Recorded<Parish>) {
        if let Parish::Born { .. } = event.event {
            self.is_registered = true;
        }
    }
}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("the birth is registered already")]
pub(crate) struct Registered;

pub(crate) struct RegisterBirth {
    pub(crate) person: &'static str,
    pub(crate) father: Option<&'static str>,
}

impl Command for RegisterBirth {
    type State = Person;
    type Event = Parish;
    type Rejection = Registered;

    fn boundary(&self) -> Filter {
        Filter::tag(Tag::new("person", self.person))
    }

    fn decide(&self, person: &Person, _: &DecisionContext) -> Result<Vec<Parish>, Registered> {
        if person.is_registered {
            return Err(Registered);
        }
        let (person, father) = (self.person.to_owned(), self.father.map(str::to_owned));
        Ok(vec![Parish::Born { person, father }])
    }
}

pub(crate) struct CorrectFather {
    pub(crate) person: &'static str,
    pub(crate) father: &'static str,
}

/// No rule rejects a correction. It may even come before the birth.
impl Command for CorrectFather {
    type State = ();
    type Event = Parish;
    type Rejection = Infallible;

    fn boundary(&self) {}

    fn decide(&self, (): (), _: &DecisionContext) -> Result<Vec<Parish>, Infallible> {
        let (person, father) = (self.person.to_owned(), self.father.to_owned());
        Ok(vec![Parish::FatherCorrected { person, father }])
    }
}
