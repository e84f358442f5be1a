//! Runs every suite of tests, even after failures.

use std::{
    env,
    process::Command,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    Lints,
    environment::{
        BROWSER, CLIENT_GENERATORS, Environment, FORMATS, NATS, PGBOUNCER, POSTGRES_14,
        POSTGRES_18, POSTGRES_UNPACKED,
    },
    group::{self, End, TimeLimits},
    summary::{Failures, Outcome, Row, Tests, summary},
    target,
    tools::{CHROMEDRIVER, CHROMIUM, GIT, POSTGRES, Tool, install},
};

/// How often a suite runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tier {
    /// Before each merge, within 20 minutes on two processors, from a fresh clone.
    Check,
    /// Before a release and after a change of the engine: within 75 minutes.
    Long,
}

/// A group of tests that runs as a unit, or is left out as a unit.
struct Suite {
    name: &'static str,
    tier: Tier,
    /// Which packages `cargo test` compiles. Almost all suites take the whole workspace with the
    /// same features, so that cargo compiles nothing twice.
    packages: &'static [&'static str],
    /// Which targets of them run.
    targets: &'static [&'static str],
    /// Arguments for the test programs: which tests run.
    tests: &'static [&'static str],
    /// How many rounds the randomised tests run, if that differs from their default.
    counts: &'static [(&'static str, &'static str)],
    /// Programs that the suite needs besides cargo.
    needs: &'static [Tool],
    /// Packages of other languages that it needs.
    environment: Option<&'static Environment>,
    /// How long its tests may take. A suite that takes longer is ended with all its processes, and
    /// has failed. A test that waits for ever would otherwise hold up the gate.
    limit: Duration,
    /// Whether the suite has a build of its own, in which the scheduler of the tests has the locks,
    /// atomics and threads. It is in a folder of its own, so that the other build stays.
    explores: bool,
}

/// The limit of time of a suite that takes a minute or two on two processors.
const SHORT_SUITE: Duration = Duration::from_secs(10 * 60);

/// The limit of time of any other suite of the first tier. Another suite runs at the same time.
const CHECK_SUITE: Duration = Duration::from_secs(30 * 60);

/// The limit of time of a suite of the long tier, which as a whole aims at 75 minutes.
const LONG_SUITE: Duration = Duration::from_secs(60 * 60);

/// The limit of time until a suite prints its first line. Cargo may compile everything meanwhile,
/// or wait for another cargo.
const COMPILATION: Duration = Duration::from_secs(60 * 60);

/// The tests of PostgreSQL in the first tier. The others cut connections or kill programs at every
/// statement, message or step, or do it again and again.
const POSTGRES_TESTS: &[&str] = &[
    "postgres::",
    "--skip",
    "pgbouncer::",
    "--skip",
    "every_statement::",
    "--skip",
    "lost_at_any_message",
    "--skip",
    "of_several_programs_one_moves",
    "--skip",
    "kill::",
    "--skip",
    "postgres::histories::",
    "--skip",
    "postgres::failover::",
    "--skip",
    "postgres::replicas::",
    "--skip",
    "move_log::",
    "--skip",
    "demo::postgres::",
];

/// The tests of pages in the first tier: the boards, the form of commands, and the way of a command
/// to the views.
const BROWSER_TESTS: &[&str] = &["browser::sending::", "browser::showing::", "browser::trip::"];

/// The other tests of pages.
const OTHER_BROWSER_TESTS: &[&str] = &[
    "browser::",
    "--skip",
    "browser::sending::",
    "--skip",
    "browser::showing::",
    "--skip",
    "browser::trip::",
];

/// The tests of PostgreSQL that need no program for dumps. The packages of npm lack it.
const WITHOUT_DUMPS: &[&str] =
    &["postgres::", "--skip", "pgbouncer::", "--skip", "a_dump", "--skip", "older_dump"];

const UNIT: &[&str] = &["--lib", "--bins"];
const INTEGRATION: &[&str] = &["--test", "*"];

const WORKSPACE: &[&str] = &["--workspace"];
/// Any crate of a program can turn this feature of serde_json on for the whole program. It changes
/// how numbers look to serde.
const PRECISE_NUMBERS: &[&str] =
    &["--package", "diptych", "--features", "serde_json/arbitrary_precision"];

const SCHEDULES: &[&str] = &["--package", "diptych-schedules"];

