//! How many seeds the runs on the simulated disk have.
//!
//! `DIPTYCH_SIM_SEEDS=1000` makes more runs, and tries all faults at every operation.
//! `DIPTYCH_SIM_SEED=7` makes a single run.

use std::{env, ops::Range};

use diptych_log::disk::simulated::Fault;

const ONE: &str = "DIPTYCH_SIM_SEED";
const MANY: &str = "DIPTYCH_SIM_SEEDS";

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().expect(name))
}

/// The seeds of a test that has this number of them by default.
pub(crate) fn seeds(default: u64) -> Range<u64> {
    match number(ONE) {
        Some(seed) => seed..seed + 1,
        None => 0..number(MANY).unwrap_or(default),
    }
}

/// The single seed that was asked for.
pub(crate) fn only() -> Option<u64> {
    number(ONE)
}

/// Whether a test shall try everything at every operation, because the caller asked for seeds.
pub(crate) fn all() -> bool {
    number(ONE).is_some() || number(MANY).is_some()
}

/// The faults that a test tries at this operation: by default one of them, and the next one at the
/// next operation.
pub(crate) fn faults_at<const N: usize>(
    at: u64,
    faults: [Fault; N],
) -> impl Iterator<Item = Fault> {
    let chosen = (at % N as u64) as usize;
    let all = all();
    faults.into_iter().enumerate().filter(move |(n, _)| all || *n == chosen).map(|(_, fault)| fault)
}
