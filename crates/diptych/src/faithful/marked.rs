//! Sets that are told from lists while a value is written. A hash set has another order each time,
//! so the schema lock must not compare the order.

use std::cell::Cell;

/// The first element of a set that is marked.
pub(crate) const MARK: &str = "diptych:\0a set without an order";

thread_local! {
    static MARKS_SETS: Cell<bool> = const { Cell::new(false) };
}

pub(super) fn marks_sets() -> bool {
    MARKS_SETS.get()
}

/// Runs code during which this thread writes [`MARK`] before the parts of each set that has no
/// order of its own.
pub(crate) fn with_marked_sets<T>(run: impl FnOnce() -> T) -> T {
    struct Reset(bool);

    impl Drop for Reset {
        fn drop(&mut self) {
            MARKS_SETS.set(self.0);
        }
    }

    let _reset = Reset(MARKS_SETS.replace(true));
    run()
}
