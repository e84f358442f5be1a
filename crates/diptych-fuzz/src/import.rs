//! Targets over files that people bring: lines of JSON for `diptych append`, tables of flights, and
//! tables that are imported as records.

use std::fs;

use diptych_demo::{plan::Plan, source::Source};
use diptych_records::{CsvFile, ImportError, ImportReport, LISTED_ROWS, PlainRecord};
use diptych_store::{Append, EventStore, Filter, Limits, Memory, Position, RawEvent, Read, Store};
use pollster::block_on;
use serde_json::{Map, Value};

use crate::{
    batches::Batches,
    csv_model::{CsvOptions, ModelTable},
    lines::NextInput,
    ndjson::{self, RecordedTime},
    observe::note,
};

/// Lines of JSON as commits. Each event is stored, printed and read again, and is then the same.
pub(crate) fn ndjson(data: &[u8]) {
    let Some((mode, input)) = data.split_first() else { return };
    let recorded = match mode & 1 {
        0 => RecordedTime::AsOccurred,
        _ => RecordedTime::InMetadata,
    };
    let mut limits = Limits::default();
    limits.event_bytes = 2_000;
    limits.commit_bytes = 4_000;
    let per_commit = 1 + usize::from(*mode >> 1);
    let mut batches = Batches::new(input, limits.clone(), per_commit).keeping(recorded);
    let store = Memory::new().limits(limits);
    loop {
        let events = match batches.next() {
            Ok(NextInput::Part(commit)) => commit.events,
            Ok(NextInput::Pause) => panic!("a slice does not pause"),
            Ok(NextInput::End) => break,
            Err(failure) => {
                let text = failure.to_string();
                note(&text);
                assert!(text.contains("line "), "{text:?} names no line");
                break;
            }
        };
        assert!(events.len() <= per_commit, "a commit of {} events", events.len());
        let appended = block_on(store.append(Append::events(events)));
        if let Err(error) = appended {
            panic!("the store refuses what was checked: {error}");
        }
    }
    let all = block_on(store.read(&Filter::everything(), Read::all())).unwrap();
    for event in all.iter() {
        let mut line = Vec::new();
        ndjson::write(&event, &mut line).unwrap();
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1, "one line");
        let again = ndjson::parse(line.trim_ascii_end(), RecordedTime::AsOccurred);
        let again = again.unwrap_or_else(|error| panic!("a printed line is not read: {error}"));
        let mut expected = event.to_raw();
        expected.metadata.occurred_at.get_or_insert(event.recorded_at());
        assert_eq!(again, expected, "{}", String::from_utf8_lossy(&line));
        note(&shape(&expected));
    }
}

/// Which parts an event has.
fn shape(event: &RawEvent) -> String {
    let metadata = &event.metadata;
    format!(
        "{} {} {} {} {}",
        event.tags.is_empty(),
        event.id.is_some(),
        metadata.actor.is_some(),
        metadata.extra.is_empty(),
        serde_json::from_slice::<serde::de::IgnoredAny>(&event.payload).is_ok(),
    )
}

pub(crate) fn ndjson_seeds() -> Vec<Vec<u8>> {
    let texts = [
        r#"{"type":"paid","tags":["account:ann"],"data":{"a": 1.0}}"#,
        r#"{"type":"paid","data_base64":"AAEC","version":3,
            "id":"00000000-0000-0000-0000-00000000002a"}"#,
        r#"{"type":"p\u0061id","data":null,
            "occurred_at":"2013-01-01T05:15:00-05:00",
            "recorded_at":"2013-01-01T10:15:00Z","position":7}"#,
        r#"{"type":"t","data":" \ud83d\ude00","metadata":{"actor":"ann",
            "correlation":"00000000-0000-0000-0000-000000000002","ip":"::1"}}"#,
        "{\"type\":\"t\",\"data\":1}\n\n\
         {\"type\":\"t\",\"data\":[2]}\r\n{\"type\":\"t\",\"data\":\"\"}\n",
    ];
    let lines = texts.map(|text| text.replace("\n            ", ""));
    lines.iter().map(|text| [b"\x07", text.as_bytes()].concat()).collect()
}

/// A table of flights, plain or compressed.
pub(crate) fn flights(data: &[u8]) {
    let Ok(source) = Source::of("flights.csv", data.to_vec()) else { return };
    match Plan::of(&source) {
        Ok(plan) => {
            note("a plan");
            // Compressed tables are not counted here.
            if !data.starts_with(&[0x1f, 0x8b]) {
                let lines = data.split(|byte| [b'\n', b'\r'].contains(byte));
                let rows = lines.filter(|line| !line.is_empty()).count() - 1;
                assert!(plan.commands() >= 2 * rows, "{} commands of {rows} rows", plan.commands());
            }
        }
        Err(error) => {
            let text = error.to_string();
            note(&text);
            assert!(text.contains("flights.csv"), "{text:?} names no file");
        }
    }
}

pub(crate) fn flights_seeds() -> Vec<Vec<u8>> {
    let header = "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,\
        arr_delay,carrier,flight,tailnum,origin,dest,air_time,distance,hour,minute,time_hour\n";
    let rows = [
        "2013,1,1,517,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400,5,15,2013-01-01T10:00:00Z\n",
        "2013,1,1,NA,1630,NA,NA,1815,NA,EV,4308,N18120,EWR,RDU,NA,416,16,30,2013-01-01T21:00:00Z\n",
        "2013,1,2,2358,2359,-1,456,437,19,B6,303,N588JB,JFK,SJU,200,1598,23,59,\
         2013-01-03T04:00:00Z\n",
    ];
    let table = [header, &rows.concat()].concat();
    vec![table.into_bytes(), header.as_bytes().to_vec()]
}

