//! A commit as bytes, made before any lock is taken.

use diptych_store::{Append, InvalidRequest, Limits, encoding};

use crate::format::frame::{self, CONTROL, LAST, SECTION, Section};

/// A commit, encoded and checksummed as far as is possible without its position.
#[derive(Debug)]
pub(crate) struct EncodedCommit {
    pub(super) append: Append,
    pub(super) frames: Vec<u8>,
}

impl EncodedCommit {
    /// # Errors
    /// [`InvalidRequest`] if it is beyond the limits.
    pub(crate) fn new(append: Append, limits: &Limits) -> Result<EncodedCommit, InvalidRequest> {
        append.check(limits)?;
        let section = Section { key: append.key.clone(), tracking: append.tracking.clone() };
        let payloads: usize = append.events.iter().map(|event| event.payload.len()).sum();
        // At most the bytes of one commit: one that is too large is refused before it is copied.
        let room = payloads.min(limits.commit_bytes) + append.events.len() * 96 + 64;
        let mut frames = Vec::with_capacity(room);
        for (at, event) in append.events.iter().enumerate() {
            let with_section = at == 0 && !section.is_empty();
            let flags = if with_section { SECTION } else { 0 }
                | if at + 1 == append.events.len() { LAST } else { 0 };
            frame::prepare(&mut frames, flags, |body| {
                if with_section {
                    section.encode(body);
                }
                encoding::encode(event, limits, body)
            })?;
            let bytes = frames.len();
            if bytes > limits.commit_bytes + (at + 1) * frame::HEADER {
                let limit = limits.commit_bytes;
                return Err(InvalidRequest::too_large("commit", bytes, limit, "commit_bytes"));
            }
        }
        if append.events.is_empty() && append.tracking.is_some() {
            frame::prepare(&mut frames, SECTION | CONTROL | LAST, |body| {
                section.encode(body);
                body.push(frame::CONTROL_COMMIT);
                Ok::<_, InvalidRequest>(())
            })?;
        }
        Ok(EncodedCommit { append, frames })
    }
}
