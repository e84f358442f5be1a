//! Targets over files that people bring: lines of JSON for `diptych append`, and tables of flights.

use diptych_demo::{plan::Plan, source::Source};
use diptych_store::{Append, EventStore, Filter, Limits, Memory, RawEvent, Read};
use pollster::block_on;

use crate::{
    batches::Batches,
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
