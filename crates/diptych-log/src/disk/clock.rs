//! The clocks of the machine.

use std::time::Duration;

use diptych_store::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// The clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockReading {
    /// The time of day. A person or a program can set this clock.
    pub wall: Timestamp,
    /// The time since an unknown moment. This clock runs evenly, even while the machine sleeps, and
    /// cannot be set.
    pub steady: Duration,
}

impl ClockReading {
    /// Reads the clocks of this machine.
    pub fn now() -> ClockReading {
        // `Instant` stops on Linux while the machine sleeps.
        #[cfg(target_os = "linux")]
        let clock = ClockId::Boottime;
        // On other systems the clock of this name runs while the machine sleeps.
        #[cfg(not(target_os = "linux"))]
        let clock = ClockId::Monotonic;
        let steady = clock_gettime(clock);
        let seconds = u64::try_from(steady.tv_sec).unwrap_or(0);
        let nanoseconds = u32::try_from(steady.tv_nsec).unwrap_or(0);
        ClockReading { wall: Timestamp::now(), steady: Duration::new(seconds, nanoseconds) }
    }
}
