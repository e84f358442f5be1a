//! The part of a view's status that depends on its Rust type.

use std::sync::Arc;

use diptych_store::Position;

use super::{View, shown::ShownView};
use crate::{
    follow::{FollowerMemory, Quarantine, StateReport},
    panics::caught,
};

impl<V: View> StateReport for ShownView<V> {
    fn position(&self) -> Position {
        self.now().position()
    }

    fn quarantine(&self) -> Arc<Quarantine> {
        self.now().quarantine().clone()
    }

    fn memory(&self) -> FollowerMemory {
        let now = self.now();
        let heap_bytes = match caught(|| now.state.heap_bytes()) {
            Ok(Some(bytes)) => bytes,
            Ok(None) if !std::mem::needs_drop::<V>() => 0,
            _ => usize::try_from(now.payload_bytes()).unwrap_or(usize::MAX),
        };
        let copy_bytes = heap_bytes.saturating_add(size_of::<V>());
        FollowerMemory { copies: self.copies(), copy_bytes }
    }
}
