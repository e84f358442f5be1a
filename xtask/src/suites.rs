//! Runs every suite of tests, one after another, even after failures.

use std::{
    env,
    io::{BufRead, BufReader},
    process::Stdio,
    time::Instant,
};

use crate::{
    cargo,
    summary::{Outcome, Row, Tests, summary},
    tools::{CHROMEDRIVER, CHROMIUM, GIT, Tool, install},
};

/// A group of tests that runs as a unit, or is left out as a unit.
struct Suite {
    name: &'static str,
    /// Arguments for `cargo test`.
    args: &'static [&'static str],
    /// Programs that the suite needs besides cargo.
    needs: &'static [Tool],
}

const SUITES: &[Suite] = &[
    Suite { name: "unit", args: &["--workspace", "--all-features", "--lib", "--bins"], needs: &[] },
    Suite {
        name: "integration",
        args: &[
            "--workspace",
            "--all-features",
            "--test",
            "*",
            "--",
            "--skip",
            "tidy::",
            "--skip",
            "browser::",
        ],
        needs: &[],
    },
    Suite {
        name: "pages in a browser",
        args: &["--workspace", "--all-features", "--test", "*", "--", "browser::"],
        needs: &[CHROMIUM, CHROMEDRIVER],
    },
    Suite {
        name: "tidy",
        // Uses the features of the suites before, so that cargo compiles nothing again.
        args: &["--workspace", "--all-features", "--test", "*", "--", "tidy::"],
        needs: &[GIT],
    },
    Suite {
        name: "examples in docs",
        args: &["--workspace", "--all-features", "--doc"],
        needs: &[],
    },
];

/// Runs all suites and prints the summary. Returns whether none failed.
pub(crate) fn run() -> bool {
    // In CI a suite that cannot run counts as failed, because CI has to run all suites.
    let strict = env::var("CI").is_ok_and(|value| value == "true");
    let rows: Vec<Row> = SUITES.iter().map(|suite| run_one(suite, strict)).collect();
    let (text, passed) = summary(&rows);
    println!("\n{text}");
    passed
}

fn run_one(suite: &Suite, strict: bool) -> Row {
    println!("\n== {}", suite.name);
    let start = Instant::now();
    let outcome = match suite.needs.iter().try_for_each(install) {
        Ok(()) => run_tests(suite),
        Err(missing) => {
            eprintln!("\n!! the suite {:?} DID NOT RUN: {missing}\n", suite.name);
            if strict { Outcome::Failed(Tests::default()) } else { Outcome::DidNotRun(missing) }
        }
    };
    Row { suite: suite.name, outcome, seconds: start.elapsed().as_secs_f64() }
}

fn run_tests(suite: &Suite) -> Outcome {
    let mut command = cargo();
    command.args(["test", "--no-fail-fast"]).args(suite.args).stdout(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            eprintln!("xtask: cannot start cargo: {error}");
            return Outcome::Failed(Tests::default());
        }
    };
    let mut tests = Tests::default();
    if let Some(output) = child.stdout.take() {
        // A line that is not UTF-8 is a test's own output and contains no counts.
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            tests.add(&line);
        }
    }
    match child.wait() {
        Ok(status) if status.success() => Outcome::Passed(tests),
        _ => Outcome::Failed(tests),
    }
}
