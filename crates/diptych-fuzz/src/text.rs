//! Targets that parse text: filters, tags, times and tokens.

use std::{cell::OnceCell, collections::BTreeSet};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use diptych::{Receipt, SessionToken, token::TokenSyntaxError};
use diptych_log::ReadOnlyLog;
use diptych_store::{Filter, Position, Read, ReadError, Tag, Timestamp};

use crate::{
    fixture::{self, CLOSED, CONTENT, FOLDER},
    observe::note,
};

thread_local! {
    /// A log with the known content, to look filters up in.
    static LOG: OnceCell<ReadOnlyLog> = const { OnceCell::new() };
}

/// A filter as people type it. One that is parsed is written so that it is parsed as the same, and
/// selects the events that its items say.
pub(crate) fn filter(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let filter: Filter = match text.parse() {
        Ok(filter) => filter,
        Err(error) => {
            let error: diptych_store::FilterSyntaxError = error;
            return note(&error.to_string());
        }
    };
    let written = filter.to_string();
    assert_eq!(written.parse::<Filter>().as_ref(), Ok(&filter), "{written:?}");
    note(&format!("{} items", filter.items().len().min(3)));
    let found = LOG.with(|log| {
        let log = log.get_or_init(|| {
            let disk = CLOSED.disk("lock", &[], &[]);
            ReadOnlyLog::open(FOLDER, fixture::options(&disk)).unwrap()
        });
        let (mut found, mut after) = (BTreeSet::new(), Position::START);
        let events = fixture::events(&CONTENT).len() as u64;
        while after < Position::new(events) {
            match log.blocking().read(&filter, Read::after(after)) {
                Ok(batch) => {
                    found.extend(batch.iter().map(|event| event.position().get()));
                    after = batch.upto();
                }
                Err(ReadError::Invalid(error)) => {
                    note(&error.to_string());
                    return None;
                }
                Err(error) => panic!("{error}"),
            }
        }
        Some(found)
    });
    let Some(found) = found else { return };
    let selects = |(at, event): (u64, &diptych_store::RawEvent)| {
        let selected = filter.items().iter().any(|item| {
            let types: Vec<&str> = item.types.iter().map(AsRef::as_ref).collect();
            (types.is_empty() || types.contains(&event.event_type.as_ref()))
                && item.tags.iter().all(|tag| event.tags.contains(tag))
        });
        selected.then_some(at)
    };
    let expected: BTreeSet<u64> =
        (1..).zip(&fixture::events(&CONTENT)).filter_map(selects).collect();
    assert_eq!(found, expected, "the events of {written}");
}

pub(crate) fn filter_seeds() -> Vec<Vec<u8>> {
    let texts = [
        "*",
        "nothing",
        "type=opened,paid",
        "tag=account:3 tag=tenant:0",
        "type=paid tag=account:1 or type=closed or tag=tenant:2",
        "type=a%2Cb%25 tag=k:v%20w or * or type=noted",
    ];
    texts.map(|text| text.as_bytes().to_vec()).into()
}

/// A tag, and a time.
pub(crate) fn tag(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let model = text.find(':').filter(|colon| *colon > 0);
    match (Tag::parse(text), model) {
        (Ok(tag), Some(colon)) => {
            assert_eq!((tag.key(), tag.value()), (&text[..colon], &text[colon + 1..]));
            assert_eq!(tag.to_string(), text);
            let filter = Filter::tag(tag);
            assert_eq!(filter.to_string().parse().as_ref(), Ok(&filter), "{filter}");
            note("a tag");
        }
        (Err(error), None) => note(&error.to_string()),
        (parsed, _) => panic!("{text:?}: {parsed:?}"),
    }
    match text.parse::<Timestamp>() {
        Ok(time) => {
            note("a time");
            assert_eq!(time.to_string().parse::<Timestamp>().ok(), Some(time), "{text:?}");
        }
        Err(error) => assert!(error.to_string().contains(&format!("{text:?}")), "{error}"),
    }
}

pub(crate) fn tag_seeds() -> Vec<Vec<u8>> {
    let texts = [
        "account:ann",
        ":",
        "a::b",
        "2013-01-01T05:15:00.000001-05:00",
        "-009999-01-02T01:59:59.999999Z",
        "9999-12-30T22:00:00.999999999Z",
    ];
    texts.map(|text| text.as_bytes().to_vec()).into()
}

/// A token as a client sends it. Bit 0 of the first byte says that the rest is the content of a
/// token, whose check is added.
pub(crate) fn token(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else { return };
    let text = if mode & 1 == 0 {
        let Ok(text) = str::from_utf8(rest) else { return };
        text.to_owned()
    } else {
        BASE64_URL_SAFE_NO_PAD.encode([rest, &check(rest).to_be_bytes()].concat())
    };
    one_text::<Receipt>(&text);
    one_text::<SessionToken>(&text);
}

/// A token has one text: a program may compare texts.
fn one_text<T>(text: &str)
where
    T: std::str::FromStr<Err = TokenSyntaxError> + ToString + serde::Serialize,
    T: serde::de::DeserializeOwned,
{
    let by_serde = serde_json::from_value::<T>(text.into());
    match text.parse::<T>() {
        Ok(token) => {
            note("a token");
            assert_eq!(token.to_string(), text, "the text of a token");
            let by_serde = by_serde.map(|token| token.to_string());
            assert_eq!(by_serde.ok().as_deref(), Some(text), "the token by serde");
            assert_eq!(serde_json::to_value(&token).ok(), Some(text.into()));
        }
        Err(error) => {
            note(&error.to_string());
            assert!(by_serde.is_err(), "serde reads a token that is none");
        }
    }
}

/// CRC-16 (CCITT).
fn check(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xffff, |check, byte| {
        (0..8).fold(check ^ u16::from(*byte) << 8, |check, _| {
            let shifted = check << 1;
            if check & 0x8000 == 0 { shifted } else { shifted ^ 0x1021 }
        })
    })
}

pub(crate) fn token_seeds() -> Vec<Vec<u8>> {
    let receipt = "AgABAgMEBQYHCAkKCwwNDg8AAAABAAAAKgcC__________hXoQ";
    let content = BASE64_URL_SAFE_NO_PAD.decode(receipt).unwrap_or_default();
    let content = content.get(..content.len().saturating_sub(2)).unwrap_or(&[]);
    // A session: its first byte, then for each log id, epoch, two numbers, and a checksum.
    let of_log = content.get(1..25).unwrap_or(&[]);
    let session = [&[66], of_log, &[7, 2], &[0xFF; 8]].concat();
    let counted = [&[66, 1], of_log, &[7, 2], &[0xFF; 8]].concat();
    vec![
        [b"\0", receipt.as_bytes()].concat(),
        [&[1], content].concat(),
        [&[1], session.as_slice()].concat(),
        [&[1], counted.as_slice()].concat(),
        vec![1, 1],
        vec![1, 65],
        vec![1, 66],
    ]
}
