//! Tokens as text: bytes and a check over them, in base64 for addresses.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use super::TokenSyntaxError;

/// The first byte of a receipt: the version that this program writes.
pub(super) const RECEIPT: u8 = 2;
/// The older version of receipts, without the checksum of the event at its position.
pub(super) const UNBOUND_RECEIPT: u8 = 1;
/// The first byte of a session's token. The first bytes of receipts are far below it.
pub(super) const SESSION: u8 = 66;
/// The older version of sessions, without the checksum of the event at its position.
pub(super) const UNBOUND_SESSION: u8 = 65;

pub(super) fn encode(mut content: Vec<u8>) -> String {
    let check = check(&content);
    content.extend(check.to_be_bytes());
    BASE64_URL_SAFE_NO_PAD.encode(content)
}

pub(super) fn decode(text: &str, longest: usize) -> Result<Vec<u8>, TokenSyntaxError> {
    let (bytes, limit) = (text.len(), longest);
    if bytes > limit {
        return Err(TokenSyntaxError::TooLong { bytes, limit });
    }
    let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|error| match error {
        base64::DecodeError::InvalidByte(..) => TokenSyntaxError::Characters,
        _ => TokenSyntaxError::Mangled,
    })?;
    let (content, found) = bytes.split_last_chunk().ok_or(TokenSyntaxError::Mangled)?;
    if check(content) != u16::from_be_bytes(*found) {
        return Err(TokenSyntaxError::Mangled);
    }
    bytes.truncate(content.len());
    Ok(bytes)
}

/// Writes seven bits in each byte, the low ones first. The highest bit of a byte says that more
/// follow.
pub(super) fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// `None` if there is no number, or if [`put_number`] would write it differently: a token has one
/// text.
pub(super) fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        let shifted = bits.checked_shl(shift)?;
        if shifted >> shift != bits {
            return None;
        }
        number |= shifted;
        if byte & 0x80 == 0 {
            let shortest = byte != 0 || shift == 0;
            return shortest.then_some(number);
        }
    }
    None
}

/// CRC-16 (CCITT): it finds every change of a single character, while a part of a hash would miss a
/// few. It protects against accidents, not against people.
pub(super) fn check(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xffff, |check, byte| {
        (0..8).fold(check ^ u16::from(*byte) << 8, |check, _| {
            let shifted = check << 1;
            if check & 0x8000 == 0 { shifted } else { shifted ^ 0x1021 }
        })
    })
}
