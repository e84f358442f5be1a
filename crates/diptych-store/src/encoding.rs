//! The encoding of one event. Every store that keeps bytes, and every batch, uses it.
//!
//! ```text
//! flags    u8       which optional fields follow, see below
//! type     varint length, UTF-8
//! tags     varint count, then for each: varint length, UTF-8 "key:value"
//! version  varint              flag 0x01   absent: 1
//! id       16 bytes            flag 0x02
//! occurred i64 little-endian   flag 0x04   microseconds since the Unix epoch
//! correl.  16 bytes            flag 0x08
//! caus.    16 bytes            flag 0x10
//! actor    varint length, UTF-8              flag 0x20
//! extra    varint count, then for each: varint length, UTF-8 name, varint length, UTF-8 value
//!                              flag 0x40
//! payload  the rest
//! ```
//!
//! Varints are unsigned LEB128. Flag 0x80 is reserved. Decoding refuses bytes that set it, so that
//! an older program never misreads a newer event.

use std::collections::BTreeMap;

use compact_str::CompactString;
use uuid::Uuid;

use crate::{
    error::InvalidRequest,
    event::{Metadata, RawEvent},
    limits::Limits,
    tag::Tag,
    time::Timestamp,
};

const VERSION: u8 = 0x01;
const ID: u8 = 0x02;
const OCCURRED_AT: u8 = 0x04;
const CORRELATION: u8 = 0x08;
const CAUSATION: u8 = 0x10;
const ACTOR: u8 = 0x20;
const EXTRA: u8 = 0x40;
const RESERVED: u8 = 0x80;

/// Appends the bytes of `event` to `out`.
///
/// Tags are a set: a repeated tag is written once, at its first place.
///
/// # Errors
/// [`InvalidRequest`] if the event exceeds `limits`, has no type, or occurred at an instant without
/// a text. `out` does not change then.
pub fn encode(event: &RawEvent, limits: &Limits, out: &mut Vec<u8>) -> Result<(), InvalidRequest> {
    encode_laid_out(event, limits, out).map(|_| ())
}

/// Encodes like [`encode`], and also returns the layout, which saves parsing the bytes again.
pub(crate) fn encode_laid_out(
    event: &RawEvent,
    limits: &Limits,
    out: &mut Vec<u8>,
) -> Result<Layout, InvalidRequest> {
    check(event, limits)?;
    let start = out.len();
    // The cast is safe, because the limits keep all fields before the payload far below 4 GiB.
    let at = |out: &Vec<u8>| (out.len() - start) as u32;
    let metadata = &event.metadata;
    out.push(flags(event));
    put_text(out, &event.event_type);
    let type_at = at(out) - event.event_type.len() as u32;
    let is_first = |at: usize| event.tags.iter().position(|tag| Some(tag) == event.tags.get(at));
    let distinct = || (0..event.tags.len()).filter(|&at| is_first(at) == Some(at));
    let tag_count = distinct().count() as u32;
    put_varint(out, u64::from(tag_count));
    let tags_at = at(out);
    for tag in distinct().filter_map(|at| event.tags.get(at)) {
        put_text(out, tag.as_str());
    }
    let rest_at = at(out);
    if event.version != 1 {
        put_varint(out, u64::from(event.version));
    }
    if let Some(id) = event.id {
        out.extend_from_slice(id.as_bytes());
    }
    if let Some(at) = metadata.occurred_at {
        out.extend_from_slice(&at.as_micros().to_le_bytes());
    }
    for id in [metadata.correlation, metadata.causation].into_iter().flatten() {
        out.extend_from_slice(id.as_bytes());
    }
    if let Some(actor) = &metadata.actor {
        put_text(out, actor);
    }
    if !metadata.extra.is_empty() {
        put_varint(out, metadata.extra.len() as u64);
        for (name, value) in &metadata.extra {
            put_text(out, name);
            put_text(out, value);
        }
    }
    let payload_at = at(out);
    out.extend_from_slice(&event.payload);
    let bytes = out.len() - start;
    if bytes > limits.event_bytes {
        out.truncate(start);
        return Err(InvalidRequest::too_large("event", bytes, limits.event_bytes, "event_bytes"));
    }
    Ok(Layout { type_at, tags_at, rest_at, payload_at, tag_count })
}

fn flags(event: &RawEvent) -> u8 {
    let metadata = &event.metadata;
    [
        (VERSION, event.version != 1),
        (ID, event.id.is_some()),
        (OCCURRED_AT, metadata.occurred_at.is_some()),
        (CORRELATION, metadata.correlation.is_some()),
        (CAUSATION, metadata.causation.is_some()),
        (ACTOR, metadata.actor.is_some()),
        (EXTRA, !metadata.extra.is_empty()),
    ]
    .into_iter()
    .fold(0, |flags, (flag, present)| if present { flags | flag } else { flags })
}

