//! Aligned columns for people to read.

use std::io::{self, Write};

use diptych_store::Timestamp;
use indicatif::HumanCount;

/// Writes rows of a name and a fact, with all names padded to one width.
pub(crate) fn facts(out: &mut impl Write, rows: &[(&str, String)]) -> io::Result<()> {
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, fact) in rows {
        writeln!(out, "{name:width$}  {fact}")?;
    }
    Ok(())
}

/// The time of the last commit, and by how much it is ahead of the clock.
pub(crate) fn recorded(at: Option<Timestamp>, now: Timestamp) -> String {
    let Some(at) = at else { return "never".to_owned() };
    match ahead_seconds(Some(at), now) {
        0 => at.to_string(),
        ahead => format!("{at}, which is {} after the clock", counted(ahead, "second")),
    }
}

/// The whole seconds by which a time is ahead of the clock.
pub(crate) fn ahead_seconds(at: Option<Timestamp>, now: Timestamp) -> u64 {
    let ahead = at.map_or(0, |at| at.as_micros().saturating_sub(now.as_micros()));
    u64::try_from(ahead / 1_000_000).unwrap_or(0)
}

/// Writes the first `top` counts under a heading, with the numbers aligned to the right, then the
/// number of rows that are left out.
pub(crate) fn counts(
    out: &mut impl Write,
    heading: (&str, &str),
    rows: &[(String, u64)],
    top: usize,
) -> io::Result<()> {
    let shown: Vec<_> = rows.iter().take(top).map(|(name, n)| (name, count(*n))).collect();
    let names = shown.iter().map(|(name, _)| name.chars().count());
    let name_width = names.chain([heading.0.len()]).max().unwrap_or(0);
    let numbers = shown.iter().map(|(_, number)| number.len());
    let number_width = numbers.chain([heading.1.len()]).max().unwrap_or(0);
    writeln!(out, "{:name_width$}  {:>number_width$}", heading.0, heading.1)?;
    for (name, number) in &shown {
        writeln!(out, "{name:name_width$}  {number:>number_width$}")?;
    }
    match rows.len() - shown.len() {
        0 => Ok(()),
        left_out => writeln!(out, "… and {} more", count(left_out as u64)),
    }
}

/// A number with separators between its thousands.
pub(crate) fn count(number: u64) -> String {
    HumanCount(number).to_string()
}

/// `1 event`, `2,000 events`.
pub(crate) fn counted(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {what}{plural}", count(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_in_the_future_says_how_far() {
        let (past, now) = (Timestamp::from_micros(0), Timestamp::from_micros(2_500_000));
        assert_eq!(recorded(Some(past), now), "1970-01-01T00:00:00Z");
        let ahead = "1970-01-01T00:00:02.5Z, which is 2 seconds after the clock";
        assert_eq!(recorded(Some(now), past), ahead);
        assert_eq!(recorded(None, now), "never");
    }

    fn text(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn facts_stand_in_one_column() {
        let rows = [("log", "x".to_owned()), ("events", count(1_234_567))];
        assert_eq!(text(|out| facts(out, &rows)), "log     x\nevents  1,234,567\n");
    }

    #[test]
    fn counts_are_aligned_to_the_right_and_cut_at_the_top() {
        let rows = [("withdrawn".to_owned(), 12_000), ("öffnen".to_owned(), 7), ("c".into(), 1)];
        let expected = "type       events\nwithdrawn  12,000\nöffnen          7\n… and 1 more\n";
        assert_eq!(text(|out| counts(out, ("type", "events"), &rows, 2)), expected);
    }

    #[test]
    fn one_has_no_plural() {
        assert_eq!(
            (counted(1, "event"), counted(2_000, "event")),
            ("1 event".into(), "2,000 events".into())
        );
    }
}
