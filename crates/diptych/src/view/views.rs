//! The views of an app, by their Rust type.

use std::{
    any::{Any, TypeId, type_name},
    collections::HashMap,
    sync::Arc,
};

use foldhash::fast::RandomState;

use super::{
    NoSuchView, View,
    shown::{ServedView, ShownView},
};
use crate::{follow::FollowerControl, snapshot::ViewSnapshotStore};

/// The views of an app.
#[derive(Default)]
pub(crate) struct Views(HashMap<TypeId, ViewEntry, RandomState>);

struct ViewEntry {
    /// An `Arc<ShownView<V>>`.
    live: Arc<dyn Any + Send + Sync>,
    /// An `Arc<ViewSnapshotStore<V>>`.
    snapshots: Option<Arc<dyn Any + Send + Sync>>,
    control: FollowerControl,
}

impl Views {
    pub(crate) fn add<V: View>(
        &mut self,
        live: Arc<ShownView<V>>,
        snapshots: Option<Arc<ViewSnapshotStore<V>>>,
        control: FollowerControl,
    ) {
        let snapshots = snapshots.map(|snapshots| snapshots as Arc<dyn Any + Send + Sync>);
        self.0.insert(TypeId::of::<V>(), ViewEntry { live, snapshots, control });
    }

    /// # Errors
    /// [`NoSuchView`] if the app does not keep it.
    pub(crate) fn live<V: View>(&self) -> Result<&ShownView<V>, NoSuchView> {
        let live = self.0.get(&TypeId::of::<V>());
        let live = live.and_then(|entry| entry.live.downcast_ref::<ShownView<V>>());
        live.ok_or(NoSuchView { view: type_name::<V>() })
    }

    /// The view, or its candidate if that answers in its place.
    ///
    /// # Errors
    /// [`NoSuchView`] if the app does not keep it.
    pub(crate) fn served<V: View>(&self) -> Result<ServedView<'_, V>, NoSuchView> {
        Ok(self.live::<V>()?.served())
    }

    /// The view, to be shared with its candidate.
    pub(crate) fn shared<V: View>(&self) -> Option<Arc<ShownView<V>>> {
        self.0.get(&TypeId::of::<V>())?.live.clone().downcast().ok()
    }

    /// # Errors
    /// [`NoSuchView`] if the app does not keep it.
    pub(crate) fn control<V: View>(&self) -> Result<FollowerControl, NoSuchView> {
        let entry = self.0.get(&TypeId::of::<V>());
        let control = entry.map(|entry| entry.control.clone());
        control.ok_or(NoSuchView { view: type_name::<V>() })
    }

    /// The snapshots of this view, if any are kept.
    pub(crate) fn snapshots<V: View>(&self) -> Option<Arc<ViewSnapshotStore<V>>> {
        self.0.get(&TypeId::of::<V>())?.snapshots.clone()?.downcast().ok()
    }
}