fn check(event: &RawEvent, limits: &Limits) -> Result<(), InvalidRequest> {
    if event.event_type.is_empty() {
        return Err(InvalidRequest::NoType);
    }
    let bounded = |what, length: usize, limit: usize, name| {
        if length > limit {
            Err(InvalidRequest::too_large(what, length, limit, name))
        } else {
            Ok(())
        }
    };
    bounded("event type", event.event_type.len(), limits.type_bytes, "type_bytes")?;
    if event.tags.len() > limits.tags_per_event {
        return Err(InvalidRequest::too_many(
            "tags of an event",
            event.tags.len(),
            limits.tags_per_event,
            "tags_per_event",
        ));
    }
    for tag in &event.tags {
        bounded("tag", tag.as_str().len(), limits.tag_bytes, "tag_bytes")?;
    }
    if let Some(at) = event.metadata.occurred_at.filter(|at| !at.has_text()) {
        return Err(InvalidRequest::OccurredAt { micros: at.as_micros() });
    }
    let extra = event.metadata.extra.iter().map(|(name, value)| name.len() + value.len());
    let actor = event.metadata.actor.as_ref().map_or(0, |actor| actor.len());
    let metadata_bytes = actor + extra.sum::<usize>();
    bounded("metadata of an event", metadata_bytes, limits.metadata_bytes, "metadata_bytes")?;
    // This check comes before any copy. The exact size is checked after encoding.
    bounded("event payload", event.payload.len(), limits.event_bytes, "event_bytes")
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Appends a number as unsigned LEB128: 7 bits in each byte, the lowest first.
pub fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// The bytes are not an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bytes are not an event: {what}")]
pub struct DecodeError {
    what: &'static str,
}

/// The event of these bytes, in memory of its own.
///
/// # Errors
/// [`DecodeError`] as [`Layout::of`] gives it.
pub fn decode(bytes: &[u8]) -> Result<RawEvent, DecodeError> {
    Ok(Fields::new(bytes, Layout::of(bytes)?).to_raw())
}

/// The offsets of the fields of an encoded event. A layout exists only for bytes that were checked
/// completely, so reading their fields cannot fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    type_at: u32,
    tags_at: u32,
    rest_at: u32,
    payload_at: u32,
    tag_count: u32,
}

impl Layout {
    /// Checks the bytes of one event and finds its fields.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are cut short, have a text that is not UTF-8, or are of a newer
    /// form.
    pub fn of(bytes: &[u8]) -> Result<Layout, DecodeError> {
        let mut reader = Reader { bytes, at: 0 };
        let flags = reader.byte()?;
        if flags & RESERVED != 0 {
            return Err(DecodeError { what: "it is of a form newer than this program" });
        }
        let type_length = reader.length()?;
        let type_at = reader.at;
        if reader.take(type_length)?.is_empty() {
            return Err(DecodeError { what: "it has no type" });
        }
        let tag_count = reader.length()?;
        let tags_at = reader.at;
        for _ in 0..tag_count {
            let length = reader.length()?;
            reader.take(length)?;
        }
        let rest_at = reader.at;
        // Nearly all names are ASCII. One check of all bytes is faster than one check for each
        // name.
        if !bytes.get(type_at..rest_at).unwrap_or(&[]).is_ascii() {
            Layout::check_texts(Reader { bytes, at: type_at }, type_length, tag_count)?;
        }
        if flags != 0 {
            reader.rest(flags)?;
        }
        Ok(Layout {
            type_at: narrow(type_at)?,
            tags_at: narrow(tags_at)?,
            rest_at: narrow(rest_at)?,
            payload_at: narrow(reader.at)?,
            tag_count: narrow(tag_count)?,
        })
    }

    fn check_texts(
        mut reader: Reader<'_>,
        type_length: usize,
        tag_count: usize,
    ) -> Result<(), DecodeError> {
        reader.text(type_length)?;
        reader.length()?;
        for _ in 0..tag_count {
            let length = reader.length()?;
            reader.text(length)?;
        }
        Ok(())
    }
}

fn narrow(number: usize) -> Result<u32, DecodeError> {
    u32::try_from(number).map_err(|_| DecodeError { what: "it is larger than 4 GiB" })
}

/// The fields of an encoded event, borrowed from its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    bytes: &'a [u8],
    layout: Layout,
}

