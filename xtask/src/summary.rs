//! The table at the end: what became of each suite.

use std::fmt::Write;

/// Counts of single tests, gathered from what the test programs print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tests {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Tests {
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

/// What became of a suite.
#[derive(Debug)]
pub(crate) enum Outcome {
    Passed(Tests),
    Failed(Tests),
    /// Something that it needs is not there: what, and how to get it.
    DidNotRun(String),
}

#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) suite: &'static str,
    pub(crate) outcome: Outcome,
    pub(crate) seconds: f64,
}

/// The table with the totals as its last line, and whether all is well.
///
/// A suite that failed without a failed test (it does not compile) and a suite that did not run
/// count as one, so that the last line never looks better than things are.
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
    fn tests_are_counted_from_what_is_printed() {
        let mut tests = Tests::default();
        tests.add("running 12 tests");
        tests.add(LINE);
        tests.add(LINE);
        assert_eq!(tests, Tests { passed: 24, failed: 6, skipped: 2 });
    }

    #[test]
    fn the_last_line_is_the_totals() {
        let tests = Tests { passed: 12, failed: 0, skipped: 1 };
        let rows = [row("unit", Outcome::Passed(tests)), row("doc", Outcome::Passed(tests))];
        let (text, passed) = summary(&rows);
        assert_eq!(text.lines().last(), Some("24 passed, 0 failed, 2 skipped"));
        assert!(passed, "{text}");
    }

    #[test]
    fn what_does_not_compile_counts_as_failed() {
        let (text, passed) = summary(&[row("unit", Outcome::Failed(Tests::default()))]);
        assert_eq!(text.lines().last(), Some("0 passed, 1 failed, 0 skipped"));
        assert!(!passed);
    }

    #[test]
    fn what_did_not_run_is_named_with_what_to_do() {
        let outcome = Outcome::DidNotRun("git is missing: install the package git".into());
        let (text, passed) = summary(&[row("tidy", outcome)]);
        assert!(text.contains("tidy did not run: git is missing"), "{text}");
        assert_eq!(text.lines().last(), Some("0 passed, 0 failed, 1 skipped"));
        assert!(passed);
    }
}
