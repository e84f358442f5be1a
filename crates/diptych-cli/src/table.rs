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

/// Writes rows of texts below a heading, with all columns but the last padded to one width. `what`
/// names a row if there is none.
pub(crate) fn columns(
    out: &mut impl Write,
    heading: &[&str],
    rows: &[Vec<String>],
    what: &str,
) -> io::Result<()> {
    if rows.is_empty() {
        return writeln!(out, "there is no {what}");
    }
    let heading = heading.iter().map(|name| (*name).to_owned()).collect();
    let rows = rows.iter().map(|row| row.iter().map(|text| printable(text)).collect());
    let lines: Vec<Vec<String>> = std::iter::once(heading).chain(rows).collect();
    let mut widths: Vec<usize> = Vec::new();
    for line in &lines {
        widths.resize(widths.len().max(line.len()), 0);
        for (width, text) in widths.iter_mut().zip(line) {
            *width = (*width).max(text.chars().count());
        }
    }
    for line in lines {
        let mut text = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            text.push_str(&format!("{cell:width$}  "));
        }
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(())
}

/// A text of the log on one line, without characters that move the cursor of a terminal.
pub(crate) fn printable(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => plain.extend(c.escape_default()),
            false => plain.push(c),
        }
    }
    plain
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
    fn columns_are_padded_and_no_text_moves_the_cursor() {
        let rows = [
            vec!["7".to_owned(), "order:1".to_owned(), "a\u{1b}[2J".to_owned()],
            vec!["123".to_owned(), "o".to_owned(), String::new()],
        ];
        let expected = "at   instance  reason\n7    order:1   a\\u{1b}[2J\n123  o\n";
        let heading = ["at", "instance", "reason"];
        assert_eq!(text(|out| columns(out, &heading, &rows, "row")), expected);
        assert_eq!(text(|out| columns(out, &heading, &[], "row")), "there is no row\n");
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
