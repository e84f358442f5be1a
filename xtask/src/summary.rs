//! The table at the end, with the result of each suite.

use std::{fmt::Write, time::Duration};

/// Counts of tests, read from the output of the test programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tests {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Tests {
    /// Whether no test ran.
    pub(crate) fn is_empty(self) -> bool {
        self.passed + self.failed == 0
    }

    /// Adds a line such as `test result: ok. 12 passed; 0 failed; 1 ignored; …`.
    pub(crate) fn add(&mut self, line: &str) {
        let Some(counts) = line.strip_prefix("test result: ") else {
            return;
        };
        for part in counts.split([';', '.']) {
            let mut words = part.split_whitespace();
            let (Some(number), Some(what)) = (words.next(), words.next()) else {
                continue;
            };
            let number = number.parse::<u64>().unwrap_or(0);
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }
}

/// The failed tests of a suite, and the words of each, read from the output of the test programs.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    names: Vec<String>,
    /// The tests that have begun and not ended, as far as their program named them: after a minute,
    /// or at once if it runs one test at a time.
    unfinished: Vec<String>,
    /// The output of the tests, as their programs repeat it after the last test.
    words: String,
    is_in_words: bool,
}

impl Failures {
    /// How much of the words of one suite the summary repeats, in bytes.
    const WORDS: usize = 12_000;

    /// Adds a line of a test program.
    pub(crate) fn add(&mut self, line: &str) {
        let name = line.strip_prefix("test ").and_then(|test| test.strip_suffix(" ... FAILED"));
        self.names.extend(name.map(str::to_owned));
        self.follow(line);
        // A program prints `failures:` twice: before the output of the tests, and before their
        // names.
        if line == "failures:" {
            self.is_in_words = !self.is_in_words;
        } else if line.starts_with("test result: ") {
            self.is_in_words = false;
        } else if self.is_in_words
            && !is_of_backtrace(line)
            && self.words.len() + line.len() < Failures::WORDS
        {
            self.words.push_str(line);
            self.words.push('\n');
        }
    }

    fn follow(&mut self, line: &str) {
        // Test programs run one after another.
        if line.starts_with("running ") && (line.ends_with(" tests") || line.ends_with(" test")) {
            self.unfinished.clear();
        }
        let Some(test) = line.strip_prefix("test ") else {
            return;
        };
        let begun = test.strip_suffix(" has been running for over 60 seconds");
        if let Some(name) = begun.or_else(|| test.strip_suffix(" ... ")) {
            self.unfinished.push(name.to_owned());
        } else if let Some((name, _)) = test.split_once(" ... ") {
            // Such as `reads::a_read_ends - should panic`.
            let is = |begun: &str| {
                name.strip_prefix(begun)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(" - "))
            };
            self.unfinished.retain(|begun| !is(begun));
        }
    }
}

/// Whether a line is a frame of a backtrace. Frames would leave no room for the messages.
fn is_of_backtrace(line: &str) -> bool {
    let frame = line.trim_start();
    let number = frame.split_once(": ").is_some_and(|(number, _)| number.parse::<u32>().is_ok());
    line.starts_with(' ') && (number || frame.starts_with("at "))
}

/// The result of a suite.
#[derive(Debug)]
pub(crate) enum Outcome {
    Passed(Tests),
    Failed(Tests, Failures),
    /// The suite did not end within its limit of time, and was ended.
    TimeLimit(Tests, Failures, Duration),
    /// A program that the suite needs is missing. The text names it and says how to get it.
    DidNotRun(String),
}

#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) suite: &'static str,
    pub(crate) outcome: Outcome,
    pub(crate) seconds: f64,
}

/// Returns the words of the failed tests, the table and the names of the failed tests, with the
/// totals as the last line, and whether no suite failed.
///
/// A suite that failed without a failed test (it does not compile) counts as one failed test. A
/// suite that did not run counts as one skipped test. So the last line always shows both.
pub(crate) fn summary(rows: &[Row]) -> (String, bool) {
    let width = rows.iter().map(|row| row.suite.len()).max().unwrap_or(0);
    let words = rows.iter().filter_map(|row| match &row.outcome {
        Outcome::Failed(_, failures) | Outcome::TimeLimit(_, failures, _)
            if !failures.words.is_empty() =>
        {
            Some(format!("== failures of {}\n{}\n", row.suite, failures.words))
        }
        _ => None,
    });
    let mut text: String = words.collect();
    // Writing to a string does not fail.
    let _ = writeln!(text, "{:width$}  result       passed  failed  skipped  seconds", "suite");
    let (mut total, mut notes) = (Tests::default(), String::new());
    for Row { suite, outcome, seconds } in rows {
        let (result, tests) = match outcome {
            Outcome::Passed(tests) => ("passed", *tests),
            Outcome::Failed(tests, failures) => {
                for name in &failures.names {
                    let _ = writeln!(notes, "{suite} failed: {name}");
                }
                ("FAILED", Tests { failed: tests.failed.max(1), ..*tests })
            }
            Outcome::TimeLimit(tests, failures, limit) => {
                let limit = in_words(*limit);
                let _ = writeln!(notes, "{suite} failed: it reached its limit of {limit}");
                for name in &failures.unfinished {
                    let _ = writeln!(notes, "{suite} failed: {name} had begun and not ended");
                }
                for name in &failures.names {
                    let _ = writeln!(notes, "{suite} failed: {name}");
                }
                ("TIME LIMIT", Tests { failed: tests.failed + 1, ..*tests })
            }
            Outcome::DidNotRun(why) => {
                let _ = writeln!(notes, "{suite} did not run: {why}");
                ("DID NOT RUN", Tests { skipped: 1, ..Tests::default() })
            }
        };
        let Tests { passed, failed, skipped } = tests;
        let line = format!(
            "{suite:width$}  {result:11}  {passed:6}  {failed:6}  {skipped:7}  {seconds:7.1}"
        );
        let _ = writeln!(text, "{line}");
        total.passed += passed;
        total.failed += failed;
        total.skipped += skipped;
    }
    let Tests { passed, failed, skipped } = total;
    let _ = write!(text, "{notes}\n{passed} passed, {failed} failed, {skipped} skipped");
    (text, failed == 0)
}

