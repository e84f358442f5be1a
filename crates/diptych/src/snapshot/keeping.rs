use std::{
    any::type_name,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::LazyLock,
};

use diptych_store::{Filter, LogIdentity, Position};
use serde::{Serialize, de::DeserializeOwned};

use super::encoding;
use crate::{Event, Fold, fold::panic_text};

/// How states of one fold are written and read.
pub(crate) struct Keeping<F> {
    /// A snapshot is due after this many events since the last.
    pub(crate) every_events: u64,
    encode: fn(&F, Vec<u8>) -> Result<Vec<u8>, String>,
    decode: fn(&[u8]) -> Result<F, String>,
    pub(super) fingerprint: [u8; 32],
}

/// A state as it was kept.
pub(crate) struct Kept<F> {
    pub(crate) fold: F,
    pub(crate) position: Position,
    pub(crate) payload_bytes: u64,
}

impl<F: Fold + Serialize + DeserializeOwned> Keeping<F> {
    /// Nothing if it cannot be told which program this is.
    pub(crate) fn new(every_events: u64) -> Option<Keeping<F>> {
        Some(Keeping {
            every_events: every_events.max(1),
            encode: encoding::encode,
            decode: encoding::decode,
            fingerprint: fingerprint::<F>()?,
        })
    }
}

const MAGIC: &[u8; 8] = b"DIPSNAP1";
const CHECK_BYTES: usize = 32;

impl<F: Fold> Keeping<F> {
    /// The name of the snapshot of the state with this boundary.
    pub(crate) fn name(boundary: &Filter) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(type_name::<F>().as_bytes()).update(b"\0");
        hasher.update(boundary.to_string().as_bytes());
        hasher.finalize().to_hex().chars().take(32).collect()
    }

    /// The snapshot as bytes, of a state whose events are selected and read as `declared`.
    pub(crate) fn write(
        &self,
        log: LogIdentity,
        name: &str,
        declared: &str,
        kept: Kept<&F>,
    ) -> Result<Vec<u8>, String> {
        let Kept { fold, position, payload_bytes } = kept;
        let mut bytes = self.head(log, name, declared);
        bytes.extend_from_slice(&position.get().to_le_bytes());
        bytes.extend_from_slice(&payload_bytes.to_le_bytes());
        let mut bytes = match catch_unwind(AssertUnwindSafe(|| (self.encode)(fold, bytes))) {
            Ok(bytes) => bytes?,
            Err(panic) => return Err(format!("its Serialize panicked: {}", panic_text(&*panic))),
        };
        let check = blake3::hash(&bytes);
        bytes.extend_from_slice(check.as_bytes());
        Ok(bytes)
    }

    /// What these bytes are a snapshot of, if it is this.
    pub(crate) fn read(
        &self,
        log: LogIdentity,
        name: &str,
        declared: &str,
        bytes: &[u8],
        head: Position,
    ) -> Result<Kept<F>, String> {
        let Some((bytes, check)) = bytes.split_last_chunk::<CHECK_BYTES>() else {
            return Err("it is cut off".to_owned());
        };
        if blake3::hash(bytes) != *check {
            return Err("it is damaged".to_owned());
        }
        let Some(bytes) = bytes.strip_prefix(self.head(log, name, declared).as_slice()) else {
            return Err("it was made by other code, or of another log".to_owned());
        };
        let numbers = bytes.split_first_chunk::<8>();
        let numbers = numbers.and_then(|(one, rest)| Some((one, rest.split_first_chunk::<8>()?)));
        let Some((position, (payload_bytes, state))) = numbers else {
            return Err("it is cut off".to_owned());
        };
        let position = Position::new(u64::from_le_bytes(*position));
        if position > head {
            return Err(format!("it is of position {position}, and the log ends at {head}"));
        }
        let fold = match catch_unwind(AssertUnwindSafe(|| (self.decode)(state))) {
            Ok(fold) => fold?,
            Err(panic) => return Err(format!("its Deserialize panicked: {}", panic_text(&*panic))),
        };
        Ok(Kept { fold, position, payload_bytes: u64::from_le_bytes(*payload_bytes) })
    }

    /// What has to be the same for a snapshot to be of use.
    pub(super) fn head(&self, log: LogIdentity, name: &str, declared: &str) -> Vec<u8> {
        let mut code = blake3::Hasher::new();
        code.update(&self.fingerprint).update(declared.as_bytes());
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(code.finalize().as_bytes());
        bytes.extend_from_slice(&log.id.to_bytes());
        bytes.extend_from_slice(&log.epoch.to_u64().to_le_bytes());
        bytes.extend_from_slice(name.as_bytes());
        bytes
    }
}

/// Which code a state is made by: what a fold says of itself, else the very executable.
fn fingerprint<F: Fold>() -> Option<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(type_name::<F>().as_bytes());
    for known in F::Event::types() {
        hasher.update(b"\0").update(known.name.as_bytes());
        hasher.update(&known.version.to_le_bytes());
    }
    match F::VERSION {
        Some(version) => hasher.update(b"\0version").update(&version.to_le_bytes()),
        None => hasher.update(b"\0executable").update(EXECUTABLE.as_ref()?),
    };
    Some(*hasher.finalize().as_bytes())
}

/// The digest of the running program's file.
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
