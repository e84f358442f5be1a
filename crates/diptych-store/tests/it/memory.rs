use diptych_store::{
    Memory,
    testing::{Setup, TestStore},
};

fn fresh(setup: &Setup) -> Option<TestStore> {
    let memory = Memory::new().limits(setup.limits.clone()).time(setup.time);
    Some(TestStore::new(memory))
}

diptych_store::conformance!(fresh, lacks: [Reopening, Ending, SecondHandle]);

/// The only handle on a log, which shows its own commits alone, is a store like any other.
mod behind {
    use diptych_store::{
        Memory,
        testing::{Setup, TestStore, WrappedStore},
    };

    fn fresh(setup: &Setup) -> Option<TestStore> {
        let memory = Memory::new().limits(setup.limits.clone()).time(setup.time);
        Some(TestStore::new(WrappedStore::new(memory).behind()))
    }

    diptych_store::conformance!(fresh, lacks: [Reopening, Ending, SecondHandle]);
}
