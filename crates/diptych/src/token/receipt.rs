use std::{fmt, str::FromStr};

use diptych_store::{Epoch, EventChecksum, HistoryPoint, LogId, LogIdentity, Position};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{
    TokenSyntaxError,
    text::{self, put_number, take_number},
};

/// Longest text that is parsed, with room for later versions.
const LONGEST: usize = 128;

/// The place in the log that a command was written to. A caller passes it to a query that must see
/// the command.
///
/// As text, and for serde, it is a short token that fits in a header or an address. Treat the text
/// as opaque: only the program that issued it interprets it.
///
/// ```
/// use diptych::Receipt;
///
/// let token = "AgABAgMEBQYHCAkKCwwNDg8AAAABAAAAKgcC__________hXoQ";
/// let receipt: Receipt = token.parse()?;
/// assert_eq!((receipt.first().get(), receipt.last().get()), (6, 7));
/// assert_eq!(receipt.to_string(), token);
/// # Ok::<(), diptych::token::TokenSyntaxError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Receipt {
    log: LogIdentity,
    last: Position,
    /// Number of events; never more than the positions up to `last`.
    events: u64,
    /// Checksum of the event at `last`.
    checksum: EventChecksum,
}

impl Receipt {
    /// The receipt of the events from `first` up to `last`. If `first` is the position after
    /// `last`, nothing was written, and the command knew the log up to `last`.
    pub(crate) fn new(first: Position, last: HistoryPoint) -> Receipt {
        let HistoryPoint { log, position: last, checksum } = last;
        let events = last.get().saturating_add(1).saturating_sub(first.get());
        Receipt { log, last, events: events.min(last.get()), checksum }
    }

    /// Its last position, and the event there.
    pub(crate) fn point(&self) -> HistoryPoint {
        HistoryPoint { log: self.log, position: self.last, checksum: self.checksum }
    }

    /// The log and the history that the positions belong to.
    pub fn log(&self) -> LogIdentity {
        self.log
    }

    /// The position of the first event that was written, or the one after [`last`](Receipt::last)
    /// if nothing was written.
    pub fn first(&self) -> Position {
        Position::new(self.last.get().saturating_sub(self.events)).plus(1)
    }

    /// The position of the last event that was written. If nothing was written, the position up to
    /// which the command knew the log when it decided.
    pub fn last(&self) -> Position {
        self.last
    }

    /// How many events were written.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Whether nothing was written, because there was nothing to do.
    pub fn is_empty(&self) -> bool {
        self.events == 0
    }
}

/// The token in base64 for addresses: version, id and epoch of the log, last position, number of
/// events, checksum of the last event, and a check over all of these fields. Later versions keep
/// the first byte and the check.
impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![text::RECEIPT];
        bytes.extend(self.log.id.to_bytes());
        bytes.extend(self.log.epoch.to_u64().to_be_bytes());
        put_number(&mut bytes, self.last.get());
        put_number(&mut bytes, self.events);
        bytes.extend(self.checksum.to_u64().to_be_bytes());
        f.pad(&text::encode(bytes))
    }
}

impl FromStr for Receipt {
    type Err = TokenSyntaxError;

    fn from_str(text: &str) -> Result<Receipt, TokenSyntaxError> {
        let content = text::decode(text, LONGEST)?;
        match content.split_first().ok_or(TokenSyntaxError::Mangled)? {
            (&text::RECEIPT, fields) => read_fields(fields).ok_or(TokenSyntaxError::Malformed),
            (0, _) => Err(TokenSyntaxError::Malformed),
            (&text::UNBOUND_RECEIPT, _) => {
                Err(TokenSyntaxError::Outdated { version: text::UNBOUND_RECEIPT })
            }
            (&(text::UNBOUND_SESSION | text::SESSION), _) => {
                Err(TokenSyntaxError::Kind { found: "session" })
            }
            (&version, _) => Err(TokenSyntaxError::Version { version }),
        }
    }
}

fn read_fields(fields: &[u8]) -> Option<Receipt> {
    let (id, rest) = fields.split_first_chunk()?;
    let (epoch, mut rest) = rest.split_first_chunk()?;
    let id = LogId::from_bytes(*id);
    let epoch = Epoch::from_u64(u64::from_be_bytes(*epoch));
    let last = take_number(&mut rest)?;
    let events = take_number(&mut rest)?;
    let checksum = EventChecksum::from_u64(u64::from_be_bytes(rest.try_into().ok()?));
    let log = LogIdentity { id, epoch };
    (events <= last).then_some(Receipt { log, last: Position::new(last), events, checksum })
}

impl Serialize for Receipt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Receipt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Receipt, D::Error> {
        deserializer.deserialize_str(ReceiptVisitor)
    }
}

struct ReceiptVisitor;

