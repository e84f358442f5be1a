//! Keys of notes, which record once that a command was rejected.

use diptych_store::{Digest, Key};
use serde::Serialize;

use super::Invalid;
use crate::{
    digest::digest,
    event::{RESERVED, is_reserved},
};

/// Refuses a caller's key with the prefix of this crate. A caller who could choose such a key could
/// block the note under it.
pub(super) fn check_key(key: &str) -> Result<(), Invalid> {
    if !is_reserved(key) {
        return Ok(());
    }
    let problem = format!(
        "keys that begin with `{RESERVED}` are reserved for notes about rejections: begin it with \
         something else"
    );
    Err(Invalid::new("key", problem))
}

#[derive(Serialize)]
#[serde(rename = "diptych-note")]
struct Note<'a, C: ?Sized, R: ?Sized> {
    key: &'a str,
    command: &'a C,
    rejection: &'a R,
}

/// The key of a note about this rejection of this command, which was sent under `key`. Its length
/// does not depend on that of `key`.
pub(super) fn note_key(
    key: &str,
    command: &(impl Serialize + ?Sized),
    rejection: &(impl Serialize + ?Sized),
) -> Result<Key, Invalid> {
    let made = digest(&Note { key, command, rejection });
    let made =
        made.map_err(|error| Invalid::new("key", format!("the rejection has no key: {error}")))?;
    let name = format!("{RESERVED}note:{made}");
    // The name is a digest of the whole note. So another note under this name has the same content,
    // and counts as a duplicate.
    let same = Digest::of(name.as_bytes());
    Ok(Key::new(name, same))
}
