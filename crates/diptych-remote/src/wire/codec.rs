//! Messages with a checksum.
//!
//! A connection without encryption has only the weak checksum of TCP, and none in a proxy. A
//! flipped byte in an event, a condition or a position would be written, or believed. So every
//! message ends with a CRC-32C.

use std::marker::PhantomData;

use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use tonic::{
    Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use crate::wire::messages;

/// The key of the field with the checksum: field 2047, four bytes.
const KEY: [u8; 2] = [0xfd, 0x7f];
/// Bytes of the field with its key.
pub(crate) const FIELD_BYTES: usize = 6;
/// Buffers of this size hold most messages.
const BUFFER_BYTES: usize = 16 << 10;

/// A message that can carry a checksum.
pub trait WireMessage: Message + Default {
    /// The checksum in the message.
    fn carried_checksum(&self) -> Option<u32>;
}

macro_rules! checked {
    ($($message:ident)*) => {$(
        impl WireMessage for messages::$message {
            fn carried_checksum(&self) -> Option<u32> {
                self.message_crc32c
            }
        }
    )*};
}

checked! {
    DescribeRequest Description HeadRequest HeadReply WatchRequest AppendRequest AppendReply Call
    Committed ReadRequest ReadReply ReadCommitsRequest ReadCommitsReply SubscribeRequest
    SubscribeReply LastRequest LastReply CountRequest CountReply FindKeyRequest FindKeyReply
    FindTrackingRequest FindTrackingReply ChecksumRequest ChecksumReply TypesRequest TypesReply
    FeedPageRequest FeedPageReply
}

/// A message that can be sent.
pub trait OutgoingMessage {
    /// Its bytes with the checksum.
    fn into_bytes(self) -> Bytes;
}

impl<T: WireMessage> OutgoingMessage for T {
    fn into_bytes(self) -> Bytes {
        with_checksum(&self).into()
    }
}

/// Encodes and decodes messages with their checksums.
#[derive(Debug)]
pub struct CheckedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for CheckedCodec<T, U> {
    fn default() -> CheckedCodec<T, U> {
        CheckedCodec(PhantomData)
    }
}

impl<T, U> Codec for CheckedCodec<T, U>
where
    T: OutgoingMessage + Send + 'static,
    U: WireMessage + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = CheckedEncoder<T>;
    type Decoder = CheckedDecoder<U>;

    fn encoder(&mut self) -> CheckedEncoder<T> {
        CheckedEncoder(PhantomData)
    }

    fn decoder(&mut self) -> CheckedDecoder<U> {
        CheckedDecoder(PhantomData)
    }
}

/// Encodes messages with their checksums.
#[derive(Debug)]
pub struct CheckedEncoder<T>(PhantomData<T>);

impl<T: OutgoingMessage> Encoder for CheckedEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, message: T, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let bytes = message.into_bytes();
        out.reserve(bytes.len());
        out.put_slice(&bytes);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, 2 * BUFFER_BYTES)
    }
}

/// Decodes messages, and refuses those with a wrong checksum.
#[derive(Debug)]
pub struct CheckedDecoder<U>(PhantomData<U>);

impl<U: WireMessage> Decoder for CheckedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let bytes = from.copy_to_bytes(from.remaining());
        checked(bytes).map(Some)
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, 2 * BUFFER_BYTES)
    }
}

pub(crate) fn with_checksum(message: &impl WireMessage) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(message.encoded_len() + FIELD_BYTES);
    // A `Vec` grows, so the encoding cannot fail.
    let _ = message.encode(&mut bytes);
    push_checksum(&mut bytes);
    bytes
}

/// Ends an encoded message with its checksum.
pub(crate) fn push_checksum(bytes: &mut Vec<u8>) {
    let checksum = crc32c::crc32c(bytes);
    bytes.extend_from_slice(&KEY);
    bytes.extend_from_slice(&checksum.to_le_bytes());
}

fn checked<U: WireMessage>(bytes: Bytes) -> Result<U, Status> {
    let damaged = || Status::data_loss("a message was changed on its way: send it again");
    let message = U::decode(bytes.clone()).map_err(|_| damaged())?;
    let Some(carried) = message.carried_checksum() else { return Ok(message) };
    let content = bytes.len().checked_sub(FIELD_BYTES).and_then(|end| bytes.get(..end));
    let is_right = content.is_some_and(|content| crc32c::crc32c(content) == carried);
    if is_right { Ok(message) } else { Err(damaged()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::messages::{Call, CountRequest, Key};

    fn call() -> Call {
        let key = Key { name: "request-1".to_owned(), digest: vec![7; 16] };
        Call { number: 300, key: Some(key), ..Call::default() }
    }

    #[test]
    fn a_message_keeps_its_content() {
        let bytes = with_checksum(&call());
        let read: Call = checked(bytes.into()).unwrap();
        assert_eq!(Call { message_crc32c: None, ..read }, call());
    }

    #[test]
    fn a_message_without_a_checksum_is_read() {
        let count = CountRequest { tag: "a:1".to_owned(), ..CountRequest::default() };
        assert_eq!(checked::<CountRequest>(count.encode_to_vec().into()).unwrap(), count);
    }

    proptest! {
        /// One flipped byte in the key of the field itself can make a message without a checksum.
        /// Its unknown field is then ignored, and the content is right.
        #[test]
        fn a_changed_message_is_refused_or_has_its_content(at in any::<usize>(), by in 1_u8..) {
            let mut bytes = with_checksum(&call());
            let at = at % bytes.len();
            bytes[at] ^= by;
            if let Ok(read) = checked::<Call>(bytes.into()) {
                prop_assert_eq!(Call { message_crc32c: None, ..read }, call());
            }
        }
    }
}
