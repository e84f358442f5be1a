//! Replies that are encoded before they are sent, so that several clients get one encoding.
//!
//! The events of a batch are copied once, from the log into the message. The bytes are those that
//! the generated code writes for the same content.

use bytes::Bytes;
use diptych_store::{EventRef, Position};
use prost::encoding::{encode_varint, encoded_len_varint};

use crate::wire::codec::{FIELD_BYTES, OutgoingMessage, WireMessage, push_checksum, with_checksum};

/// A reply of the calls `Read` and `Subscribe` with its checksum. Clones share the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedReply(Bytes);

/// How far a batch goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchEnds {
    /// The position up to which the log was considered.
    pub upto: Position,
    /// The position up to which whole commits were considered.
    pub commit_end: Position,
    /// The published head.
    pub head: Position,
}

impl EncodedReply {
    /// This message.
    pub fn of(message: &impl WireMessage) -> EncodedReply {
        EncodedReply(with_checksum(message).into())
    }

    /// A `ReadReply` with these events in the encoding of the log. `events` gives them twice: for
    /// their sizes, then for their bytes.
    pub fn read<'a, I>(events: impl Fn() -> I, ends: BatchEnds) -> EncodedReply
    where
        I: Iterator<Item = EventRef<'a>>,
    {
        EncodedReply::with_events(events, ends, false)
    }

    /// A `SubscribeReply` with a batch of these events.
    pub fn delivery<'a, I>(events: impl Fn() -> I, ends: BatchEnds) -> EncodedReply
    where
        I: Iterator<Item = EventRef<'a>>,
    {
        EncodedReply::with_events(events, ends, true)
    }

    /// The bytes of the message.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    fn with_events<'a, I>(events: impl Fn() -> I, ends: BatchEnds, is_delivery: bool) -> Self
    where
        I: Iterator<Item = EventRef<'a>>,
    {
        let lists = EventLists::of(events());
        let numbers = [(3, ends.upto), (4, ends.commit_end), (5, ends.head)];
        let numbers_len: usize = numbers.iter().map(|(_, position)| number_len(*position)).sum();
        let reply_len = nested_len(lists.len()) + numbers_len;
        let message_len = if is_delivery { nested_len(reply_len) } else { reply_len };
        let mut out = Vec::with_capacity(message_len + FIELD_BYTES);
        if is_delivery {
            begin(1, reply_len, &mut out);
        }
        begin(1, lists.len(), &mut out);
        if lists.bytes > 0 {
            begin(1, lists.bytes, &mut out);
            events().for_each(|event| out.extend_from_slice(event.bytes()));
        }
        for (number, list) in [(2, &lists.sizes), (3, &lists.positions), (4, &lists.times)] {
            if !list.is_empty() {
                begin(number, list.len(), &mut out);
                out.extend_from_slice(list);
            }
        }
        push_number(5, lists.base, &mut out);
        for (number, position) in numbers {
            push_number(number, position, &mut out);
        }
        debug_assert_eq!(out.len(), message_len);
        push_checksum(&mut out);
        EncodedReply(out.into())
    }
}

impl OutgoingMessage for EncodedReply {
    fn into_bytes(self) -> Bytes {
        self.0
    }
}

/// The fields of `EncodedEvents` besides the bytes of the events.
#[derive(Default)]
struct EventLists {
    /// The size of all events.
    bytes: usize,
    base: Position,
    sizes: Vec<u8>,
    positions: Vec<u8>,
    times: Vec<u8>,
}

impl EventLists {
    fn of<'a>(events: impl Iterator<Item = EventRef<'a>>) -> EventLists {
        let mut lists = EventLists::default();
        let (mut position, mut time) = (0_u64, 0_i64);
        for event in events {
            let (at, recorded_at) = (event.position(), event.recorded_at().as_micros());
            if lists.sizes.is_empty() {
                (lists.base, position) = (at, at.get());
            }
            let size = event.bytes().len();
            lists.bytes += size;
            encode_varint(size as u64, &mut lists.sizes);
            let step = at.get().wrapping_sub(position).cast_signed();
            encode_varint(zigzag(step), &mut lists.positions);
            encode_varint(zigzag(recorded_at.wrapping_sub(time)), &mut lists.times);
            (position, time) = (at.get(), recorded_at);
        }
        lists
    }

    fn len(&self) -> usize {
        let lists = [self.bytes, self.sizes.len(), self.positions.len(), self.times.len()];
        let filled = lists.into_iter().filter(|&len| len > 0);
        filled.map(nested_len).sum::<usize>() + number_len(self.base)
    }
}

/// A signed number as `sint64` has it.
fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

/// The size of a field that has its own length, with its key and that length.
fn nested_len(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

/// The size of a field with a number. A message does not have the number 0.
fn number_len(number: Position) -> usize {
    if number == Position::START { 0 } else { 1 + encoded_len_varint(number.get()) }
}

/// Begins a field that has its own length.
fn begin(field: u8, len: usize, out: &mut Vec<u8>) {
    out.push(field << 3 | 2);
    encode_varint(len as u64, out);
}

fn push_number(field: u8, number: Position, out: &mut Vec<u8>) {
    if number != Position::START {
        out.push(field << 3);
        encode_varint(number.get(), out);
    }
}

#[cfg(test)]
mod tests {
    use diptych_store::{Batch, BatchBuilder, Limits, RawEvent, Tag, Timestamp, encoding};
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{
        messages::{ReadReply, SubscribeReply, subscribe_reply::Delivery},
        stored::read_reply,
    };

    /// A batch of events with these steps between their positions, times, and payloads of these
    /// sizes.
    fn batch(events: &[(u64, i64, usize)]) -> Batch {
        let (mut bytes, mut places) = (Vec::new(), Vec::new());
        let mut position = 0;
        for (step, time, size) in events {
            let start = bytes.len();
            let event = RawEvent::new("kind", vec![7; *size]).tag(Tag::new("k", step));
            encoding::encode(&event, &Limits::default(), &mut bytes).unwrap();
            position += step;
            places.push((position, *time, start as u32, bytes.len() as u32));
        }
        let mut builder = BatchBuilder::new();
        let chunk = builder.chunk(bytes.into());
        for (position, time, start, end) in places {
            let time = Timestamp::from_micros(time);
            builder.push(position.into(), time, chunk, start, end).unwrap();
        }
        builder.finish(position.into(), (position / 2).into())
    }

    proptest! {
        #[test]
        fn an_encoded_reply_has_the_bytes_of_its_message(
            events in prop::collection::vec(
                (1_u64..1 << 40, any::<i64>(), 0_usize..400), 0..20
            ),
            head in any::<u64>(),
        ) {
            let batch = batch(&events);
            let head = Position::new(head);
            let ends = BatchEnds { upto: batch.upto(), commit_end: batch.commit_end(), head };
            let message: ReadReply = read_reply(&batch, head, false);
            let reply = EncodedReply::read(|| batch.iter(), ends);
            prop_assert_eq!(&reply, &EncodedReply::of(&message));
            let delivery = Some(Delivery::Batch(message));
            let message = SubscribeReply { delivery, ..SubscribeReply::default() };
            let reply = EncodedReply::delivery(|| batch.iter(), ends);
            prop_assert_eq!(&reply, &EncodedReply::of(&message));
        }
    }
}
