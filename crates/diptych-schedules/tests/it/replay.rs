//! A failed schedule can be run again, because nothing but the scheduler decides.

use shuttle::{
    FailurePersistence, Runner,
    scheduler::{RandomScheduler, UncontrolledNondeterminismCheckScheduler},
};

use crate::{
    appends::callers_commit,
    explore::{config, seed},
    log::small,
    reads::readers_read,
};

#[test]
fn a_schedule_runs_again_in_the_same_steps() {
    let twice = |test: fn()| {
        let random = RandomScheduler::new_from_seed(seed(), 20);
        let scheduler = UncontrolledNondeterminismCheckScheduler::new(random);
        Runner::new(scheduler, config(FailurePersistence::Print)).run(test);
    };
    twice(callers_commit);
    twice(|| readers_read(small()));
}
