//! Deciding a command again after a conflict.

use std::time::Duration;

use tokio::runtime::Handle;

/// How often a command is decided again after a conflict, and the waits between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// Maximum number of decisions; 1 means no retry.
    pub attempts: u32,
    /// Upper bound of the random wait before the third try. It doubles with each later try. The
    /// second try starts at once, because the winning events are known by then.
    pub first_wait: Duration,
    /// No wait is longer than this.
    pub longest_wait: Duration,
}

impl Default for Retries {
    fn default() -> Retries {
        Retries {
            attempts: 32,
            first_wait: Duration::from_millis(1),
            longest_wait: Duration::from_millis(100),
        }
    }
}

impl Retries {
    /// Waits a random time after the failed attempt with this number. After the first there is no
    /// wait.
    pub(super) async fn wait_before(&self, attempt: u32) {
        let Retries { first_wait, longest_wait, .. } = *self;
        let Some(doublings) = attempt.checked_sub(2) else { return };
        if Handle::try_current().is_err() {
            // Without a runtime there is no clock to wait by.
            return tokio::task::yield_now().await;
        }
        let most = first_wait.saturating_mul(1 << doublings.min(20)).min(longest_wait);
        tokio::time::sleep(most.mul_f64(fastrand::f64())).await;
    }
}