const SUITES: &[Suite] = &[
    Suite { limit: SHORT_SUITE, ..suite("unit", UNIT, &[]) },
    suite(
        "integration",
        INTEGRATION,
        &[
            "--skip",
            "tidy::",
            "--skip",
            "browser::",
            "--skip",
            "clients::",
            "--skip",
            "nats::",
            "--skip",
            "postgres::",
            "--skip",
            "formats::",
            "--skip",
            "fuzz::",
            "--skip",
            "interference::",
            // The other mode of the server has the same conformance tests.
            "--skip",
            "conformance::answers_when_accepted::",
            // It compiles all dependencies again.
            "--skip",
            "a_wrong_program",
            // These load flights again and again.
            "--skip",
            "demo::elsewhere::",
            "--skip",
            "demo::a_killed_load",
        ],
    ),
    suite("outside interference", INTEGRATION, &["interference::"]),
    Suite { limit: SHORT_SUITE, ..suite("fuzz, short", INTEGRATION, &["fuzz::"]) },
    Suite {
        needs: &[CHROMIUM, CHROMEDRIVER],
        ..suite("pages in a browser", INTEGRATION, BROWSER_TESTS)
    },
    Suite {
        environment: Some(&NATS),
        limit: SHORT_SUITE,
        ..suite("NATS", INTEGRATION, &["nats::"])
    },
    Suite { needs: &[POSTGRES], ..suite("PostgreSQL", INTEGRATION, POSTGRES_TESTS) },
    Suite { needs: &[GIT], limit: SHORT_SUITE, ..suite("tidy", INTEGRATION, &["tidy::"]) },
    suite("examples in docs", &["--doc"], &[]),
    long("compile errors", &["a_wrong_program"], &[]),
    Suite {
        environment: Some(&CLIENT_GENERATORS),
        ..long("generated clients", &["clients::"], &[])
    },
    Suite { environment: Some(&FORMATS), ..long("formats of other systems", &["formats::"], &[]) },
    Suite {
        needs: &[POSTGRES],
        environment: Some(&PGBOUNCER),
        ..long("PostgreSQL behind pgbouncer", &["pgbouncer::"], &[])
    },
    long(
        "conformance of a server that answers early",
        &["conformance::answers_when_accepted::"],
        &[],
    ),
    long("the demo in several processes", &["demo::elsewhere::"], &[]),
    Suite {
        needs: &[CHROMIUM, CHROMEDRIVER],
        environment: Some(&BROWSER),
        ..long("pages in a browser, longer", OTHER_BROWSER_TESTS, &[])
    },
    Suite {
        needs: &[POSTGRES],
        ..long(
            "PostgreSQL at every statement",
            &[
                "every_statement::",
                "lost_at_any_message",
                "of_several_programs_one_moves",
                "move_log::",
            ],
            &[],
        )
    },
    // At least ten times the default counts, which are constants of the tests.
    long("simulated disk, longer", &["simulated::"], &[("DIPTYCH_SIM_SEEDS", "4000")]),
    long(
        "loss of power in clusters, backups and archives, longer",
        &["cluster::", "backup_power::", "archive_power::", "move_power::", "stopped_opens::"],
        &[("DIPTYCH_SIM_SEEDS", "120")],
    ),
    long(
        "loss and a full disk at every operation, longer",
        &["every_operation::", "full_disk::"],
        &[("DIPTYCH_SIM_SEEDS", "1000")],
    ),
    long("killed writers, longer", &["crash::", "backup_kills::"], &[("DIPTYCH_KILLS", "500")]),
    Suite {
        needs: &[POSTGRES],
        ..long("killed projections, longer", &["kill::"], &[("DIPTYCH_KILLS", "400")])
    },
    long("killed servers of a log, longer", &["kills::"], &[("DIPTYCH_KILLS", "100")]),
    long(
        "a connection that changes bytes, longer",
        &["proxy::a_connection_that_changes_bytes"],
        &[("DIPTYCH_DAMAGED_CALLS", "300")],
    ),
    long(
        "killed programs of processes, longer",
        &["processes::kills::", "processes::nodes::"],
        &[("DIPTYCH_PROCESS_SEEDS", "500")],
    ),
    Suite {
        needs: &[POSTGRES],
        ..long(
            "killed servers of PostgreSQL, longer",
            &["postgres::loss::", "postgres::histories::"],
            &[
                ("DIPTYCH_KILLS", "100"),
                ("DIPTYCH_HISTORIES", "20"),
                ("DIPTYCH_HISTORY_CALLS", "400"),
            ],
        )
    },
    Suite {
        needs: &[POSTGRES],
        ..long("PostgreSQL with replicas", &["postgres::failover::", "postgres::replicas::"], &[])
    },
    Suite { environment: Some(&POSTGRES_18), ..long("PostgreSQL 18, longer", WITHOUT_DUMPS, &[]) },
    // The oldest one that works.
    Suite { environment: Some(&POSTGRES_14), ..long("PostgreSQL 14", WITHOUT_DUMPS, &[]) },
    Suite {
        environment: Some(&POSTGRES_UNPACKED),
        ..long(
            "PostgreSQL of Debian, unpacked",
            &["postgres::failover::", "postgres::schema::"],
            &[],
        )
    },
    Suite {
        needs: &[POSTGRES],
        ..long(
            "PostgreSQL with inline rows",
            &["postgres::conformance::", "--test-threads", "6"],
            &[("DIPTYCH_INLINE", "1")],
        )
    },
    Suite {
        needs: &[POSTGRES],
        ..long(
            "a month of flights and a large import outside of a folder",
            &[
                "demo::postgres::",
                "the_demo_on_a_server_has_the_digests",
                "a_large_table_does_not_sit",
            ],
            &[("DIPTYCH_DEMO_UNTIL", "all"), ("DIPTYCH_IMPORT_ROWS", "200000")],
        )
    },
    long("killed orders, longer", &["killed_orders"], &[("DIPTYCH_KILL_SECONDS", "600")]),
    long("killed services, longer", &["killed_members"], &[("DIPTYCH_KILL_SECONDS", "600")]),
    long("killed loads, longer", &["demo::a_killed_load"], &[("DIPTYCH_KILLS", "40")]),
    long(
        "histories of concurrent clients, longer",
        &["histories::", "--skip", "postgres::"],
        &[("DIPTYCH_HISTORIES", "20"), ("DIPTYCH_HISTORY_CALLS", "400")],
    ),
    long("model of a store, longer", &["model"], &[("DIPTYCH_MODEL_RUNS", "480")]),
    long("interleaved commands, longer", &["interleave::"], &[("DIPTYCH_INTERLEAVINGS", "15000")]),
    long("fuzz, longer", &["fuzz::"], &[("DIPTYCH_FUZZ_TIMES", "20")]),
    Suite {
        packages: PRECISE_NUMBERS,
        targets: &["--test", "testing"],
        ..long("schema lock, with precise numbers", &["schema_lock::"], &[])
    },
    // More files than a process may map.
    long("a log of 100,000 segments", &["maps::a_log_of"], &[("DIPTYCH_SEGMENTS", "100000")]),
    long("sessions, longer", &["sessions::"], &[("DIPTYCH_READS", "1000000")]),
    // Fifty times the default, because a schedule takes about a millisecond.
    Suite {
        packages: SCHEDULES,
        explores: true,
        ..long("schedules, longer", &[], &[("DIPTYCH_SCHEDULES", "10000")])
    },
];