impl<'a> Fields<'a> {
    /// The fields of bytes with this layout.
    #[inline]
    pub fn new(bytes: &'a [u8], layout: Layout) -> Fields<'a> {
        Fields { bytes, layout }
    }

    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The stable name of the event type.
    #[inline]
    pub fn event_type(&self) -> &'a str {
        // To stay small, the layout does not have the length of the name. It is read again here.
        let mut reader = Reader { bytes: self.bytes, at: 1 };
        let length = reader.length().unwrap_or(0);
        debug_assert_eq!(reader.at, self.layout.type_at as usize);
        reader.text(length).unwrap_or("")
    }

    /// The tags, each as `key:value`.
    #[inline]
    pub fn tags(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut reader = Reader { bytes: self.bytes, at: self.layout.tags_at as usize };
        (0..self.layout.tag_count).map_while(move |_| {
            let length = reader.length().ok()?;
            reader.text(length).ok()
        })
    }

    /// The encoded content of the event.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.bytes.get(self.layout.payload_at as usize..).unwrap_or(&[])
    }

    /// Copies the event into memory of its own.
    pub(crate) fn to_raw(self) -> RawEvent {
        let rest = self.rest();
        RawEvent {
            event_type: self.event_type().to_owned().into(),
            version: rest.version,
            tags: self.tags().map(Tag::stored).collect(),
            payload: self.payload().to_vec(),
            id: rest.id,
            metadata: rest.metadata(),
        }
    }

    pub(crate) fn rest(&self) -> Rest<'a> {
        let flags = self.bytes.first().copied().unwrap_or(0);
        if flags == 0 {
            return Rest { version: 1, ..Rest::default() };
        }
        let mut reader = Reader { bytes: self.bytes, at: self.layout.rest_at as usize };
        reader.rest(flags).unwrap_or_default()
    }
}

/// The optional fields of an event.
#[derive(Debug, Default)]
pub(crate) struct Rest<'a> {
    pub(crate) version: u32,
    pub(crate) id: Option<Uuid>,
    pub(crate) occurred_at: Option<Timestamp>,
    pub(crate) correlation: Option<Uuid>,
    pub(crate) causation: Option<Uuid>,
    pub(crate) actor: Option<&'a str>,
    pub(crate) extra: Vec<(&'a str, &'a str)>,
}

impl Rest<'_> {
    pub(crate) fn metadata(&self) -> Metadata {
        let extra = self.extra.iter();
        Metadata {
            occurred_at: self.occurred_at,
            correlation: self.correlation,
            causation: self.causation,
            actor: self.actor.map(CompactString::new),
            extra: extra
                .map(|(name, value)| (CompactString::new(name), CompactString::new(value)))
                .collect::<BTreeMap<_, _>>(),
        }
    }
}

/// Reads fields one after another, and never beyond the end of the bytes.
#[derive(Clone, Copy)]
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let end = self.at.checked_add(length).ok_or(DecodeError { what: "a length overflows" })?;
        let taken = self.bytes.get(self.at..end).ok_or(DecodeError { what: "it is cut short" })?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.take(N)?.try_into().map_err(|_| DecodeError { what: "it is cut short" })
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, DecodeError> {
        let byte = self.bytes.get(self.at).ok_or(DecodeError { what: "it is cut short" })?;
        self.at += 1;
        Ok(*byte)
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, DecodeError> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        self.long_varint(first)
    }

    fn long_varint(&mut self, first: u8) -> Result<u64, DecodeError> {
        let mut number = u64::from(first & 0x7f);
        for shift in (7..70).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(DecodeError { what: "a number is longer than 64 bits" })
    }

    #[inline]
    fn length(&mut self) -> Result<usize, DecodeError> {
        let length = usize::try_from(self.varint()?);
        length.map_err(|_| DecodeError { what: "a length overflows" })
    }

    fn text(&mut self, length: usize) -> Result<&'a str, DecodeError> {
        let text = std::str::from_utf8(self.take(length)?);
        text.map_err(|_| DecodeError { what: "a name, tag or metadata is not UTF-8" })
    }

    fn rest(&mut self, flags: u8) -> Result<Rest<'a>, DecodeError> {
        let has = |flag| flags & flag != 0;
        let mut rest = Rest { version: 1, ..Rest::default() };
        if has(VERSION) {
            let version = u32::try_from(self.varint()?);
            rest.version =
                version.map_err(|_| DecodeError { what: "its version is above 32 bits" })?;
        }
        if has(ID) {
            rest.id = Some(Uuid::from_bytes(self.array()?));
        }
        if has(OCCURRED_AT) {
            rest.occurred_at = Some(Timestamp::from_micros(i64::from_le_bytes(self.array()?)));
        }
        if has(CORRELATION) {
            rest.correlation = Some(Uuid::from_bytes(self.array()?));
        }
        if has(CAUSATION) {
            rest.causation = Some(Uuid::from_bytes(self.array()?));
        }
        if has(ACTOR) {
            let length = self.length()?;
            rest.actor = Some(self.text(length)?);
        }
        if has(EXTRA) {
            for _ in 0..self.length()? {
                let length = self.length()?;
                let name = self.text(length)?;
                let length = self.length()?;
                rest.extra.push((name, self.text(length)?));
            }
        }
        Ok(rest)
    }
}

