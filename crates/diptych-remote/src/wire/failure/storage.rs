//! Failures of the storage behind a server, as messages and as errors of a client.
//!
//! A client may know which file failed, and why. The folders of the server are none of its concern,
//! so paths arrive without them. The advice is written for a user who may not be on the machine
//! with the files.

use std::{
    io::{self, ErrorKind},
    sync::Arc,
};

use diptych_store::Unavailable;

use crate::wire::messages::{StorageCause, StorageFailure};

/// The message about a failed operation.
pub(super) fn message(what: &str, cause: &io::Error) -> StorageFailure {
    let kind = match cause.kind() {
        ErrorKind::StorageFull => StorageCause::Full,
        ErrorKind::QuotaExceeded => StorageCause::Quota,
        ErrorKind::FileTooLarge => StorageCause::FileTooLarge,
        ErrorKind::PermissionDenied => StorageCause::Permission,
        ErrorKind::NotFound => StorageCause::NotFound,
        ErrorKind::ReadOnlyFilesystem => StorageCause::ReadOnly,
        _ => StorageCause::Other,
    };
    let (operation, cause) = (without_folders(what), without_folders(&cause.to_string()));
    StorageFailure { operation, cause, kind: kind.into() }
}

/// The error that a client reports for the message.
pub(super) fn error(failure: &StorageFailure) -> Unavailable {
    let StorageFailure { operation, cause, .. } = failure;
    let (kind, advice) = match failure.kind() {
        StorageCause::Full => (
            ErrorKind::StorageFull,
            "the log takes no commits for now: free space on the file system of the server, and \
             the log goes on by itself",
        ),
        StorageCause::Quota => (
            ErrorKind::QuotaExceeded,
            "the log takes no commits for now: free space or raise the quota on the server, and \
             the log goes on by itself",
        ),
        StorageCause::FileTooLarge => (
            ErrorKind::FileTooLarge,
            "the log takes no commits for now: raise the limit on the size of a file on the \
             server, and the log goes on by itself",
        ),
        StorageCause::Permission => {
            (ErrorKind::PermissionDenied, "give the server access to its files, then try again")
        }
        StorageCause::NotFound => {
            (ErrorKind::NotFound, "put the file back on the server, then try again")
        }
        StorageCause::ReadOnly => (
            ErrorKind::ReadOnlyFilesystem,
            "make the file system of the server writable, then try again",
        ),
        StorageCause::Other => {
            (ErrorKind::Other, "find the cause on the server, in its messages, then try again")
        }
    };
    let what = format!("the server of the log {operation}").into();
    Unavailable::Storage { what, cause: Arc::new(io::Error::new(kind, cause.clone())), advice }
}

/// The text with only the last part of each path.
fn without_folders(text: &str) -> String {
    let last = |word: &str| {
        let is_path = word.len() > 1 && word.contains('/');
        let part = word.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        if is_path { part.to_owned() } else { word.to_owned() }
    };
    // A path with spaces begins with a slash, and ends with the last word that has one.
    let words: Vec<&str> = text.split(' ').collect();
    let begin = words.iter().position(|word| word.starts_with('/') && word.len() > 1);
    let end = words.iter().rposition(|word| word.contains('/'));
    match (begin, end) {
        (Some(begin), Some(end)) if begin < end => {
            let (before, rest) = words.split_at(begin);
            let (path, after) = rest.split_at(end + 1 - begin);
            let name = path.last().map(|word| last(word)).unwrap_or_default();
            let parts = before.iter().map(|word| last(word)).chain([name]);
            parts.chain(after.iter().map(|word| last(word))).collect::<Vec<_>>().join(" ")
        }
        _ => words.iter().map(|word| last(word)).collect::<Vec<_>>().join(" "),
    }
}