/// A duration in minutes, or in seconds.
fn in_words(duration: Duration) -> String {
    let (number, unit) = match duration.as_secs() {
        seconds if seconds >= 60 => (seconds / 60, "minute"),
        seconds => (seconds, "second"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 7 \
                        filtered out; finished in 0.19s";

    fn row(suite: &'static str, outcome: Outcome) -> Row {
        Row { suite, outcome, seconds: 1.25 }
    }

    fn failed(lines: &[&str]) -> Outcome {
        let (mut tests, mut failures) = (Tests::default(), Failures::default());
        for line in lines {
            tests.add(line);
            failures.add(line);
        }
        Outcome::Failed(tests, failures)
    }

    #[test]
    fn tests_are_counted_from_printed_results() {
        let mut tests = Tests::default();
        tests.add("running 12 tests");
        tests.add(LINE);
        tests.add(LINE);
        assert_eq!(tests, Tests { passed: 24, failed: 6, skipped: 2 });
    }

    #[test]
    fn the_last_line_has_the_totals() {
        let tests = Tests { passed: 12, failed: 0, skipped: 1 };
        let rows = [row("unit", Outcome::Passed(tests)), row("doc", Outcome::Passed(tests))];
        let (text, passed) = summary(&rows);
        assert_eq!(text.lines().last(), Some("24 passed, 0 failed, 2 skipped"));
        assert!(passed, "{text}");
    }

    #[test]
    fn a_suite_that_does_not_compile_counts_as_failed() {
        let (text, passed) = summary(&[row("unit", failed(&[]))]);
        assert_eq!(text.lines().last(), Some("0 passed, 1 failed, 0 skipped"));
        assert!(!passed);
    }

    #[test]
    fn a_suite_that_did_not_run_is_listed_with_its_remedy() {
        let outcome = Outcome::DidNotRun("git is missing: install the package git".into());
        let (text, passed) = summary(&[row("tidy", outcome)]);
        assert!(text.contains("tidy did not run: git is missing"), "{text}");
        assert_eq!(text.lines().last(), Some("0 passed, 0 failed, 1 skipped"));
        assert!(passed);
    }
    #[test]
    fn a_failed_test_is_named_after_the_table_and_its_words_are_before_it() {
        let output = [
            "test reads::a_read_ends ... ok",
            "test reads::a_read_begins ... FAILED",
            "",
            "failures:",
            "",
            "---- reads::a_read_begins stdout ----",
            "thread 'reads::a_read_begins' (7) panicked at tests/it/reads.rs:7:5:",
            "three is not four",
            "   0: __rustc::rust_begin_unwind",
            "             at /rustc/library/std/src/panicking.rs:689:5",
            "",
            "failures:",
            "    reads::a_read_begins",
            "",
            "test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out",
            "Doc-tests diptych",
        ];
        let (text, passed) = summary(&[row("integration", failed(&output))]);
        let (before, after) = text.split_once("suite ").expect("there is a table");
        assert!(before.contains("== failures of integration"), "{text}");
        assert!(before.contains("three is not four"), "{text}");
        assert!(!before.contains("panicking.rs") && !before.contains("Doc-tests"), "{text}");
        assert!(after.contains("\nintegration failed: reads::a_read_begins\n"), "{text}");
        assert_eq!(text.lines().last(), Some("1 passed, 1 failed, 0 skipped"));
        assert!(!passed);
    }

    #[test]
    fn a_suite_that_reached_its_limit_names_the_tests_that_had_begun_and_not_ended() {
        let output = [
            "running 2 tests",
            "test index::a_merge_hangs has been running for over 60 seconds",
            // Its program is ended by the system, and cargo starts the next one.
            "",
            "running 5 tests",
            "test reads::a_read_hangs has been running for over 60 seconds",
            "test reads::a_slow_read_ends has been running for over 60 seconds",
            "test reads::a_slow_read_panics has been running for over 60 seconds",
            "test reads::a_slow_read_ends ... ok",
            "test reads::a_slow_read_panics - should panic ... ok",
            "test reads::a_read_begins ... FAILED",
            "test writes::one_at_a_time ... ",
        ];
        let Outcome::Failed(tests, failures) = failed(&output) else { panic!("it failed") };
        let outcome = Outcome::TimeLimit(tests, failures, Duration::from_secs(1_200));
        let (text, passed) = summary(&[row("integration", outcome)]);
        let notes = "integration failed: it reached its limit of 20 minutes
integration failed: reads::a_read_hangs had begun and not ended
integration failed: writes::one_at_a_time had begun and not ended
integration failed: reads::a_read_begins

0 passed, 1 failed, 0 skipped";
        assert!(text.ends_with(notes), "{text}");
        assert!(!passed);
    }

    #[test]
    fn the_words_of_many_failed_tests_end() {
        let line = "three is not four, and seven is not eight";
        let mut lines = vec!["failures:"];
        lines.extend(std::iter::repeat_n(line, 1_000));
        let (text, _) = summary(&[row("integration", failed(&lines))]);
        assert!(text.len() < Failures::WORDS + 1_000, "{}", text.len());
    }
}
