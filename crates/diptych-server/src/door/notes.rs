//! The budget of recorded rejections. Each is an event for ever, so a client that repeats a refused
//! command must not fill the disk.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::door::limits::ServerLimits;

/// The time after which the counts are whole again.
const MINUTE: Duration = Duration::from_secs(60);
/// The time after which the bytes are whole again.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Bytes that every note costs, for its key, tags, checksums and index.
const NOTE_BYTES: usize = 1_024;
/// Callers that are warned about within a period. This bounds the names in memory.
const WARNED_CALLERS: usize = 1_000;

/// Counts the recorded rejections of each caller and of all in periods of a minute, and their bytes
/// in periods of a day.
#[derive(Debug)]
pub(crate) struct NoteBudget {
    limits: ServerLimits,
    periods: Mutex<Periods>,
}

#[derive(Debug, Default)]
struct Periods {
    minute: Option<Period<NoteCounts>>,
    /// The bytes of its notes.
    day: Option<Period<usize>>,
}

#[derive(Debug)]
struct Period<T> {
    begun: Instant,
    used: T,
    warned: HashSet<String>,
}

#[derive(Debug, Default)]
struct NoteCounts {
    all: usize,
    /// A caller is here after its first note, so there are at most `all`.
    callers: HashMap<String, usize>,
}

/// The share of one note.
#[derive(Debug)]
#[must_use = "the share of a note that was not written is given back"]
pub(crate) struct NoteShare {
    caller: String,
    bytes: usize,
    /// The beginnings of the periods that it was taken from.
    minute: Instant,
    day: Instant,
}

/// No share is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpentBudget {
    /// The limit that was met.
    pub(crate) limit: &'static str,
    /// Whether the caller meets it for the first time within the period.
    pub(crate) is_first: bool,
}

impl NoteBudget {
    pub(crate) fn new(limits: &ServerLimits) -> NoteBudget {
        NoteBudget { limits: *limits, periods: Mutex::default() }
    }

    /// Takes a note of this caller from the budget, if one is left. Without its bytes it costs the
    /// largest body.
    pub(crate) fn take(
        &self,
        caller: &str,
        bytes: Option<usize>,
        now: Instant,
    ) -> Result<NoteShare, SpentBudget> {
        let ServerLimits {
            body_bytes, noted_rejections, all_noted_rejections, noted_bytes, ..
        } = self.limits;
        let bytes = bytes.unwrap_or(body_bytes).saturating_add(NOTE_BYTES);
        let mut periods = self.periods.lock().unwrap_or_else(PoisonError::into_inner);
        let Periods { minute, day } = &mut *periods;
        let (minute, day) = (Period::at(minute, now, MINUTE), Period::at(day, now, DAY));
        let NoteCounts { all, callers } = &mut minute.used;
        let own = callers.get(caller).copied().unwrap_or_default();
        if own >= noted_rejections {
            return Err(minute.spent("noted_rejections", caller));
        }
        if *all >= all_noted_rejections {
            return Err(minute.spent("all_noted_rejections", caller));
        }
        if bytes > noted_bytes.saturating_sub(day.used) {
            return Err(day.spent("noted_bytes", caller));
        }
        *all += 1;
        callers.insert(caller.to_owned(), own + 1);
        day.used += bytes;
        let caller = caller.to_owned();
        Ok(NoteShare { caller, bytes, minute: minute.begun, day: day.begun })
    }

    /// Gives back the share of a note that was not written. If its period is over, there is nothing
    /// to give back.
    pub(crate) fn give_back(&self, share: &NoteShare) {
        let mut periods = self.periods.lock().unwrap_or_else(PoisonError::into_inner);
        let Periods { minute, day } = &mut *periods;
        if let Some(minute) = minute.as_mut().filter(|minute| minute.begun == share.minute) {
            let NoteCounts { all, callers } = &mut minute.used;
            *all = all.saturating_sub(1);
            match callers.get_mut(&share.caller) {
                Some(own) if *own > 1 => *own -= 1,
                _ => drop(callers.remove(&share.caller)),
            }
        }
        if let Some(day) = day.as_mut().filter(|day| day.begun == share.day) {
            day.used = day.used.saturating_sub(share.bytes);
        }
    }
}

impl<T: Default> Period<T> {
    /// The period of this instant. It begins now if there was none, or the one before is over.
    fn at(period: &mut Option<Period<T>>, now: Instant, length: Duration) -> &mut Period<T> {
        let is_over = |period: &Period<T>| now.saturating_duration_since(period.begun) >= length;
        if period.as_ref().is_some_and(is_over) {
            *period = None;
        }
        let (used, warned) = (T::default(), HashSet::new());
        period.get_or_insert_with(|| Period { begun: now, used, warned })
    }

