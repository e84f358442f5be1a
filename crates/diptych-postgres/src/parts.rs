//! An event in columns: type, tags and payload can be read by SQL, and the other fields keep the
//! encoding of Diptych.

use diptych_store::{
    InvalidRequest, Limits, LogId, RawEvent,
    encoding::{encode, put_varint, take_varint},
};

use crate::text::{array, tag_hash, unescape};

/// The parts of an event that is written.
#[derive(Debug)]
pub(crate) struct EventParts {
    pub(crate) event_type: String,
    /// The tags as an array.
    pub(crate) tags: String,
    pub(crate) hashes: Vec<i64>,
    /// The byte of flags, and the fields between tags and payload. `None` if there are no such
    /// fields.
    pub(crate) meta: Option<Vec<u8>>,
    pub(crate) payload: Vec<u8>,
    /// Bytes of the encoded event.
    pub(crate) bytes: usize,
}

impl EventParts {
    /// Checks the event and takes it apart. `encoded` is memory to work in.
    pub(crate) fn of(
        event: RawEvent,
        log: LogId,
        limits: &Limits,
        encoded: &mut Vec<u8>,
    ) -> Result<EventParts, InvalidRequest> {
        encoded.clear();
        encode(&event, limits, encoded)?;
        let payload_at = encoded.len().saturating_sub(event.payload.len());
        let head = encoded.get(..payload_at).unwrap_or(encoded);
        let meta = meta(head);
        let mut tags: Vec<&str> = Vec::with_capacity(event.tags.len());
        for tag in &event.tags {
            if !tags.contains(&tag.as_str()) {
                tags.push(tag.as_str());
            }
        }
        // Two tags can have one hash, which is one row.
        let mut hashes: Vec<i64> = tags.iter().map(|tag| tag_hash(log, tag)).collect();
        hashes.sort_unstable();
        hashes.dedup();
        Ok(EventParts {
            hashes,
            tags: array(tags.into_iter()),
            meta,
            bytes: encoded.len(),
            event_type: event.event_type.into_owned(),
            payload: event.payload,
        })
    }
}

/// The flags and the fields after the tags, of an encoded event without its payload.
fn meta(encoded: &[u8]) -> Option<Vec<u8>> {
    let (flags, rest) = encoded.split_first()?;
    let rest = after_text(rest)?;
    let (tags, mut rest) = take_varint(rest)?;
    for _ in 0..tags {
        rest = after_text(rest)?;
    }
    let mut meta = vec![*flags];
    meta.extend_from_slice(rest);
    (meta != [0]).then_some(meta)
}

fn after_text(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = take_varint(bytes)?;
    rest.get(usize::try_from(length).ok()?..)
}

/// The columns of an event that was read.
#[derive(Debug)]
pub(crate) struct EventColumns<'a> {
    pub(crate) event_type: &'a str,
    pub(crate) tags: Vec<&'a str>,
    pub(crate) meta: Option<&'a [u8]>,
    pub(crate) payload: &'a [u8],
}

impl EventColumns<'_> {
    /// Puts the event together again. The type and the tags are as the database has them.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let (flags, rest) = self.meta.and_then(<[u8]>::split_first).unwrap_or((&0, &[]));
        out.push(*flags);
        put_text(out, self.event_type);
        put_varint(out, self.tags.len() as u64);
        self.tags.iter().for_each(|tag| put_text(out, tag));
        out.extend_from_slice(rest);
        out.extend_from_slice(self.payload);
    }
}

fn put_text(out: &mut Vec<u8>, stored: &str) {
    let text = unescape(stored);
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use diptych_store::{Metadata, Tag, Timestamp, encoding};
    use uuid::Uuid;

    use super::*;
    use crate::text::escape;

    #[test]
    fn an_event_in_columns_is_put_together_byte_by_byte() {
        let metadata = Metadata {
            occurred_at: Some(Timestamp::from_micros(-5)),
            actor: Some("ann".into()),
            extra: [("a".into(), "1".into())].into(),
            ..Metadata::default()
        };
        let plain = RawEvent::new("plain", "{}");
        let tagged = plain.clone().tag(Tag::new("k", "a\0\\")).tag(Tag::new("l", 1));
        let full = tagged.clone().version(300).id(Uuid::from_u128(7)).metadata(metadata);
        for event in [plain, tagged, full, RawEvent::new("a\0", [])] {
            let mut encoded = Vec::new();
            encoding::encode(&event, &Limits::default(), &mut encoded).unwrap();
            let tags: Vec<_> =
                event.tags.iter().map(|tag| escape(tag.as_str()).into_owned()).collect();
            let log = LogId::from_bytes([1; 16]);
            let parts = EventParts::of(event, log, &Limits::default(), &mut Vec::new()).unwrap();
            let columns = EventColumns {
                event_type: &escape(&parts.event_type),
                tags: tags.iter().map(String::as_str).collect(),
                meta: parts.meta.as_deref(),
                payload: &parts.payload,
            };
            let mut again = Vec::new();
            columns.encode(&mut again);
            assert_eq!(again, encoded);
        }
    }
}
