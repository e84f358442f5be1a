//! The budget of recorded rejections. Each is an event for ever, so a client that repeats a refused
//! command must not fill the disk.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The time after which a budget is whole again.
const PERIOD: Duration = Duration::from_secs(60);

/// Counts the recorded rejections of each caller, and of all, in periods of a minute.
#[derive(Debug)]
pub(crate) struct NoteBudget {
    of_caller: usize,
    of_all: usize,
    period: Mutex<Option<Period>>,
}

#[derive(Debug)]
struct Period {
    begun: Instant,
    all: usize,
    /// A caller is here after its first note, so there are at most `of_all`.
    callers: HashMap<String, usize>,
}

impl NoteBudget {
    pub(crate) fn new(of_caller: usize, of_all: usize) -> NoteBudget {
        NoteBudget { of_caller, of_all, period: Mutex::new(None) }
    }

    /// Takes a note of this caller from the budget, if one is left.
    pub(crate) fn take(&self, caller: &str, now: Instant) -> bool {
        let mut period = self.period.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |period: &Period| now.saturating_duration_since(period.begun) >= PERIOD;
        if period.as_ref().is_none_or(is_over) {
            *period = None;
        }
        let Period { all, callers, .. } =
            period.get_or_insert_with(|| Period { begun: now, all: 0, callers: HashMap::new() });
        let own = callers.get(caller).copied().unwrap_or_default();
        if *all >= self.of_all || own >= self.of_caller {
            return false;
        }
        *all += 1;
        callers.insert(caller.to_owned(), own + 1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_caller_and_all_together_have_a_budget_that_is_whole_after_a_minute() {
        let (budget, begun) = (NoteBudget::new(2, 3), Instant::now());
        let take =
            |caller: &str, seconds| budget.take(caller, begun + Duration::from_secs(seconds));
        assert!(take("ada", 0) && take("ada", 1));
        assert!(!take("ada", 2));
        assert!(take("eve", 3));
        assert!(!take("eve", 59), "all have none left");
        assert!(!take("bob", 59));
        assert!(take("ada", 60) && take("bob", 60));
    }
}
