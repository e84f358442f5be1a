//! Runs each target on the kept inputs and on mutations of them.
//!
//! `DIPTYCH_FUZZ_TIMES` multiplies the number of mutations, `DIPTYCH_FUZZ_SEED` sets the seed, and
//! `DIPTYCH_FUZZ_INPUT` runs one file alone.

// The tests print their figures.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::{env, fs, panic::catch_unwind, path::Path};

use diptych_fuzz::{TARGETS, driver, target};

mod memory;

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

/// Stack for decoders of deep values: without optimisation they need more than a test has.
const STACK_BYTES: usize = 64 << 20;

fn run(name: &'static str) {
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
    let ran = thread.spawn(move || run_here(name)).unwrap().join();
    assert!(ran.is_ok(), "{name} failed");
}

fn run_here(name: &str) {
    let target = target(name).unwrap_or_else(|| panic!("there is no target {name}"));
    let seed = number("DIPTYCH_FUZZ_SEED", 1);
    let mutations = target.mutations * number("DIPTYCH_FUZZ_TIMES", 1);
    let start = std::time::Instant::now();
    let report = driver::run(target, seed, mutations, &mut memory::ThisThread);
    println!("{name}: DIPTYCH_FUZZ_SEED={seed} {report:?} in {:?}", start.elapsed());
}

macro_rules! targets {
    ($($name:ident)*) => {
        mod fuzz {
            $(#[test]
            fn $name() {
                super::run(stringify!($name));
            })*
        }

        const TESTED: &[&str] = &[$(stringify!($name)),*];
    };
}

targets! {
    segment tail manifest head index group mark archive snapshot
    filter tag token json_object json_codec packed_codec ndjson flights csv http
    wire_server log_http wire_client
}

#[test]
fn each_target_has_a_test_a_driver_and_kept_inputs() {
    let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names, TESTED);
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for name in names {
        let driver = fs::read_to_string(fuzz.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(driver.contains(&format!("run_one({name:?}, data)")), "the driver of {name}");
        assert!(manifest.contains(&format!("name = {name:?}")), "{name} in the manifest");
        let kept = driver::corpus(target(name).unwrap());
        assert!(fs::read_dir(&kept).is_ok_and(|mut kept| kept.next().is_some()), "{kept:?}");
    }
}

/// Otherwise a target that compares nothing would pass.
#[test]
fn an_event_that_was_changed_is_noticed() {
    let seeds = (target("segment").unwrap().seeds)();
    let mut changed = 0;
    for seed in seeds.iter().filter(|seed| seed[0] == 1) {
        diptych_fuzz::control(seed);
        let mut other = seed.clone();
        let Some(at) = seed.windows(9).position(|bytes| bytes == b"\"number\":") else { continue };
        other[at + 9] ^= 1;
        changed += usize::from(catch_unwind(|| diptych_fuzz::control(&other)).is_err());
    }
    // The log does not open with other complete segments in the order of arrival.
    assert!(changed >= 8, "a change was noticed in {changed} segments");
}
