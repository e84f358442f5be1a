use std::{
    any::{Any, TypeId},
    collections::HashMap,
    hash::{Hash, Hasher},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, LazyLock},
};

use diptych_store::{EventChecksum, Filter, LogIdentity, Position, Timestamp};
use foldhash::fast::RandomState;
use serde::{Serialize, de::DeserializeOwned};

use super::encoding;
use crate::{
    event::Event,
    fold::{Fold, kept_name},
    panics::panic_text,
};

/// How states of one fold are written and read.
pub(crate) struct SnapshotPolicy<F> {
    /// A snapshot is due after this many events since the last.
    pub(crate) every_events: u64,
    encode: fn(&F, Vec<u8>) -> Result<Vec<u8>, String>,
    decode: fn(&[u8]) -> Result<F, String>,
    pub(super) fingerprint: [u8; 32],
}

/// How states are kept outside the log, for each fold with snapshots.
#[derive(Clone, Default)]
pub(crate) struct SnapshotPolicies(HashMap<TypeId, NamedPolicy, RandomState>);

/// The name under which the snapshots of a fold are kept, and its `SnapshotPolicy<F>`.
type NamedPolicy = (&'static str, Arc<dyn Any + Send + Sync>);

impl SnapshotPolicies {
    pub(crate) fn insert<F: Fold>(&mut self, policy: SnapshotPolicy<F>) {
        self.0.insert(TypeId::of::<F>(), (kept_name::<F>(), Arc::new(policy)));
    }

    pub(crate) fn get<F: Fold>(&self) -> Option<Arc<SnapshotPolicy<F>>> {
        let (_, policy) = self.0.get(&TypeId::of::<F>())?;
        policy.clone().downcast().ok()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names under which snapshots are kept.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.values().map(|(name, _)| *name)
    }
}

/// A state with its position, as a snapshot holds it.
pub(crate) struct SavedState<F> {
    pub(crate) fold: F,
    pub(crate) position: Position,
    /// When the newest event in the state was recorded.
    pub(crate) newest: Timestamp,
    pub(crate) payload_bytes: u64,
}

impl<F: Fold + Serialize + DeserializeOwned> SnapshotPolicy<F> {
    /// `None` if the executable cannot be identified.
    pub(crate) fn new(every_events: u64) -> Option<SnapshotPolicy<F>> {
        Some(SnapshotPolicy {
            every_events: every_events.max(1),
            encode: encoding::encode,
            decode: encoding::decode,
            fingerprint: fingerprint::<F>()?,
        })
    }
}

/// The first bytes of every snapshot, in this form and in older ones.
const MAGIC: &[u8; 7] = b"DIPSNAP";
/// The version of the form. Form 1 lacked the checksum of the last event, form 2 lacked the
/// likeness of the state, and form 3 lacked the time of the newest event.
const FORM: u8 = b'4';
const CHECK_BYTES: usize = 32;

/// A snapshot that lacks only the checksum of its last event, which may have no position yet.
pub(crate) struct UnsealedSnapshot(Vec<u8>);

impl UnsealedSnapshot {
    /// Completes the bytes of the snapshot with the checksum of the last event in its state.
    pub(crate) fn seal(self, checksum: EventChecksum) -> Vec<u8> {
        let UnsealedSnapshot(mut bytes) = self;
        bytes.extend_from_slice(&checksum.to_u64().to_le_bytes());
        let check = blake3::hash(&bytes);
        bytes.extend_from_slice(check.as_bytes());
        bytes
    }
}

/// Why a snapshot is not used.
#[derive(Debug)]
pub(crate) enum SnapshotProblem {
    /// It could not be read this time.
    Unread(String),
    /// Other code made it, or it belongs to another log.
    Foreign(String),
    /// It can never be used.
    Useless(String),
}

/// The reason to drop a snapshot at this position: the log has another history now.
pub(crate) fn of_a_lost_history(position: Position) -> String {
    format!(
        "it was made of a history that the log no longer has: at position {position} there is \
         another event, because an older copy of the log was put in its place"
    )
}

impl<F: Fold> SnapshotPolicy<F> {
    /// The name of the snapshot of the state with this boundary.
    pub(crate) fn name(boundary: &Filter) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(kept_name::<F>().as_bytes()).update(b"\0");
        hasher.update(boundary.to_string().as_bytes());
        hasher.finalize().to_hex().chars().take(32).collect()
    }

    /// The snapshot of a state whose events are selected and read as `declared`.
    pub(crate) fn write(
        &self,
        log: LogIdentity,
        name: &str,
        declared: &str,
        kept: SavedState<&F>,
    ) -> Result<UnsealedSnapshot, String> {
        let SavedState { fold, position, newest, payload_bytes } = kept;
        let mut bytes = self.head(log, name, declared);
        bytes.extend_from_slice(&position.get().to_le_bytes());
        bytes.extend_from_slice(&newest.as_micros().to_le_bytes());
        bytes.extend_from_slice(&payload_bytes.to_le_bytes());
        match catch_unwind(AssertUnwindSafe(|| (self.encode)(fold, bytes))) {
            Ok(bytes) => Ok(UnsealedSnapshot(bytes?)),
            Err(panic) => Err(format!("its Serialize panicked: {}", panic_text(&*panic))),
        }
    }

    /// Reads a snapshot of this state from `bytes`, with the checksum of its last event.
    pub(crate) fn read(
        &self,
        log: LogIdentity,
        name: &str,
        declared: &str,
        bytes: &[u8],
        head: Position,
    ) -> Result<(SavedState<F>, EventChecksum), SnapshotProblem> {
        let useless = |reason: &str| SnapshotProblem::Useless(reason.to_owned());
        let Some((bytes, check)) = bytes.split_last_chunk::<CHECK_BYTES>() else {
            return Err(useless("it is cut off"));
        };
        if blake3::hash(bytes) != *check {
            return Err(useless("it is damaged"));
        }
        if bytes.strip_prefix(MAGIC).is_some_and(|rest| rest.first() != Some(&FORM)) {
            return Err(useless("another version of the program wrote it, in another format"));
        }
        let Some(bytes) = bytes.strip_prefix(self.head(log, name, declared).as_slice()) else {
            let reason = "it was made by other code, or of another log".to_owned();
            return Err(SnapshotProblem::Foreign(reason));
        };
        let Some((saved, checksum)) = parts(bytes) else {
            return Err(useless("it is cut off"));
        };
        let SavedState { fold: state, position, newest, payload_bytes } = saved;
        if position > head {
            let reason = format!("it is of position {position}, and the log ends at {head}");
            return Err(SnapshotProblem::Useless(reason));
        }
        match catch_unwind(AssertUnwindSafe(|| (self.decode)(state))) {
            Ok(Ok(fold)) => Ok((SavedState { fold, position, newest, payload_bytes }, checksum)),
            Ok(Err(reason)) => Err(SnapshotProblem::Useless(reason)),
            Err(panic) => {
                let reason = format!("its Deserialize panicked: {}", panic_text(&*panic));
                Err(SnapshotProblem::Useless(reason))
            }
        }
    }

    /// The header of a snapshot. A reader uses only snapshots with an equal header.
    pub(super) fn head(&self, log: LogIdentity, name: &str, declared: &str) -> Vec<u8> {
        let mut code = blake3::Hasher::new();
        code.update(&self.fingerprint).update(declared.as_bytes());
        let mut bytes = MAGIC.to_vec();
        bytes.push(FORM);
        bytes.extend_from_slice(code.finalize().as_bytes());
        bytes.extend_from_slice(&log.id.to_bytes());
        bytes.extend_from_slice(&log.epoch.to_u64().to_le_bytes());
        bytes.extend_from_slice(name.as_bytes());
        bytes
    }
}

