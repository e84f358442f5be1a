use diptych_store::{
    Memory,
    testing::{Setup, TestStore},
};

fn fresh(setup: &Setup) -> Option<TestStore> {
    let memory = Memory::new().limits(setup.limits.clone()).time(setup.time);
    Some(TestStore::new(memory))
}

diptych_store::conformance!(fresh, lacks: [Reopening, Ending]);
