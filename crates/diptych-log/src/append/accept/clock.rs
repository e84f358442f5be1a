//! Whether the clock can be right. `recorded_at` never decreases, so one commit at a time far in
//! the future would fix that time for all later ones.

use std::{sync::Arc, time::Duration};

use diptych_store::{Timestamp, Unavailable};

use crate::{
    disk::Disk,
    options::{FutureTime, Tuning},
};

/// A clock that is set by little, again and again, is followed at these distances.
const FOLLOWED_AFTER: Duration = Duration::from_secs(60);

/// The clocks are not compared again while the time of day goes on by less than this. A second
/// clock for each commit costs a hundredth of an append that shares its batch with many others.
const COMPARED_AFTER: Duration = Duration::from_millis(1);

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug)]
struct ClockReading {
    wall: Timestamp,
    steady: Duration,
}

/// Watches the time of day while a log is open.
#[derive(Debug)]
pub(super) struct ClockWatch {
    /// The clocks when the log was opened, or when they were last followed.
    right: ClockReading,
    /// The time of day when the clocks were last found to go evenly.
    compared: Timestamp,
    /// The time of day is before the last commit.
    is_behind: bool,
}

impl ClockWatch {
    /// Takes the clocks for right as they are.
    pub(super) fn begin(disk: &dyn Disk) -> ClockWatch {
        let right = ClockReading { wall: disk.time_of_day(), steady: disk.steady_time() };
        ClockWatch { right, compared: right.wall, is_behind: false }
    }

    /// The time for the next commit, if the clock can be right. `last` is the time of the last
    /// commit.
    pub(super) fn next(
        &mut self,
        disk: &dyn Disk,
        last: Timestamp,
        tuning: &Tuning,
        future: FutureTime,
    ) -> Result<Timestamp, Unavailable> {
        let now = disk.time_of_day();
        if !self.is_just_compared(now) {
            let steady = disk.steady_time();
            self.must_go_evenly(ClockReading { wall: now, steady }, tuning.clock_jump)?;
            self.compared = now;
        }
        if last > now && distance(now, last) > tuning.clock_ahead && future == FutureTime::Refuse {
            let what = format!("the last commit was recorded at {last}, and the clock shows {now}");
            return Err(Unavailable::Clock {
                what: what.into(),
                advice: "set the clock; if it is right, open the log with an option that accepts \
                         the future time (`LogOptions::future_time`, `diptych append \
                         --accept-future-time`): recorded_at stands still until the clock gets \
                         there",
            });
        }
        let is_behind = last != Timestamp::NEVER && now < last;
        if is_behind && !self.is_behind {
            tracing::warn!(recorded_at = %last, "the clock went back: recorded_at stands still");
        }
        self.is_behind = is_behind;
        Ok(now.max(last))
    }

    fn is_just_compared(&self, now: Timestamp) -> bool {
        now >= self.compared && distance(now, self.compared) < COMPARED_AFTER
    }

    /// Compares the time of day with the steady time.
    fn must_go_evenly(&mut self, now: ClockReading, jump: Duration) -> Result<(), Unavailable> {
        let right = self.right;
        let passed = now.steady.saturating_sub(right.steady);
        let micros = i64::try_from(passed.as_micros()).unwrap_or(i64::MAX);
        let expected = Timestamp::from_micros(right.wall.as_micros().saturating_add(micros));
        if distance(now.wall, expected) > jump {
            let what: Arc<str> =
                format!("the clock shows {}, and {expected} was expected", now.wall).into();
            return Err(Unavailable::Clock {
                what,
                advice: "set the clock right; if it is right now, open the log again",
            });
        }
        if passed >= FOLLOWED_AFTER {
            self.right = now;
        }
        Ok(())
    }
}

fn distance(one: Timestamp, other: Timestamp) -> Duration {
    Duration::from_micros(one.as_micros().abs_diff(other.as_micros()))
}
