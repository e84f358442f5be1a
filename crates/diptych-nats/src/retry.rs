//! Growing waits between tries.

use std::time::Duration;

/// The first wait.
const SHORTEST: Duration = Duration::from_millis(50);
/// Waits do not grow beyond it.
const LONGEST: Duration = Duration::from_secs(10);

/// The wait before the next try.
pub(crate) struct Waits(Duration);

impl Waits {
    /// Begins with the shortest.
    pub(crate) fn new() -> Waits {
        Waits(SHORTEST)
    }

    /// The wait before the next try. It doubles each time.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.0;
        self.0 = (wait * 2).min(LONGEST);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_the_longest() {
        let mut waits = Waits::new();
        assert_eq!([waits.next(), waits.next()], [SHORTEST, SHORTEST * 2]);
        assert_eq!((0..20).map(|_| waits.next()).last(), Some(LONGEST));
    }
}