/// The state, as bytes, and the checksum of the last event.
fn parts(bytes: &[u8]) -> Option<(SavedState<&[u8]>, EventChecksum)> {
    let (position, rest) = bytes.split_first_chunk()?;
    let (newest, rest) = rest.split_first_chunk()?;
    let (payload_bytes, rest) = rest.split_first_chunk()?;
    let (fold, checksum) = rest.split_last_chunk()?;
    let checksum = EventChecksum::from_u64(u64::from_le_bytes(*checksum));
    let position = Position::new(u64::from_le_bytes(*position));
    let newest = Timestamp::from_micros(i64::from_le_bytes(*newest));
    let payload_bytes = u64::from_le_bytes(*payload_bytes);
    Some((SavedState { fold, position, newest, payload_bytes }, checksum))
}

/// Identifies the code that makes a state: the version of the fold, or else the executable and the
/// type in it. The name alone is not enough, because two types of one executable may share it.
fn fingerprint<F: Fold>() -> Option<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(kept_name::<F>().as_bytes());
    for known in F::Event::types() {
        hasher.update(b"\0").update(known.name.as_bytes());
        hasher.update(&known.version.to_le_bytes());
    }
    match F::VERSION {
        Some(version) => hasher.update(b"\0version").update(&version.to_le_bytes()),
        None => {
            let mut id = TypeBytes::default();
            TypeId::of::<F>().hash(&mut id);
            hasher.update(b"\0executable").update(&executable()?).update(&id.0)
        }
    };
    Some(*hasher.finalize().as_bytes())
}

/// Collects the bytes that a `TypeId` feeds to a hasher. They are equal in every run of one
/// executable.
#[derive(Default)]
struct TypeBytes(Vec<u8>);

impl Hasher for TypeBytes {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

/// Identifies the file of the running program: equal in every run of one build. `None` if the file
/// cannot be read.
pub(crate) fn executable() -> Option<[u8; 32]> {
    *EXECUTABLE
}

/// Digest of the file of the running program.
static EXECUTABLE: LazyLock<Option<[u8; 32]>> = LazyLock::new(|| {
    let program = std::env::current_exe().and_then(std::fs::File::open);
    let mut hasher = blake3::Hasher::new();
    let read = program.and_then(|mut file| io::copy(&mut file, &mut hasher));
    match read {
        Ok(_) => Some(*hasher.finalize().as_bytes()),
        Err(error) => {
            tracing::warn!(%error, "the program's file cannot be read: folds without a version \
                are not kept as snapshots");
            None
        }
    }
});
