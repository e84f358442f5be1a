//! The views of an app, by their Rust type.

use std::{
    any::{Any, TypeId, type_name},
    collections::HashMap,
    sync::Arc,
};

use foldhash::fast::RandomState;

use super::{NoSuchView, View, copies::Live};
use crate::{follow::FollowerControl, snapshot::Ages};

/// The views of an app.
#[derive(Default)]
pub(crate) struct Views(HashMap<TypeId, ViewEntry, RandomState>);

struct ViewEntry {
    /// An `Arc<Live<V>>`.
    live: Arc<dyn Any + Send + Sync>,
    /// An `Arc<Ages<V>>`.
    ages: Option<Arc<dyn Any + Send + Sync>>,
    control: FollowerControl,
}

impl Views {
    pub(crate) fn add<V: View>(
        &mut self,
        live: Arc<Live<V>>,
        ages: Option<Arc<Ages<V>>>,
        control: FollowerControl,
    ) {
        let ages = ages.map(|ages| ages as Arc<dyn Any + Send + Sync>);
        self.0.insert(TypeId::of::<V>(), ViewEntry { live, ages, control });
    }

    /// # Errors
    /// [`NoSuchView`] if the app does not keep it.
    pub(crate) fn live<V: View>(&self) -> Result<&Live<V>, NoSuchView> {
        let live = self.0.get(&TypeId::of::<V>());
        let live = live.and_then(|entry| entry.live.downcast_ref::<Live<V>>());
        live.ok_or(NoSuchView { view: type_name::<V>() })
    }

    /// # Errors
    /// [`NoSuchView`] if the app does not keep it.
    pub(crate) fn control<V: View>(&self) -> Result<FollowerControl, NoSuchView> {
        let entry = self.0.get(&TypeId::of::<V>());
        let control = entry.map(|entry| entry.control.clone());
        control.ok_or(NoSuchView { view: type_name::<V>() })
    }

    /// The snapshots of this view, if any are kept.
    pub(crate) fn ages<V: View>(&self) -> Option<Arc<Ages<V>>> {
        self.0.get(&TypeId::of::<V>())?.ages.clone()?.downcast().ok()
    }
}
