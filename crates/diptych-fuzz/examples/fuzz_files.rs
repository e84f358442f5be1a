//! Writes files that the fuzz targets use: see `fuzz/README.md`.
//!
//! - `fixtures`: the logs that targets put files into, if they are missing
//! - `seeds FOLDER`: the seeds of all targets, for other fuzzers
//! - `corpus`: adds inputs to the corpus that do something new. `DIPTYCH_FUZZ_TARGET` chooses one
//!   target, `DIPTYCH_FUZZ_MOST` the number of inputs, `DIPTYCH_FUZZ_SEED` the seed, and
//!   `DIPTYCH_FUZZ_TIMES` multiplies the number of mutations.

// A program for developers: it ends with a panic if it cannot do its work.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::{env, fs, path::Path};

use diptych_fuzz::{TARGETS, driver};

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["fixtures"] => diptych_fuzz::write_fixtures(),
        ["seeds", folder] => write_seeds(Path::new(folder)),
        ["corpus"] => grow_corpus(),
        _ => panic!("usage: fuzz_files fixtures | seeds FOLDER | corpus"),
    }
}

fn write_seeds(root: &Path) {
    for target in TARGETS {
        let folder = root.join(target.name);
        fs::create_dir_all(&folder).unwrap();
        for (number, seed) in (target.seeds)().iter().enumerate() {
            fs::write(folder.join(format!("seed-{number}")), seed).unwrap();
        }
    }
}

fn grow_corpus() {
    let chosen = env::var("DIPTYCH_FUZZ_TARGET").ok();
    let is_chosen = |name: &str| chosen.as_deref().is_none_or(|chosen| chosen == name);
    for target in TARGETS.iter().filter(|target| is_chosen(target.name)) {
        let most = number("DIPTYCH_FUZZ_MOST", 20) as usize;
        let seed = number("DIPTYCH_FUZZ_SEED", 1);
        let mutations = target.mutations * number("DIPTYCH_FUZZ_TIMES", 1);
        println!("{}: {} added", target.name, driver::keep_novel(target, seed, mutations, most));
    }
}
