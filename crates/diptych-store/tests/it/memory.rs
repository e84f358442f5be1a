use diptych_store::{
    Memory,
    testing::{Setup, Subject},
};

fn fresh(setup: &Setup) -> Option<Subject> {
    let memory = Memory::new().limits(setup.limits.clone()).time(setup.time);
    Some(Subject::new(memory))
}

diptych_store::conformance!(fresh, lacks: [Reopening, Ending]);
