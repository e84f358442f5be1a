use std::{
    collections::BTreeMap,
    fmt,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use diptych_store::{Epoch, EventChecksum, HistoryPoint, LogId, LogIdentity, Position, ReadError};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{
    Receipt, TokenSyntaxError,
    text::{self, put_number, take_number},
};
use crate::lineage::Lineage;

/// Maximum number of logs that one token may name.
const LOGS: usize = 16;
/// Longest text that is parsed.
const LONGEST: usize = 1_152;

/// Records the writes and reads of one user, so that answers never go back behind them. Cheap to
/// clone; clones share one session.
///
/// A [query](crate::query::Ask::session) with a session is answered at or after everything that was
/// written and seen in it. A [command](crate::Execute::session) with a session is decided on a
/// state that includes all these events. Both record their positions in the session.
///
/// A session ends with its last clone, and a new one inherits nothing. To continue in another
/// process, carry its [token](Session::token).
#[derive(Clone, Debug)]
pub struct Session(Arc<SessionState>);

#[derive(Debug)]
struct SessionState {
    lineage: Arc<Lineage>,
    written: AtomicU64,
    seen: AtomicU64,
}

impl Session {
    pub(crate) fn new(lineage: Arc<Lineage>) -> Session {
        let (written, seen) = (AtomicU64::new(0), AtomicU64::new(0));
        Session(Arc::new(SessionState { lineage, written, seen }))
    }

    /// The last position that this session wrote.
    pub fn written(&self) -> Position {
        Position::new(self.0.written.load(Ordering::Acquire))
    }

    /// The highest position of an answer in this session.
    pub fn seen(&self) -> Position {
        Position::new(self.0.seen.load(Ordering::Acquire))
    }

    /// The log that the session belongs to.
    pub fn log(&self) -> LogIdentity {
        self.0.lineage.log()
    }

    /// The session as it is now, to carry elsewhere. The token names the event at the highest
    /// position that was written or seen, which may cost a read.
    ///
    /// # Errors
    /// [`ReadError`] if the log cannot be read.
    pub async fn token(&self) -> Result<SessionToken, ReadError> {
        let (written, seen) = (self.written(), self.seen());
        let HistoryPoint { log, checksum, .. } = self.0.lineage.point(written.max(seen)).await?;
        let known = SessionPositions { epoch: log.epoch, written, seen, checksum };
        Ok(SessionToken { logs: BTreeMap::from([(log.id, known)]) })
    }

    /// The highest position that was written or seen, and the event there.
    pub(crate) async fn point(&self) -> Result<HistoryPoint, ReadError> {
        self.0.lineage.point(self.known()).await
    }

    /// Whether it was begun in the app with this lineage.
    pub(crate) fn is_of(&self, lineage: &Arc<Lineage>) -> bool {
        Arc::ptr_eq(&self.0.lineage, lineage)
    }

    /// The highest position that was written or seen.
    pub(crate) fn known(&self) -> Position {
        self.written().max(self.seen())
    }

    pub(crate) fn wrote(&self, receipt: &Receipt) {
        // A command that wrote nothing was decided on the log up to there, so the session has seen
        // it.
        let position = match receipt.is_empty() {
            true => &self.0.seen,
            false => &self.0.written,
        };
        position.fetch_max(receipt.last().get(), Ordering::AcqRel);
    }

    pub(crate) fn saw(&self, position: Position) {
        self.0.seen.fetch_max(position.get(), Ordering::AcqRel);
    }

    pub(crate) fn join(&self, known: SessionPositions) {
        self.0.written.fetch_max(known.written.get(), Ordering::AcqRel);
        self.saw(known.seen);
    }
}

/// A [`Session`] to carry elsewhere: for each log, the positions that were written and seen.
///
/// As text, and for serde, it is a short token that fits in a header or a cookie. It holds only
/// ids, positions and checksums, and grants no rights.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SessionToken {
    logs: BTreeMap<LogId, SessionPositions>,
}