const fn suite(
    name: &'static str,
    targets: &'static [&'static str],
    tests: &'static [&'static str],
) -> Suite {
    let (packages, counts, needs): (_, _, &[Tool]) = (WORKSPACE, &[], &[]);
    let (environment, limit, explores) = (None, CHECK_SUITE, false);
    let tier = Tier::Check;
    Suite { name, tier, packages, targets, tests, counts, needs, environment, limit, explores }
}

const fn long(
    name: &'static str,
    tests: &'static [&'static str],
    counts: &'static [(&'static str, &'static str)],
) -> Suite {
    Suite { tier: Tier::Long, counts, limit: LONG_SUITE, ..suite(name, INTEGRATION, tests) }
}

/// How many suites of the first tier run at once. Many tests wait for a disk, a server or a
/// browser, so one suite leaves half of two processors idle.
const LANES: usize = 2;

/// Runs the suites up to this tier and prints the summary. Returns whether none failed.
pub(crate) fn run(tier: Tier, lints: Lints) -> bool {
    let of = |tier: Tier| SUITES.iter().filter(|suite| suite.tier == tier).collect::<Vec<_>>();
    let mut rows = run_in_lanes(&of(Tier::Check), LANES, lints);
    if tier == Tier::Long {
        rows.extend(run_in_lanes(&of(Tier::Long), 1, lints));
    }
    report(&rows)
}