    fn spent(&mut self, limit: &'static str, caller: &str) -> SpentBudget {
        let is_first = !self.warned.contains(caller)
            && self.warned.len() < WARNED_CALLERS
            && self.warned.insert(caller.to_owned());
        SpentBudget { limit, is_first }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 60 * 60;

    fn budget(of_caller: usize, of_all: usize, bytes: usize) -> NoteBudget {
        NoteBudget::new(&ServerLimits {
            noted_rejections: of_caller,
            all_noted_rejections: of_all,
            noted_bytes: bytes,
            ..ServerLimits::default()
        })
    }

    fn after(begun: Instant, seconds: u64) -> Instant {
        begun + Duration::from_secs(seconds)
    }

    #[test]
    fn each_caller_and_all_together_have_a_budget_that_is_whole_after_a_minute() {
        let (budget, begun) = (budget(2, 3, usize::MAX), Instant::now());
        let take =
            |caller: &str, seconds| budget.take(caller, Some(0), after(begun, seconds)).is_ok();
        assert!(take("ada", 0) && take("ada", 1));
        assert!(!take("ada", 2));
        assert!(take("eve", 3));
        assert!(!take("eve", 59), "all have none left");
        assert!(!take("bob", 59));
        assert!(take("ada", 60) && take("bob", 60));
    }

    #[test]
    fn the_bytes_of_all_notes_are_whole_a_day_after_the_first() {
        let (budget, begun) = (budget(100, 100, 3 * NOTE_BYTES + 1_000), Instant::now());
        let take = |caller: &str, bytes, seconds| {
            budget.take(caller, Some(bytes), after(begun, seconds)).is_ok()
        };
        assert!(take("ada", 900, 0));
        assert!(!take("eve", 101 + NOTE_BYTES + NOTE_BYTES, HOUR), "larger than the rest");
        assert!(take("eve", 100, HOUR));
        assert!(!take("eve", 1, 2 * HOUR));
        assert!(take("bob", 0, 24 * HOUR - 1));
        assert!(!take("ada", 0, 24 * HOUR - 1));
        assert!(take("ada", 0, 24 * HOUR));
        assert!(!take("ada", usize::MAX, 24 * HOUR));
    }

    #[test]
    fn a_note_of_unknown_bytes_costs_the_largest_body() {
        let largest = ServerLimits::default().body_bytes + NOTE_BYTES;
        let (budget, now) = (budget(100, 100, 2 * largest), Instant::now());
        let taken = (0..3).filter(|_| budget.take("ada", None, now).is_ok());
        assert_eq!(taken.count(), 2);
    }

    #[test]
    fn a_share_that_is_given_back_can_be_taken_again() {
        let (budget, begun) = (budget(1, 2, 2 * NOTE_BYTES), Instant::now());
        let take = |caller: &str, seconds| budget.take(caller, Some(0), after(begun, seconds));
        for _ in 0..5 {
            budget.give_back(&take("ada", 0).unwrap());
        }
        let (ada, eve) = (take("ada", 0).unwrap(), take("eve", 0).unwrap());
        assert!(take("ada", 60).is_err(), "the bytes of the day are used up");
        budget.give_back(&ada);
        let again = take("ada", 61).unwrap();
        // The minute of this one is over, so its count is not given back to the present minute.
        budget.give_back(&eve);
        assert!(take("ada", 61).is_err() && take("eve", 61).is_ok());
        budget.give_back(&again);
        assert!(take("ada", 61).is_ok());
    }

    #[test]
    fn a_caller_is_warned_about_once_within_a_period() {
        let (budget, begun) = (budget(1, 100, 3 * NOTE_BYTES), Instant::now());
        let take = |caller: &str, seconds| {
            let taken = budget.take(caller, Some(0), after(begun, seconds));
            taken.err().map(|SpentBudget { limit, is_first }| (limit, is_first))
        };
        let (count, bytes) = ("noted_rejections", "noted_bytes");
        assert_eq!([take("ada", 0), take("eve", 0)], [None, None]);
        assert_eq!([take("ada", 1), take("ada", 2)], [Some((count, true)), Some((count, false))]);
        assert_eq!([take("eve", 3), take("eve", 4)], [Some((count, true)), Some((count, false))]);
        assert_eq!([take("ada", 60), take("ada", 61)], [None, Some((count, true))]);
        for hour in 1..24 {
            assert_eq!(take("ada", hour * HOUR), Some((bytes, hour == 1)), "{hour}");
            assert_eq!(take("eve", hour * HOUR), Some((bytes, hour == 1)), "{hour}");
        }
        assert_eq!(take("ada", 24 * HOUR), None);
    }

    #[test]
    fn the_names_of_callers_in_memory_are_bounded() {
        let (budget, now) = (budget(1, 0, usize::MAX), Instant::now());
        let callers = 0..WARNED_CALLERS + 500;
        let warned = callers.filter(|caller| {
            budget.take(&caller.to_string(), Some(0), now).is_err_and(|spent| spent.is_first)
        });
        assert_eq!(warned.count(), WARNED_CALLERS);
    }
}