/// A table that is imported as a record: the log has the rows that an independent reader finds, and
/// each other row is refused with its number and its column. A second import changes nothing, and
/// a comparison finds no difference.
pub(crate) fn csv(data: &[u8]) {
    let Some((mode, table)) = data.split_first() else { return };
    let options = CsvOptions {
        delimiter: [b',', b';', b'\t', b'|'][usize::from(mode & 3)],
        nulls: (mode & 4 != 0).then_some("NA"),
        texts: (mode & 8 != 0).then_some("text"),
        key: "id",
        unique: "code",
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.csv");
    fs::write(&path, table).unwrap();
    let open = || {
        let file = CsvFile::with_delimiter(&path, options.delimiter)?;
        Ok(options.nulls.into_iter().fold(file, CsvFile::nulls))
    };
    let mut record = PlainRecord::new("row", options.key).unique(options.unique).delete_missing();
    if let Some(texts) = options.texts {
        record = record.text_column(texts);
    }
    let store = Store::new(Memory::new());
    let import = || block_on(record.import(&store, open()?, |_| ()));
    let model = ModelTable::of(table, options);
    let (first, rows) = match (import(), model) {
        (Ok(report), ModelTable::Rows(rows)) => (report, rows),
        (Ok(report), model) => panic!("{report:?} of a table that is {model:?}"),
        (Err(error), model) => return refused(&error, &model),
    };
    note(&format!("{} created, {} refused", first.created.min(3), first.refused.min(3)));
    first.refusals.iter().for_each(|row| note(&row.reason));
    let stored: Vec<_> = rows.iter().filter_map(|row| row.as_ref().ok()).collect();
    let of_model = (rows.len() as u64, stored.len() as u64, rows.len() as u64);
    assert_eq!((first.read, first.created, first.created + first.refused), of_model, "{first:?}");
    assert!(imported(&store).iter().eq(stored), "{:?} of {rows:?}", imported(&store));
    check_refusals(&first, &rows);
    let head = store.head().position();
    let second = import().unwrap_or_else(|error| panic!("it was imported once: {error}"));
    assert_eq!((second.read, second.unchanged), (first.read, first.created), "{second:?}");
    assert_eq!((second.refused, store.head().position()), (first.refused, head), "{second:?}");
    let mut there = open().unwrap_or_else(|error: ImportError| panic!("{error}"));
    let compared = block_on(record.compare(&store, &mut there, |_, _| ()));
    let compared = compared.unwrap_or_else(|error| panic!("it was imported: {error}"));
    assert_eq!(compared.here, first.created, "{compared:?}");
    assert!(first.refused > 0 || compared.is_equal(), "{compared:?}");
}

/// The rows that the events of a log have.
fn imported(store: &Store) -> Vec<Map<String, Value>> {
    let mut rows = Vec::new();
    let mut after = Position::START;
    while after < store.head().position() {
        let batch = block_on(store.read(&Filter::everything(), Read::after(after))).unwrap();
        for event in batch.iter() {
            let mut payload: Map<String, Value> = serde_json::from_slice(event.payload()).unwrap();
            match payload.remove("row") {
                Some(Value::Object(row)) => rows.push(row),
                other => panic!("an event with the row {other:?}"),
            }
        }
        after = batch.upto();
    }
    rows
}

/// Each refused row of the model is listed with its number, and the reason names the column.
fn check_refusals(report: &ImportReport, rows: &[Result<Map<String, Value>, &str>]) {
    let refused = (1..).zip(rows).filter_map(|(number, row)| Some((number, *row.as_ref().err()?)));
    let mut listed: Vec<_> = report.refusals.iter().map(|row| (row.row, &*row.reason)).collect();
    listed.sort_unstable();
    let most = LISTED_ROWS.min(report.refused as usize);
    assert_eq!(listed.len(), most, "{report:?}");
    if most < LISTED_ROWS {
        for ((number, reason), (expected, column)) in listed.iter().zip(refused) {
            assert_eq!(*number, expected, "{report:?}");
            let mut words = reason.split(|letter: char| !letter.is_alphanumeric());
            assert!(words.any(|word| word == column), "{reason:?} names no {column}");
        }
    }
}

/// An import that ended says which table, and which row if it is a row.
fn refused(error: &ImportError, model: &ModelTable) {
    let text = error.to_string();
    note(&text);
    assert!(text.contains("rows"), "{text:?} names no table");
    let found = match error {
        ImportError::Row { row, .. } => ModelTable::Unreadable(*row),
        ImportError::Format { .. } => ModelTable::UnreadableNames,
        ImportError::Mapping { .. } => ModelTable::Unfit,
        other => panic!("{other}"),
    };
    assert_eq!(&found, model, "{text}");
    if let ImportError::Row { row, .. } = error {
        assert!(text.contains(&format!("row {row} of rows")), "{text:?} names no row");
    }
}

pub(crate) fn csv_seeds() -> Vec<Vec<u8>> {
    let seeds = [
        (0, "id,code,name,born,good\n1,a,Ann,1970,true\n2,b,\"B, \"\"b\"\"\",,false\n3,c,,1.50,\n"),
        (1, "\u{feff}id;code;text\r\n1;;007\r\n\r\n2;;\"two\nlines\"\r\n"),
        (6, "id\tname\tborn\n1\tNA\t\n1\tann\t-1e3\nNA\tbob\t9007199254740993\n"),
        (8, "id,code,text\n1,x,1\n2,x,\n"),
        (0, "name\nann\n"),
    ];
    seeds.iter().map(|(mode, text)| [&[*mode], text.as_bytes()].concat()).collect()
}
