//! Changes inputs without knowing their form. A target that knows the form restores checksums and
//! the like itself.

use diptych_log::disk::simulated::Random;

/// Inputs do not grow beyond this.
const LONGEST: usize = 16 << 10;

/// Numbers at which arithmetic and limits break.
const NUMBERS: [u64; 18] = [
    0,
    1,
    2,
    7,
    0x7F,
    0x80,
    0xFF,
    0x100,
    0x7FFF,
    0xFFFF,
    0xFF_FFFF,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFF,
    1 << 44,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];

/// Makes inputs from known ones.
pub(crate) struct Mutator<'a> {
    pub(crate) random: Random,
    /// Pieces that inputs of the target have.
    pub(crate) words: &'a [&'a str],
}

impl Mutator<'_> {
    /// An input that is made from one or two of these inputs.
    pub(crate) fn mutate(&mut self, known: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = self.random.pick(known).cloned().unwrap_or_default();
        for _ in 0..=self.random.below(4) {
            self.change(&mut bytes, known);
            bytes.truncate(LONGEST);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, known: &[Vec<u8>]) {
        let random = &mut self.random;
        let at = random.index(bytes.len());
        let longest = if random.chance(80) { 8 } else { 400 };
        let length = 1 + random.index(longest);
        let end = (at + length).min(bytes.len());
        match random.below(if self.words.is_empty() { 10 } else { 14 }) {
            0 => overwrite(bytes, at, &[1 << random.below(8)], |old, new| old ^ new),
            1 => overwrite(bytes, at, &random.bytes(1), |_, new| new),
            2 | 3 => {
                let number = random.pick(&NUMBERS).copied().unwrap_or(0).to_le_bytes();
                let width = random.pick(&[1, 2, 3, 4, 6, 8]).copied().unwrap_or(1);
                overwrite(bytes, at, number.get(..width).unwrap_or(&[]), |_, new| new);
            }
            4 => {
                let step = 1 + random.below(16) as u8;
                let step = if random.chance(50) { step } else { step.wrapping_neg() };
                overwrite(bytes, at, &[step], u8::wrapping_add);
            }
            5 => drop(bytes.drain(at..end)),
            6 => {
                let piece = bytes.get(at..end).unwrap_or(&[]).to_vec();
                let to = random.index(bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            7 => {
                let other = random.pick(known).map_or(&[][..], Vec::as_slice);
                let from = random.index(other.len());
                let piece = other.get(from..(from + length * 4).min(other.len())).unwrap_or(&[]);
                if random.chance(50) {
                    bytes.splice(at..end, piece.iter().copied());
                } else {
                    overwrite(bytes, at, piece, |_, new| new);
                }
            }
            8 => {
                let piece = random.bytes(length.min(16));
                bytes.splice(at..at, piece);
            }
            9 if random.chance(20) => bytes.truncate(at),
            9 => {
                let fill = random.pick(&[0, 0xFF, b' ']).copied().unwrap_or(0);
                bytes.get_mut(at..end).unwrap_or(&mut []).fill(fill);
            }
            _ => {
                let word = random.pick(self.words).map_or(&[][..], |word| word.as_bytes());
                let end = if random.chance(50) { at } else { end };
                bytes.splice(at..end, word.iter().copied());
            }
        }
    }
}

fn overwrite(bytes: &mut [u8], at: usize, with: &[u8], change: fn(u8, u8) -> u8) {
    let places = bytes.get_mut(at..).unwrap_or(&mut []);
    for (place, new) in places.iter_mut().zip(with) {
        *place = change(*place, *new);
    }
}
