//! Messages about refused requests, at a bounded rate, so that a flood of requests is no flood of
//! messages.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// Minimum time between two messages.
const PAUSE: Duration = Duration::from_secs(1);

/// The refusals of a server.
#[derive(Default)]
pub(crate) struct RefusalLog {
    last: Mutex<LastMessage>,
}

#[derive(Default)]
struct LastMessage {
    at: Option<Instant>,
    /// The number of refusals since, which have no message.
    left_out: u64,
}

impl RefusalLog {
    pub(crate) fn note(&self, peer: Option<SocketAddr>, reason: &str) {
        let Some(left_out) = self.last.lock().turn(Instant::now()) else { return };
        let peer = peer.map(tracing::field::display);
        tracing::warn!(peer, left_out, "a request was refused: {reason}");
    }
}

impl LastMessage {
    /// Whether a refusal at this time gets a message: the number of those before that got none.
    fn turn(&mut self, now: Instant) -> Option<u64> {
        match self.at {
            Some(at) if now.duration_since(at) < PAUSE => {
                self.left_out += 1;
                None
            }
            _ => {
                self.at = Some(now);
                Some(std::mem::take(&mut self.left_out))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_refusal_a_second_has_a_message_and_the_others_are_counted() {
        let mut last = LastMessage::default();
        let begin = Instant::now();
        assert_eq!(last.turn(begin), Some(0));
        for ms in 1..1_000 {
            assert_eq!(last.turn(begin + Duration::from_millis(ms)), None);
        }
        assert_eq!(last.turn(begin + PAUSE), Some(999));
        assert_eq!(last.turn(begin + PAUSE * 2), Some(0));
    }
}
