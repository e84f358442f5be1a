//! Runs a target on stable Rust: the kept corpus first, then its mutations.
//!
//! An input whose notes are new is mutated further, as a fuzzer does with an input that reaches new
//! code. That is weaker than coverage, and needs no instrumented build.

use std::{
    collections::HashSet,
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use diptych_log::disk::simulated::Random;

use crate::{Target, mutate::Mutator, observe};

/// Inputs that are mutated, at most.
const KNOWN: usize = 4_000;

/// Watches one input: how long it takes, and how much memory.
pub trait Watch {
    /// An input begins.
    fn begin(&mut self);

    /// The bytes that were in use at most since it began.
    fn peak_bytes(&self) -> usize;
}

/// The figures of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunReport {
    /// Inputs that ran.
    pub inputs: u64,
    /// Inputs that did something new.
    pub novel: u64,
    /// The longest time of an input.
    pub longest: Duration,
    /// The most memory that an input used.
    pub peak_bytes: usize,
}

/// Bounds for one input. They are far above what inputs need, because machines are loaded.
const LONGEST: Duration = Duration::from_secs(20);
const PEAK_BYTES: usize = 256 << 20;

/// The folder with the kept inputs of a target.
pub fn corpus(target: &Target) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    root.join(target.name)
}

/// The kept inputs, in the order of their names.
fn kept(target: &Target) -> Vec<Vec<u8>> {
    // A new target has no folder yet.
    let Ok(listed) = fs::read_dir(corpus(target)) else { return Vec::new() };
    let mut paths: Vec<_> = listed.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let read = |path: &PathBuf| {
        fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    paths.iter().map(read).collect()
}

/// Runs the seeds, the kept inputs, and this number of their mutations.
///
/// # Panics
/// If an input makes the target panic, or takes too long or too much memory. The message says where
/// the input was saved, and how to run it alone.
pub fn run(target: &Target, seed: u64, mutations: u64, watch: &mut dyn Watch) -> RunReport {
    let mut run = Run { target, watch, seen: HashSet::new(), report: RunReport::default() };
    if let Some(path) = env::var_os("DIPTYCH_FUZZ_INPUT") {
        let input = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        run.input(&input);
        return run.report;
    }
    let mut known = (target.seeds)();
    known.extend(kept(target));
    for input in &known {
        run.input(input);
    }
    let mut mutator = Mutator { random: Random::new(seed), words: target.words };
    for _ in 0..mutations {
        let input = mutator.mutate(&known);
        if run.input(&input) && known.len() < KNOWN {
            known.push(input);
        }
    }
    run.report
}

struct Run<'a> {
    target: &'a Target,
    watch: &'a mut dyn Watch,
    seen: HashSet<u64>,
    report: RunReport,
}

impl Run<'_> {
    /// Runs an input. Returns whether it did something new.
    fn input(&mut self, input: &[u8]) -> bool {
        if env::var_os("DIPTYCH_FUZZ_SAVE_ALL").is_some() {
            // The last one is there if the process is ended.
            self.save(input, "last");
        }
        self.watch.begin();
        let start = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.target.run)(input)));
        let (took, peak) = (start.elapsed(), self.watch.peak_bytes());
        let report = &mut self.report;
        report.inputs += 1;
        report.longest = report.longest.max(took);
        report.peak_bytes = report.peak_bytes.max(peak);
        if outcome.is_err() {
            self.fail(input, "it panicked, see above");
        }
        if took > LONGEST {
            self.fail(input, &format!("it took {took:?}"));
        }
        if peak > PEAK_BYTES {
            self.fail(input, &format!("it used {peak} bytes of memory"));
        }
        let novel = self.seen.insert(observe::take());
        self.report.novel += u64::from(novel);
        novel
    }

    fn fail(&self, input: &[u8], problem: &str) -> ! {
        let path = self.save(input, "failed");
        let (name, path) = (self.target.name, path.display());
        panic!(
            "an input of {name}: {problem}; run it alone with \
             DIPTYCH_FUZZ_INPUT={path} cargo test -p diptych-fuzz --all-features {name}"
        );
    }

    fn save(&self, input: &[u8], what: &str) -> PathBuf {
        let path = env::temp_dir().join(format!("diptych-fuzz-{}-{what}", self.target.name));
        fs::write(&path, input).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }
}

/// Adds the inputs to the kept ones that do something new, of these many mutations.
pub fn keep_novel(target: &Target, seed: u64, mutations: u64, most: usize) -> usize {
    let mut known = (target.seeds)();
    known.extend(kept(target));
    let mut seen = HashSet::new();
    let mut is_new = |input: &[u8]| {
        (target.run)(input);
        seen.insert(observe::take())
    };
    for input in &known {
        is_new(input);
    }
    let mut mutator = Mutator { random: Random::new(seed), words: target.words };
    let mut added = 0;
    for _ in 0..mutations {
        let input = mutator.mutate(&known);
        if added < most && is_new(&input) {
            let folder = corpus(target);
            let path = folder.join(format!("{:08x}", crc32c::crc32c(&input)));
            let saved = fs::create_dir_all(&folder).and_then(|()| fs::write(&path, &input));
            saved.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            known.push(input);
            added += 1;
        }
    }
    added
}
