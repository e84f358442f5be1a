//! The meaning of a status of HTTP.

/// How a gateway reads the status of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StatusMeaning {
    /// The call had its effect, and the body is the answer.
    Answered,
    /// The call was refused for good. The process gets the refusal.
    Refused,
    /// The call had no effect, and is tried again: after `Retry-After`, if the answer has one.
    TryAgain,
    /// The call may have had its effect.
    Unknown,
}

impl StatusMeaning {
    /// The meaning of a status, unless a gateway [says otherwise](crate::HttpGateway::status).
    ///
    /// | status | meaning |
    /// |---|---|
    /// | 2xx | answered |
    /// | 408, 425, 429, 503 | not carried out: tried again |
    /// | 501, 505 and others of 3xx and 4xx | refused |
    /// | others of 5xx | unknown: the server, or one behind it, failed on the way |
    pub fn of(status: u16) -> StatusMeaning {
        match status {
            200..300 => StatusMeaning::Answered,
            408 | 425 | 429 | 503 => StatusMeaning::TryAgain,
            300..=499 | 501 | 505 => StatusMeaning::Refused,
            _ => StatusMeaning::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::StatusMeaning::{self, Answered, Refused, TryAgain, Unknown};

    #[test]
    fn only_a_server_that_may_have_begun_leaves_a_call_unknown() {
        let expected = [
            (Answered, &[200, 201, 202, 204][..]),
            (Refused, &[301, 302, 307, 400, 401, 402, 404, 409, 410, 422, 501, 505]),
            (TryAgain, &[408, 425, 429, 503]),
            (Unknown, &[500, 502, 504, 520]),
        ];
        for (meaning, statuses) in expected {
            for status in statuses {
                assert_eq!(StatusMeaning::of(*status), meaning, "{status}");
            }
        }
    }
}
