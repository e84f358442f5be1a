//! Messages as their fields, without knowing what they mean. So a comparison sees what a peer of an
//! earlier version sees, whatever the definition says now.

use std::collections::BTreeMap;

/// The field with the checksum of a message.
const CHECKSUM: u32 = 2047;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FieldValue<'m> {
    Varint(u64),
    Fixed(u64),
    /// Bytes, a text, a list of numbers, or a message.
    Bytes(&'m [u8]),
}

type Fields<'m> = BTreeMap<u32, Vec<FieldValue<'m>>>;

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for place in 0..10 {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f).checked_shl(7 * place)?;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// The fields of a message by their numbers, or `None` if the bytes are none.
fn fields(mut bytes: &[u8]) -> Option<Fields<'_>> {
    let mut fields = Fields::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let length = match key & 7 {
            0 => {
                let value = FieldValue::Varint(varint(&mut bytes)?);
                fields.entry(u32::try_from(key >> 3).ok()?).or_default().push(value);
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(&mut bytes)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (value, rest) = bytes.split_at_checked(length)?;
        bytes = rest;
        let value = match key & 7 {
            2 => FieldValue::Bytes(value),
            _ => FieldValue::Fixed(
                value.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte)),
            ),
        };
        let number = u32::try_from(key >> 3).ok().filter(|number| *number > 0)?;
        fields.entry(number).or_default().push(value);
    }
    Some(fields)
}

/// Whether a message has each field of the recorded one, with the same content. It may have further
/// ones.
pub(super) fn covers(recorded: &[u8], now: &[u8], volatile: &[&[u32]]) -> Result<(), String> {
    let message = |bytes| fields(bytes).ok_or_else(|| "it is no message".to_owned());
    let mut path = Vec::new();
    all_cover(&message(recorded)?, &message(now)?, volatile, &mut path)
}

fn all_cover(
    recorded: &Fields<'_>,
    now: &Fields<'_>,
    volatile: &[&[u32]],
    path: &mut Vec<u32>,
) -> Result<(), String> {
    for (&number, values) in recorded {
        path.push(number);
        let found = now.get(&number).map_or(&[][..], Vec::as_slice);
        if values.len() != found.len() {
            let (recorded, now) = (values.len(), found.len());
            return Err(format!("field {path:?} was there {recorded} times, and is {now} times"));
        }
        let is_volatile = number == CHECKSUM || volatile.contains(&path.as_slice());
        for (recorded, now) in values.iter().zip(found) {
            if !is_volatile {
                value_covers(recorded, now, volatile, path)?;
            }
        }
        path.pop();
    }
    Ok(())
}

fn value_covers(
    recorded: &FieldValue<'_>,
    now: &FieldValue<'_>,
    volatile: &[&[u32]],
    path: &mut Vec<u32>,
) -> Result<(), String> {
    if recorded == now {
        return Ok(());
    }
    if let (FieldValue::Bytes(recorded), FieldValue::Bytes(now)) = (recorded, now)
        && let (Some(recorded), Some(now)) = (fields(recorded), fields(now))
    {
        return all_cover(&recorded, &now, volatile, path);
    }
    Err(format!("field {path:?} was {recorded:?}, and is {now:?}"))
}

#[test]
fn a_changed_or_lost_field_is_found_and_an_added_one_is_none() {
    // Field 1 is a number, field 2 a message with a number, field 3 a text.
    let recorded = [0x08, 5, 0x12, 2, 0x08, 7, 0x1a, 1, b'x'];
    let added = [0x08, 5, 0x12, 4, 0x08, 7, 0x10, 1, 0x1a, 1, b'x', 0x20, 9];
    covers(&recorded, &recorded, &[]).unwrap();
    covers(&recorded, &added, &[]).unwrap();
    let lost = covers(&recorded, &recorded[..6], &[]).unwrap_err();
    assert!(lost.contains("field [3] was there 1 times, and is 0 times"), "{lost}");
    let mut changed = recorded;
    changed[5] = 8;
    let difference = covers(&recorded, &changed, &[]).unwrap_err();
    assert!(difference.contains("field [2, 1] was Varint(7), and is Varint(8)"), "{difference}");
    covers(&recorded, &changed, &[&[2, 1]]).unwrap();
    // Another number of the field is a field that is lost.
    changed = recorded;
    changed[0] = 0x28;
    assert!(covers(&recorded, &changed, &[]).unwrap_err().contains("field [1]"));
}
