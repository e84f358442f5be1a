//! The steady clock of the machine.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The time since an unknown moment, which runs even while the machine sleeps.
pub(super) fn steady_time() -> Duration {
    // `Instant` stops on Linux while the machine sleeps.
    #[cfg(target_os = "linux")]
    let clock = ClockId::Boottime;
    // On other systems the clock of this name runs while the machine sleeps.
    #[cfg(not(target_os = "linux"))]
    let clock = ClockId::Monotonic;
    let steady = clock_gettime(clock);
    let seconds = u64::try_from(steady.tv_sec).unwrap_or(0);
    let nanoseconds = u32::try_from(steady.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanoseconds)
}