impl de::Visitor<'_> for ReceiptVisitor {
    type Value = Receipt;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a receipt")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Receipt, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    use super::{super::text::check, *};

    fn receipt(id: u128, epoch: u64, last: u64, events: u64) -> Receipt {
        let id = LogId::from_bytes(id.to_be_bytes());
        let log = LogIdentity { id, epoch: Epoch::from_u64(epoch) };
        let checksum = EventChecksum::from_u64(!last);
        Receipt { log, last: Position::new(last), events: events.min(last), checksum }
    }

    fn point(log: LogIdentity, position: u64) -> HistoryPoint {
        let checksum = EventChecksum::from_u64(!position);
        HistoryPoint { log, position: Position::new(position), checksum }
    }

    fn any_receipt() -> impl Strategy<Value = Receipt> {
        let number = || prop_oneof![0..300_u64, any::<u64>(), u64::MAX - 2..=u64::MAX];
        (any::<u128>(), any::<u64>(), number(), number())
            .prop_map(|(id, epoch, last, events)| receipt(id, epoch, last, events))
    }

    fn token(bytes: &[u8]) -> String {
        let check = check(bytes).to_be_bytes();
        BASE64_URL_SAFE_NO_PAD.encode([bytes, &check].concat())
    }

    fn read(text: &str) -> Result<Receipt, TokenSyntaxError> {
        text.parse()
    }

    /// Other systems keep receipts, and a newer program must read them.
    #[test]
    fn the_token_never_changes() {
        let log = receipt(0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f, 1 << 32 | 42, 0, 0).log;
        let receipt = Receipt::new(Position::new(6), point(log, 7));
        assert_eq!(receipt.to_string(), "AgABAgMEBQYHCAkKCwwNDg8AAAABAAAAKgcC__________hXoQ");
        // The published check value of this CRC.
        assert_eq!(check(b"123456789"), 0x29b1);
    }

    #[test]
    fn a_receipt_of_nothing_knows_up_to_where() {
        let log = LogIdentity::random();
        let nothing = Receipt::new(Position::new(8), point(log, 7));
        assert!(nothing.is_empty() && nothing.first() > nothing.last());
        assert_eq!((nothing.events(), nothing.last()), (0, Position::new(7)));
        let two = Receipt::new(Position::new(6), point(log, 7));
        assert_eq!((two.events(), two.first(), two.is_empty()), (2, Position::new(6), false));
        let start = Receipt::new(Position::new(1), point(log, 0));
        assert_eq!((start.events(), start.first()), (0, Position::new(1)));
    }

    #[test]
    fn what_is_wrong_is_told_apart() {
        assert_eq!(read("in%valid"), Err(TokenSyntaxError::Characters));
        assert_eq!(read(""), Err(TokenSyntaxError::Mangled));
        assert_eq!(read(&token(&[])), Err(TokenSyntaxError::Mangled));
        let too_long = TokenSyntaxError::TooLong { bytes: 200, limit: 128 };
        assert_eq!(read(&"A".repeat(200)), Err(too_long));
        assert_eq!(read(&token(&[3, 1])), Err(TokenSyntaxError::Version { version: 3 }));
        assert_eq!(read(&token(&[0, 1])), Err(TokenSyntaxError::Malformed));
        assert_eq!(read(&token(&[2, 1])), Err(TokenSyntaxError::Malformed));
        // A receipt of an older program, without the checksum of its event.
        let outdated = read("AQABAgMEBQYHCAkKCwwNDg8AAAABAAAAKgcCDn4");
        assert_eq!(outdated, Err(TokenSyntaxError::Outdated { version: 1 }));
    }

    #[test]
    fn a_receipt_has_one_text() {
        let of = |rest: &[u8]| read(&token(&[&[2; 25], rest].concat()));
        let with = |numbers: &[u8]| of(&[numbers, &[9; 8]].concat());
        assert!(with(&[7, 2]).is_ok());
        assert!(with(&[7, 7]).is_ok());
        let more_events_than_positions = with(&[7, 8]);
        let longer_than_needed = with(&[0x87, 0, 2]);
        let too_large = with(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 2]);
        let endless = with(&[0xff; 20]);
        let more_after_it = with(&[7, 2, 0]);
        let no_checksum = of(&[7, 2]);
        let half_a_checksum = of(&[7, 2, 9, 9, 9, 9]);
        for wrong in [
            more_events_than_positions,
            longer_than_needed,
            too_large,
            endless,
            more_after_it,
            no_checksum,
            half_a_checksum,
        ] {
            assert_eq!(wrong, Err(TokenSyntaxError::Malformed));
        }
    }

    proptest! {
        // Each case tries every character at every place.
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// The check detects every such change, not only almost every one. It was chosen for that.
        #[test]
        fn a_change_of_one_character_is_refused(receipt in any_receipt()) {
            let text = receipt.to_string();
            for at in 0..text.len() {
                for other in ' '..='~' {
                    let mut changed: Vec<char> = text.chars().collect();
                    changed[at] = other;
                    let changed: String = changed.into_iter().collect();
                    prop_assert_eq!(read(&changed).is_ok(), changed == text, "{}", changed);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn tokens_round_trip(receipt in any_receipt()) {
            let text = receipt.to_string();
            prop_assert!(text.len() <= 74, "{}", text);
            prop_assert_eq!(read(&text), Ok(receipt));
            let json = serde_json::to_string(&receipt).unwrap();
            prop_assert_eq!(serde_json::from_str::<Receipt>(&json).unwrap(), receipt);
            let packed = rmp_serde::to_vec(&receipt).unwrap();
            prop_assert_eq!(rmp_serde::from_slice::<Receipt>(&packed).unwrap(), receipt);
            let made = Receipt::new(receipt.first(), receipt.point());
            prop_assert!(made == receipt || receipt.last == Position::MAX);
        }

        #[test]
        fn a_part_of_a_token_is_never_the_whole(receipt in any_receipt(), at in any::<usize>()) {
            let text = receipt.to_string();
            prop_assert_ne!(read(&text[..at % text.len()]), Ok(receipt));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,150}", bytes in any::<[u8; 30]>()) {
            let _ = read(&text);
            let _ = read(&token(&bytes));
            let _ = read(&token(&[&[text::RECEIPT], &bytes[..]].concat()));
        }
    }
}