/// Runs the suites with these names and prints the summary. Returns whether none failed. If a name
/// is unknown, none runs.
pub(crate) fn run_named(names: &[&str]) -> bool {
    match named(names) {
        Ok(suites) => report(&run_in_lanes(&suites, 1, Lints::Compiler)),
        Err(error) => {
            eprint!("{error}");
            false
        }
    }
}

/// The suites with these names, in the order of the names. The error lists every name.
fn named(names: &[&str]) -> Result<Vec<&'static Suite>, String> {
    let all: String = SUITES.iter().map(|suite| format!("  {}\n", suite.name)).collect();
    if names.is_empty() {
        return Err(format!("xtask: name at least one of the suites:\n{all}"));
    }
    let find = |name: &&str| {
        let found = SUITES.iter().find(|suite| suite.name == *name);
        found.ok_or_else(|| format!("xtask: no suite is named {name:?}. The suites are:\n{all}"))
    };
    names.iter().map(find).collect()
}

/// Prints the summary. Returns whether no suite failed.
fn report(rows: &[Row]) -> bool {
    let (text, passed) = summary(rows);
    println!("\n{text}");
    passed
}

/// Runs these suites in a number of lanes at once. Each lane takes the next suite.
fn run_in_lanes(suites: &[&'static Suite], lanes: usize, lints: Lints) -> Vec<Row> {
    // In CI a suite that cannot run counts as failed, because CI has to run all suites.
    let strict = env::var("CI").is_ok_and(|value| value == "true");
    let (next, rows) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let lane = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(suite) = suites.get(at) else { return };
            let row = run_one(suite, strict, lints, lanes > 1);
            rows.lock().unwrap_or_else(PoisonError::into_inner).push((at, row));
        }
    };
    thread::scope(|scope| (0..lanes).for_each(|_| drop(scope.spawn(lane))));
    let mut rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
    rows.sort_by_key(|(at, _)| *at);
    rows.into_iter().map(|(_, row)| row).collect()
}

/// Held while programs are installed, because a package manager works for one caller at a time.
static INSTALLING: Mutex<()> = Mutex::new(());

/// Runs a suite. If others run at the same time, its lines begin with its name.
fn run_one(suite: &Suite, strict: bool, lints: Lints, is_named: bool) -> Row {
    println!("\n== {}", suite.name);
    let start = Instant::now();
    let installed = {
        let _installing = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
        let installed = suite.needs.iter().map(available).collect::<Result<Vec<_>, String>>();
        installed.and_then(|unpacked| {
            suite.environment.map_or(Ok(()), Environment::install)?;
            Ok(unpacked.into_iter().flatten().chain(suite.environment).collect::<Vec<_>>())
        })
    };
    let outcome = match installed {
        Ok(environments) => run_tests(suite, &environments, lints, is_named),
        Err(missing) => {
            eprintln!("\n!! the suite {:?} DID NOT RUN: {missing}\n", suite.name);
            if strict {
                Outcome::Failed(Tests::default(), Failures::default())
            } else {
                Outcome::DidNotRun(missing)
            }
        }
    };
    Row { suite: suite.name, outcome, seconds: start.elapsed().as_secs_f64() }
}

/// Ensures that the tool is there. One that cannot be installed may be unpacked: then the answer is
/// the environment with it.
fn available(tool: &Tool) -> Result<Option<&'static Environment>, String> {
    match (install(tool), *tool == POSTGRES) {
        (Ok(()), _) => Ok(None),
        (Err(missing), true) => match POSTGRES_UNPACKED.install() {
            Ok(()) => Ok(Some(&POSTGRES_UNPACKED)),
            Err(error) => Err(format!("{missing}; {error}")),
        },
        (Err(missing), false) => Err(missing),
    }
}

fn run_tests(
    suite: &Suite,
    environments: &[&Environment],
    lints: Lints,
    is_named: bool,
) -> Outcome {
    let mut command = lints.cargo();
    command.args(["test", "--no-fail-fast", "--all-features"]);
    if suite.explores {
        command.arg("--target-dir").arg(target().join("schedules"));
        let flags = env::var("RUSTFLAGS").unwrap_or_default();
        command.env("RUSTFLAGS", format!("{flags} --cfg diptych_model"));
    }
    command.args(suite.packages).args(suite.targets);
    command.arg("--").args(suite.tests);
    command.envs(environments.iter().map(|environment| environment.variable()));
    command.envs(suite.counts.iter().copied());
    let limits = TimeLimits { first_line: COMPILATION, rest: suite.limit };
    watch(suite.name, &mut command, limits, is_named)
}