/// Reads an unsigned LEB128 number from the front of `bytes`, and returns it with the bytes after
/// it.
#[inline]
pub fn take_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut reader = Reader { bytes, at: 0 };
    let number = reader.varint().ok()?;
    Some((number, bytes.get(reader.at..)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(bytes: &[u8]) -> RawEvent {
        super::decode(bytes).unwrap()
    }

    fn full() -> RawEvent {
        let extra = [("ip", "::1"), ("why", "")].map(|(k, v)| (k.into(), v.into()));
        RawEvent::new("money-withdrawn", b"{\"amount\":50}")
            .version(300)
            .tag(Tag::new("account", "ann"))
            .tag(Tag::new("tenant", 7))
            .id(Uuid::from_u128(1))
            .metadata(Metadata {
                occurred_at: Some(Timestamp::from_micros(-5)),
                correlation: Some(Uuid::from_u128(2)),
                causation: Some(Uuid::from_u128(3)),
                actor: Some("ann".into()),
                extra: extra.into(),
            })
    }

    #[test]
    fn a_plain_event_has_the_documented_bytes() {
        let mut bytes = Vec::new();
        let event = RawEvent::new("paid", b"xyz").tag(Tag::new("a", 1));
        encode(&event, &Limits::default(), &mut bytes).unwrap();
        assert_eq!(bytes, b"\x00\x04paid\x01\x03a:1xyz");
    }

    #[test]
    fn every_field_survives_its_encoding() {
        let mut bytes = Vec::new();
        encode(&full(), &Limits::default(), &mut bytes).unwrap();
        assert_eq!(decode(&bytes), full());
    }

    #[test]
    fn encoding_and_parsing_give_the_same_layout() {
        let twice = RawEvent::new("e", b"x").tag(Tag::new("t", 1)).tag(Tag::new("t", 1));
        let long = RawEvent::new("e".repeat(200), []).tag(Tag::new("t", "1".repeat(300)));
        let mut bytes = b"bytes before it".to_vec();
        for event in [full(), twice, long, RawEvent::new("e", [])] {
            let start = bytes.len();
            let layout = encode_laid_out(&event, &Limits::default(), &mut bytes).unwrap();
            assert_eq!(Ok(layout), Layout::of(&bytes[start..]), "{event:?}");
        }
    }

    #[test]
    fn a_repeated_tag_is_written_once() {
        let mut bytes = Vec::new();
        let tag = |n| Tag::new("t", n);
        let event = RawEvent::new("e", []).tag(tag(1)).tag(tag(2)).tag(tag(1));
        encode(&event, &Limits::default(), &mut bytes).unwrap();
        assert_eq!(decode(&bytes).tags, [tag(1), tag(2)]);
    }

    #[test]
    fn bytes_that_end_within_a_field_are_refused() {
        let mut bytes = Vec::new();
        encode(&full(), &Limits::default(), &mut bytes).unwrap();
        let fields = bytes.len() - full().payload.len();
        for length in 0..fields {
            assert!(Layout::of(&bytes[..length]).is_err(), "cut at {length}");
        }
    }

    #[test]
    fn an_event_beyond_a_limit_is_refused_and_writes_nothing() {
        let limits = Limits { event_bytes: 20, tags_per_event: 1, ..Limits::default() };
        let refused = |event: RawEvent| {
            let mut bytes = vec![9];
            let error = encode(&event, &limits, &mut bytes).unwrap_err();
            assert_eq!(bytes, [9]);
            error.to_string()
        };
        assert!(refused(RawEvent::new("", [])).contains("type"));
        assert!(refused(RawEvent::new("e", [0; 18])).contains("event_bytes"));
        let two = RawEvent::new("e", []).tag(Tag::new("a", 1)).tag(Tag::new("a", 2));
        assert!(refused(two).contains("tags_per_event"));
        assert!(refused(RawEvent::new("e".repeat(256), [])).contains("type_bytes"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(layout) = Layout::of(&bytes) {
                let fields = Fields::new(&bytes, layout);
                let _ = (fields.event_type(), fields.tags().count(), fields.payload());
                let _ = fields.rest().metadata();
            }
        }

        #[test]
        fn a_number_survives_its_varint(number: u64) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, number);
            prop_assert_eq!(take_varint(&bytes), Some((number, &[][..])));
        }
    }
}
