//! The table at the end, with the result of each suite.

use std::fmt::Write;

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

/// The result of a suite.
#[derive(Debug)]
pub(crate) enum Outcome {
    Passed(Tests),
    Failed(Tests),
    /// A program that the suite needs is missing. The text names it and says how to get it.
    DidNotRun(String),
}

#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) suite: &'static str,
    pub(crate) outcome: Outcome,
    pub(crate) seconds: f64,
}

/// Returns the table, with the totals as its last line, and whether no suite failed.
///
/// A suite that failed without a failed test (it does not compile) counts as one failed test. A
/// suite that did not run counts as one skipped test. So the last line always shows both.
pub(crate) fn summary(rows: &[Row]) -> (String, bool) {
    let width = rows.iter().map(|row| row.suite.len()).max().unwrap_or(0);
    let mut text = format!("{:width$}  result       passed  failed  skipped  seconds\n", "suite");
    let (mut total, mut missing) = (Tests::default(), String::new());
    for Row { suite, outcome, seconds } in rows {
        let (result, tests) = match outcome {
            Outcome::Passed(tests) => ("passed", *tests),
            Outcome::Failed(tests) => ("FAILED", Tests { failed: tests.failed.max(1), ..*tests }),
            Outcome::DidNotRun(why) => {
                missing.push_str(&format!("{suite} did not run: {why}\n"));
                ("DID NOT RUN", Tests { skipped: 1, ..Tests::default() })
            }
        };
        let Tests { passed, failed, skipped } = tests;
        let line = format!(
            "{suite:width$}  {result:11}  {passed:6}  {failed:6}  {skipped:7}  {seconds:7.1}"
        );
        // Writing to a string does not fail.
        let _ = writeln!(text, "{line}");
        total.passed += passed;
        total.failed += failed;
        total.skipped += skipped;
    }
    let Tests { passed, failed, skipped } = total;
    let _ = write!(text, "{missing}\n{passed} passed, {failed} failed, {skipped} skipped");
    (text, failed == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 7 \
                        filtered out; finished in 0.19s";

    fn row(suite: &'static str, outcome: Outcome) -> Row {
        Row { suite, outcome, seconds: 1.25 }
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
        let (text, passed) = summary(&[row("unit", Outcome::Failed(Tests::default()))]);
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
}