/// Runs the command of a suite, repeats its output, and counts the tests in it.
fn watch(suite: &str, command: &mut Command, limits: TimeLimits, is_named: bool) -> Outcome {
    let (mut tests, mut failures) = (Tests::default(), Failures::default());
    let end = group::run(command, limits, |line| {
        match is_named {
            true => println!("{suite}: {line}"),
            false => println!("{line}"),
        }
        tests.add(line);
        failures.add(line);
    });
    match end {
        Ok(End::Exit(status)) if status.success() && tests.is_empty() => {
            eprintln!("xtask: no test of the suite {suite:?} was found");
            Outcome::Failed(tests, failures)
        }
        Ok(End::Exit(status)) if status.success() => Outcome::Passed(tests),
        Ok(End::Exit(_)) => Outcome::Failed(tests, failures),
        Ok(End::TimeLimit(limit)) => {
            eprintln!("\n!! the suite {suite:?} reached its limit of time, and was ended\n");
            Outcome::TimeLimit(tests, failures, limit)
        }
        Err(error) => {
            eprintln!("xtask: cannot run cargo: {error}");
            Outcome::Failed(tests, failures)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_suite_with_a_test_that_hangs_fails_and_names_the_test() {
        let output = "echo; echo 'running 3 tests'; echo 'test reads::a_read_ends ... ok'; \
                      echo 'test reads::a_read_hangs has been running for over 60 seconds'; \
                      sleep 60";
        let mut command = Command::new("sh");
        command.args(["-c", output]);
        let limits =
            TimeLimits { first_line: Duration::from_secs(60), rest: Duration::from_secs(1) };
        let outcome = watch("integration", &mut command, limits, false);
        let (text, passed) = summary(&[Row { suite: "integration", outcome, seconds: 1.0 }]);
        assert!(!passed, "{text}");
        let words = "integration failed: it reached its limit of 1 second";
        assert!(text.contains(words), "{text}");
        let named = "integration failed: reads::a_read_hangs had begun and not ended\n";
        assert!(text.contains(named), "{text}");
    }

    /// Variables of tests that no suite of the long tier sets, each with the reason. A name with a
    /// `*` at its end stands for all that begin so.
    const NO_COUNTS: &[(&str, &str)] = &[
        ("DIPTYCH_BROWSER", "an environment"),
        ("DIPTYCH_CLIENT_GENERATORS", "an environment"),
        ("DIPTYCH_FORMATS", "an environment"),
        ("DIPTYCH_NATS", "an environment"),
        ("DIPTYCH_CRASH_*", "arguments of a child"),
        ("DIPTYCH_FEW_DESCRIPTORS", "an argument of a child"),
        ("DIPTYCH_FOREIGN_FOLDER", "an argument of a child"),
        ("DIPTYCH_KILL_FOLDER", "an argument of a child"),
        ("DIPTYCH_KILL_SEED", "an argument of a child"),
        ("DIPTYCH_POSTER_*", "arguments of a child"),
        ("DIPTYCH_PROCESS_ADDRESS", "an argument of a child"),
        ("DIPTYCH_PROCESS_FOLDER", "an argument of a child"),
        ("DIPTYCH_PROCESS_NUMBERS", "an argument of a child"),
        ("DIPTYCH_PROCESS_ROLE", "an argument of a child"),
        ("DIPTYCH_APPENDING_*", "arguments of a child"),
        ("DIPTYCH_SERVED_*", "arguments of a child"),
        ("DIPTYCH_SERVES_FRESH_LOGS", "an argument of a child"),
        ("DIPTYCH_SMALL_FILE_SYSTEM", "an argument of a child"),
        ("DIPTYCH_TABLES_*", "arguments of a child"),
        ("DIPTYCH_TEST_*", "arguments of a child"),
        ("DIPTYCH_THEATRE_FOLDER", "an argument of a child"),
        ("DIPTYCH_FUZZ_SEED", "repeats one run"),
        ("DIPTYCH_SCHEDULE", "repeats one schedule"),
        ("DIPTYCH_SCHEDULE_SEED", "repeats one run"),
        ("DIPTYCH_SEED", "repeats one run"),
        ("DIPTYCH_SIM_SEED", "repeats one run"),
        ("DIPTYCH_DATA", "an option of the program"),
        ("DIPTYCH_AUTHORITIES", "an option of the program"),
        ("DIPTYCH_TOKEN", "an option of the program"),
        ("DIPTYCH_TRACE_TOKEN", "an option of the program"),
        ("DIPTYCH_COMPAT", "records a new sample"),
        ("DIPTYCH_WRITE_SAMPLE", "writes a new sample"),
        ("DIPTYCH_SCHEMAS", "accepts new schemas"),
        ("DIPTYCH_PROSE", "prints sentences"),
        ("DIPTYCH_TIDY_WRITE", "writes lists anew"),
        // These measure, and a gate says nothing about speed.
        ("DIPTYCH_CATCH_UP", "a measurement"),
        ("DIPTYCH_INLINE_APPENDS", "a measurement"),
        ("DIPTYCH_MEASURE", "a measurement"),
    ];

    #[test]
    fn a_suite_of_the_long_tier_sets_every_count_that_a_test_reads() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
        let mut read = BTreeSet::new();
        for folder in fs::read_dir(crates).unwrap() {
            variables(&folder.unwrap().path().join("tests"), &mut read);
        }
        let long = SUITES.iter().filter(|suite| suite.tier == Tier::Long);
        let set: BTreeSet<&str> =
            long.flat_map(|suite| suite.counts).map(|(name, _)| *name).collect();
        assert!(read.contains("DIPTYCH_KILLS"), "{read:?}");
        let named = |variable: &str| {
            NO_COUNTS.iter().any(|(name, _)| match name.strip_suffix('*') {
                Some(begin) => variable.starts_with(begin),
                None => *name == variable,
            })
        };
        let unset: Vec<_> =
            read.iter().filter(|name| !set.contains(name.as_str()) && !named(name)).collect();
        assert!(unset.is_empty(), "set in no suite of the long tier: {unset:?}");
        let stale: Vec<_> = NO_COUNTS
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| {
                let begin = name.strip_suffix('*');
                !read.iter().any(|read| begin.map_or(read == name, |begin| read.starts_with(begin)))
                    || set.contains(name)
            })
            .collect();
        assert!(stale.is_empty(), "no test reads these, or a suite sets them: {stale:?}");
    }

    /// The variables that the sources in a folder name.
    fn variables(folder: &Path, found: &mut BTreeSet<String>) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                variables(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let names = text.split('"').filter(|name| name.starts_with("DIPTYCH_"));
                let is_of_a_name =
                    |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
                let names = names.filter(|name| name.chars().all(is_of_a_name));
                found.extend(names.map(str::to_owned));
            }
        }
    }

    #[test]
    fn suites_are_found_by_name_and_an_unknown_name_lists_them() {
        let names = |found: Vec<&'static Suite>| -> Vec<_> {
            found.iter().map(|suite| suite.name).collect()
        };
        assert_eq!(named(&["tidy", "unit"]).map(names), Ok(vec!["tidy", "unit"]));
        for names in [&["unit", "units"][..], &[]] {
            let Err(error) = named(names) else { panic!("{names:?} were found") };
            assert!(SUITES.iter().all(|suite| error.contains(suite.name)), "{error}");
        }
    }

    #[test]
    fn what_a_suite_of_the_first_tier_leaves_out_is_in_another_one() {
        let chosen = |suite: &Suite| -> Vec<&'static str> {
            suite.tests.iter().take_while(|name| !name.starts_with("--")).copied().collect()
        };
        let chosen: Vec<_> = SUITES.iter().flat_map(chosen).collect();
        let first_tier = SUITES.iter().filter(|suite| suite.tier == Tier::Check);
        let left_out = first_tier.flat_map(|suite| suite.tests.windows(2)).filter_map(|pair| {
            let [option, name] = pair else { return None };
            (*option == "--skip").then_some(*name)
        });
        let missing: Vec<_> =
            left_out.filter(|name| !chosen.iter().any(|chosen| name.starts_with(chosen))).collect();
        assert!(missing.is_empty(), "in no suite: {missing:?}");
    }

    #[test]
    fn a_suite_may_take_longer_than_it_has_to() {
        for suite in SUITES {
            let seconds = suite.counts.iter().find(|(name, _)| name.ends_with("_SECONDS"));
            let seconds = seconds.map_or(0, |(_, seconds)| seconds.parse().unwrap());
            let least = Duration::from_secs(seconds) + SHORT_SUITE;
            assert!(suite.limit >= least, "{}: {:?}", suite.name, suite.limit);
        }
    }
}
