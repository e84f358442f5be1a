//! Logs with a clock that is wrong now, or was wrong earlier.

use std::{sync::Arc, time::Duration};

use diptych_log::{
    Background, FutureTime, Log, LogOptions, disk::simulated::SimulatedDisk, verify,
};
use diptych_store::{Append, AppendError, Filter, RawEvent, Read, Timestamp, Unavailable};

use crate::hooked::{ClockReading, HookedDisk};

const FOLDER: &str = "/data/log";
const MINUTE: u64 = 60;
const DAY: u64 = 24 * 60 * MINUTE;

/// The clocks `seconds` after the test began. The time of day is wrong by `wrong` seconds.
fn at(seconds: u64, wrong: i64) -> ClockReading {
    let wall = 1_000 * DAY as i64 + seconds as i64 + wrong;
    let steady = Duration::from_secs(500 + seconds);
    ClockReading { wall: Timestamp::from_micros(wall * 1_000_000), steady }
}

fn disk() -> HookedDisk {
    HookedDisk::new(&SimulatedDisk::new(1), |_, _| Ok(()))
}

fn options(disk: &HookedDisk) -> LogOptions {
    LogOptions {
        background: Background::Inline,
        disk: Arc::new(disk.clone()),
        ..LogOptions::default()
    }
}

fn append(log: &Log) -> Result<Timestamp, AppendError> {
    let accepted = log.blocking().append(Append::event(RawEvent::new("noted", vec![])))?;
    log.blocking().flush().unwrap();
    Ok(accepted.recorded_at)
}

fn is_refused(log: &Log) -> String {
    let error = append(log).unwrap_err();
    assert!(matches!(error, AppendError::Unavailable(Unavailable::Clock { .. })), "{error}");
    let read = log.blocking().read(&Filter::everything(), Read::all());
    assert!(!read.unwrap().is_empty(), "reads work");
    error.to_string()
}

/// Once, one commit with a time in the future set the `recorded_at` of all later commits.
#[test]
fn a_jump_of_the_clock_is_refused_until_it_is_right_again() {
    let disk = disk();
    disk.set_clock(at(0, 0));
    let log = Log::open(FOLDER, options(&disk)).unwrap();
    append(&log).unwrap();
    for wrong in [20 * 365 * DAY as i64, 6 * MINUTE as i64, -6 * MINUTE as i64, -(DAY as i64)] {
        disk.set_clock(at(MINUTE, wrong));
        let said = is_refused(&log);
        assert!(said.contains(&at(MINUTE, wrong).wall.to_string()), "{said}");
        assert!(said.contains(&at(MINUTE, 0).wall.to_string()), "{said}");
        assert!(said.contains("open the log again"), "{said}");
        disk.set_clock(at(MINUTE, 0));
        assert_eq!(append(&log).unwrap(), at(MINUTE, 0).wall);
    }
    // The time without appends, or while the machine sleeps, does not count as a jump.
    disk.set_clock(at(3 * DAY, 0));
    assert_eq!(append(&log).unwrap(), at(3 * DAY, 0).wall);
    // The new time may be right after all. Then the user opens the log again.
    disk.set_clock(at(3 * DAY, 3_600));
    is_refused(&log);
    log.close().unwrap();
    let log = Log::open(FOLDER, options(&disk)).unwrap();
    assert_eq!(append(&log).unwrap(), at(3 * DAY, 3_600).wall);
}

/// Once, the clocks were compared from the first append on.
#[test]
fn a_jump_of_the_clock_before_the_first_append_is_refused() {
    let disk = disk();
    disk.set_clock(at(0, 0));
    let log = Log::open(FOLDER, options(&disk)).unwrap();
    disk.set_clock(at(MINUTE, DAY as i64));
    let error = append(&log).unwrap_err();
    assert!(matches!(error, AppendError::Unavailable(Unavailable::Clock { .. })), "{error}");
    disk.set_clock(at(MINUTE, 0));
    assert_eq!(append(&log).unwrap(), at(MINUTE, 0).wall);
}

/// Reading the steady clock for each commit would make appends slower.
#[test]
fn the_clocks_are_compared_again_after_a_millisecond_of_the_time_of_day() {
    let disk = disk();
    let start = at(0, 0);
    disk.set_clock(start);
    let log = Log::open(FOLDER, options(&disk)).unwrap();
    append(&log).unwrap();
    let later = |micros, hours: u64| ClockReading {
        wall: Timestamp::from_micros(start.wall.as_micros() + micros),
        steady: start.steady + Duration::from_secs(hours * 60 * MINUTE),
    };
    disk.set_clock(later(999, 1));
    assert_eq!(append(&log).unwrap(), later(999, 1).wall);
    for micros in [1_000, -1] {
        disk.set_clock(later(micros, 1));
        is_refused(&log);
    }
    disk.set_clock(later(1_000, 0));
    assert_eq!(append(&log).unwrap(), later(1_000, 0).wall);
}

#[test]
fn small_changes_of_the_clock_are_accepted() {
    let disk = disk();
    disk.set_clock(at(0, 0));
    let log = Log::open(FOLDER, options(&disk)).unwrap();
    let mut last = append(&log).unwrap();
    // Every two minutes the clock gains a minute, 20 times, and then loses a minute, 20 times.
    for (step, wrong) in (1..=20).map(|step| (step, step)).chain((21..=40).map(|s| (s, 40 - s))) {
        let now = at(2 * MINUTE * step as u64, MINUTE as i64 * wrong);
        disk.set_clock(now);
        let recorded = append(&log).unwrap();
        assert_eq!(recorded, now.wall.max(last));
        last = recorded;
    }
}

#[test]
fn a_log_whose_last_commit_is_far_in_the_future_is_read_and_refuses_appends() {
    let disk = disk();
    disk.set_clock(at(0, 10 * DAY as i64));
    let log = Log::open(FOLDER, options(&disk)).unwrap();
    append(&log).unwrap();
    log.close().unwrap();
    disk.set_clock(at(0, 0));
    let log = Log::open(FOLDER, options(&disk)).unwrap();
    let said = is_refused(&log);
    assert!(said.contains("--accept-future-time"), "{said}");
    let ahead = at(0, 10 * DAY as i64).wall;
    assert_eq!(log.blocking().stats().unwrap().last_recorded_at, Some(ahead));
    // The clock reaches the time of the last commit.
    disk.set_clock(at(9 * DAY + 1, 0));
    assert_eq!(append(&log).unwrap(), ahead);
    log.close().unwrap();
    disk.set_clock(at(0, 0));
    let verified = verify(FOLDER, &options(&disk), |_, _| ()).unwrap();
    assert_eq!(verified.last_recorded_at, Some(ahead));
    let knowingly = LogOptions { future_time: FutureTime::Accept, ..options(&disk) };
    let log = Log::open(FOLDER, knowingly).unwrap();
    assert_eq!(append(&log).unwrap(), ahead);
}
