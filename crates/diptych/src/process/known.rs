//! The processes that a log knows, without the types of a program.

use diptych_store::{EventRef, Filter, Position, Read, ReadError, Store};
use serde::Serialize;

use super::{
    json::number,
    stored::{RENAMED, Rename, STARTED, StartRecord, decode, process_tag, reacted_source},
};

/// A process as the log knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct KnownProcess {
    /// Its newest name.
    pub name: String,
    /// The name under which the log has known it first. The tags and keys of its events are made
    /// from this name.
    pub first_name: String,
    /// The key of the tag of its instances. It is empty if the start of the process cannot be
    /// read.
    pub tag: String,
    /// The types of its events at its first start.
    pub types: Vec<String>,
    /// It reacts to events after this position.
    #[serde(serialize_with = "number")]
    pub after: Position,
    /// The log has its reactions to everything up to here. A process stores its place with each
    /// reaction, and else after many positions only.
    #[serde(serialize_with = "number")]
    pub position: Position,
}

/// The processes of a log, in the order of their first starts.
///
/// # Errors
/// [`ReadError`] from the store.
pub(super) async fn known_processes(store: &Store) -> Result<Vec<KnownProcess>, ReadError> {
    let head = store.known_head().await?;
    let (filter, mut after) = (Filter::types([STARTED, RENAMED]), Position::START);
    let mut known: Vec<(KnownProcess, u32)> = Vec::new();
    while after < head {
        let batch = store.read(&filter, Read::after(after).upto(head)).await?;
        for event in batch.iter() {
            if event.event_type() == STARTED {
                known.extend(started(&event));
            } else if let Ok(Rename { process, name }) = decode(&event)
                && let Some((known, _)) =
                    known.iter_mut().find(|(known, _)| *known.first_name == *process)
            {
                known.name = name;
            }
        }
        after = batch.upto();
    }
    let mut processes = Vec::with_capacity(known.len());
    for (mut process, shards) in known {
        let mut position = None;
        for shard in 0..shards {
            let tracked = store.tracked(&reacted_source(&process.first_name, shard)).await?;
            let at = tracked.map_or(process.after, |tracked| tracked.position);
            position = Some(position.map_or(at, |position: Position| position.min(at)));
        }
        process.position = position.unwrap_or(process.after);
        processes.push(process);
    }
    Ok(processes)
}

/// The process that this event begins, with its number of shards. If a newer program wrote the
/// event, the name is that of its tag.
fn started(event: &EventRef<'_>) -> Option<(KnownProcess, u32)> {
    let (first_name, tag, types, after, shards) = match decode(event) {
        Ok(StartRecord { process, after, shards, tag, types }) => {
            (process.to_string(), tag, types, after, shards)
        }
        Err(_) => {
            let own = process_tag("");
            let name = event.tags().find_map(|tag| tag.strip_prefix(own.as_str()))?;
            (name.to_owned(), String::new(), Vec::new(), Position::START, 1)
        }
    };
    let name = first_name.clone();
    let process = KnownProcess { name, first_name, tag, types, after, position: after };
    Some((process, shards))
}
