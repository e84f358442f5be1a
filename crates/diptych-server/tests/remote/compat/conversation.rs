//! The file of a conversation.

use std::{collections::VecDeque, fmt};

use axum::body::Bytes;

/// The first line of a file.
const HEAD: &str =
    "# A conversation of a client and a server of this release. It is never changed.";

/// The calls of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Conversation {
    exchanges: VecDeque<Exchange>,
}

/// One call: its headers, the messages of the client, and those of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exchange {
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) requests: Vec<Bytes>,
    pub(super) replies: Vec<Bytes>,
}

/// Whether a header is a part of the protocol.
pub(super) fn is_relevant(name: &str) -> bool {
    name.starts_with("diptych-") || ["content-type", "te"].contains(&name)
}

/// The whole messages in a body.
pub(super) fn frames(mut body: &[u8]) -> Vec<Bytes> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = body.split_first_chunk::<5>() {
        assert_eq!(head[0], 0, "a message is compressed");
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let Some((message, after)) = rest.split_at_checked(length) else { break };
        frames.push(Bytes::copy_from_slice(message));
        body = after;
    }
    frames
}

/// A message as it stands in a body.
pub(super) fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], &length[..], message].concat().into()
}

/// The calls in the order in which they can be replayed: those that ask about the log come after
/// those that write it.
const ORDER: [&str; 3] = ["Describe", "Watch", "Append"];

impl Conversation {
    pub(super) fn new(mut exchanges: Vec<Exchange>) -> Conversation {
        let place = |path: &str| {
            let call = path.rsplit('/').next().unwrap_or_default();
            ORDER.iter().position(|known| *known == call).unwrap_or(ORDER.len())
        };
        exchanges.sort_by_key(|exchange| place(&exchange.path));
        Conversation { exchanges: exchanges.into() }
    }

    pub(super) fn exchanges(&self) -> impl Iterator<Item = &Exchange> {
        self.exchanges.iter()
    }

    /// The first call of this kind that was not taken.
    pub(super) fn take(&mut self, path: &str) -> Option<Exchange> {
        let at = self.exchanges.iter().position(|exchange| exchange.path == path)?;
        self.exchanges.remove(at)
    }

    pub(super) fn parse(text: &str) -> Conversation {
        let mut exchanges = VecDeque::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (kind, rest) = line.split_once(' ').unwrap();
            if kind == "call" {
                let (headers, requests, replies) = (Vec::new(), Vec::new(), Vec::new());
                let path = rest.to_owned();
                exchanges.push_back(Exchange { path, headers, requests, replies });
                continue;
            }
            let exchange: &mut Exchange = exchanges.back_mut().unwrap();
            match kind {
                "header" => {
                    let (name, value) = rest.split_once(": ").unwrap();
                    exchange.headers.push((name.to_owned(), value.to_owned()));
                }
                ">" => exchange.requests.push(bytes(rest)),
                "<" => exchange.replies.push(bytes(rest)),
                other => panic!("a line begins with {other:?}"),
            }
        }
        Conversation { exchanges }
    }
}

impl fmt::Display for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEAD}")?;
        for Exchange { path, headers, requests, replies } in &self.exchanges {
            writeln!(f, "call {path}")?;
            headers.iter().try_for_each(|(name, value)| writeln!(f, "header {name}: {value}"))?;
            requests.iter().try_for_each(|message| writeln!(f, "> {}", hex(message)))?;
            replies.iter().try_for_each(|message| writeln!(f, "< {}", hex(message)))?;
        }
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Bytes {
    let digits = (0..hex.len()).step_by(2);
    digits.map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}
