use std::{
    cell::RefCell,
    fmt::{self, Display},
};

/// The path to the part of a value that failed to serialise: its steps, the last one first.
#[derive(Default)]
pub(crate) struct Path(RefCell<Vec<PathStep>>);

pub(super) enum PathStep {
    Field(&'static str),
    Entry(String),
    Element(usize),
}

impl Path {
    #[cold]
    pub(super) fn step(&self, step: PathStep) {
        self.0.borrow_mut().push(step);
    }

    /// The error with its place in the value.
    pub(crate) fn describe(&self, error: impl Display) -> String {
        match self.0.borrow().is_empty() {
            true => error.to_string(),
            false => format!("at {self}: {error}"),
        }
    }
}

impl Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.borrow().iter().rev().enumerate() {
            let dot = if at == 0 { "" } else { "." };
            match step {
                PathStep::Field(name) => write!(f, "{dot}{name}")?,
                PathStep::Entry(key) => write!(f, "{dot}{key}")?,
                PathStep::Element(number) => write!(f, "[{number}]")?,
            }
        }
        Ok(())
    }
}