/// The positions of a session in one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SessionPositions {
    epoch: Epoch,
    pub(crate) written: Position,
    pub(crate) seen: Position,
    /// Checksum of the event at the higher of the two.
    checksum: EventChecksum,
}

impl SessionPositions {
    pub(crate) fn position(&self) -> Position {
        self.written.max(self.seen)
    }
}

impl SessionToken {
    /// A token that stands for having seen everything up to this point.
    pub(crate) fn seen(point: HistoryPoint) -> SessionToken {
        let HistoryPoint { log, position, checksum } = point;
        let (written, epoch) = (Position::START, log.epoch);
        let known = SessionPositions { epoch, written, seen: position, checksum };
        SessionToken { logs: BTreeMap::from([(log.id, known)]) }
    }

    /// For each log, the highest position with the event there, and all known positions.
    pub(crate) fn logs(&self) -> impl Iterator<Item = (HistoryPoint, SessionPositions)> {
        self.logs.iter().map(|(id, known)| {
            let log = LogIdentity { id: *id, epoch: known.epoch };
            let (position, checksum) = (known.position(), known.checksum);
            (HistoryPoint { log, position, checksum }, *known)
        })
    }
}

impl fmt::Display for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![text::SESSION];
        for (id, known) in &self.logs {
            bytes.extend(id.to_bytes());
            bytes.extend(known.epoch.to_u64().to_be_bytes());
            put_number(&mut bytes, known.written.get());
            put_number(&mut bytes, known.seen.get());
            bytes.extend(known.checksum.to_u64().to_be_bytes());
        }
        f.pad(&text::encode(bytes))
    }
}

impl FromStr for SessionToken {
    type Err = TokenSyntaxError;

    fn from_str(text: &str) -> Result<SessionToken, TokenSyntaxError> {
        let content = text::decode(text, LONGEST)?;
        match content.split_first().ok_or(TokenSyntaxError::Mangled)? {
            (&text::SESSION, fields) => read_fields(fields).ok_or(TokenSyntaxError::Malformed),
            (0, _) => Err(TokenSyntaxError::Malformed),
            (&text::UNBOUND_SESSION, _) => {
                Err(TokenSyntaxError::Outdated { version: text::UNBOUND_SESSION })
            }
            (&(text::UNBOUND_RECEIPT | text::RECEIPT), _) => {
                Err(TokenSyntaxError::Kind { found: "receipt" })
            }
            (&version, _) => Err(TokenSyntaxError::Version { version }),
        }
    }
}

fn read_fields(mut fields: &[u8]) -> Option<SessionToken> {
    let mut logs = BTreeMap::new();
    while let Some((id, rest)) = fields.split_first_chunk() {
        let id = LogId::from_bytes(*id);
        let (epoch, mut rest) = rest.split_first_chunk()?;
        let epoch = Epoch::from_u64(u64::from_be_bytes(*epoch));
        let written = Position::new(take_number(&mut rest)?);
        let seen = Position::new(take_number(&mut rest)?);
        let (checksum, rest) = rest.split_first_chunk()?;
        let checksum = EventChecksum::from_u64(u64::from_be_bytes(*checksum));
        // Each token has exactly one text: the logs are in order, each once.
        if logs.last_key_value().is_some_and(|(last, _)| *last >= id) || logs.len() >= LOGS {
            return None;
        }
        logs.insert(id, SessionPositions { epoch, written, seen, checksum });
        fields = rest;
    }
    fields.is_empty().then_some(SessionToken { logs })
}

impl Serialize for SessionToken {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SessionToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SessionToken, D::Error> {
        struct SessionTokenVisitor;

        impl de::Visitor<'_> for SessionTokenVisitor {
            type Value = SessionToken;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the token of a session")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<SessionToken, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(SessionTokenVisitor)
    }
}
