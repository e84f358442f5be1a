//! The declarations of an app: its catalogue, its events, and the followers that it starts.

use super::{App, AppBuilder};
use crate::{
    catalogue::{AppCatalogue, Catalogue},
    event::Event,
    follow::Refresh,
    projection::Target,
    view::{View, ViewOptions},
};

impl App {
    /// The [catalogue](crate::catalogue) of this app: commands and queries by name, and all entries
    /// as data.
    pub fn catalogue(&self) -> AppCatalogue {
        AppCatalogue::new(self.catalogue.clone(), self.left.clone(), self.right.clone())
    }
}

impl AppBuilder {
    /// Adds the declarations of a [catalogue](crate::catalogue): the app keeps its views, runs its
    /// projections, knows its events, and carries out its commands and queries by name. If it is
    /// called several times, the catalogues are joined.
    pub fn catalogue<S>(mut self, catalogue: Catalogue<S>) -> AppBuilder {
        self.declared.append(catalogue.into_declarations());
        self
    }

    /// Keeps this fold up to date in memory, so that [queries](App::query) are answered from it.
    pub fn view<V: View>(self) -> AppBuilder {
        self.view_with::<V>(ViewOptions::default())
    }

    /// Like [`view`](AppBuilder::view), with options.
    pub fn view_with<V: View>(mut self, options: ViewOptions) -> AppBuilder {
        self.declared.add_view::<V>(options);
        self
    }

    /// Keeps rows outside the log in step with it. The start of the app does not wait for them.
    pub fn projection(self, target: impl Target) -> AppBuilder {
        self.projection_with(target, Refresh::Live)
    }

    /// Like [`projection`](AppBuilder::projection), with a choice of when to apply new events.
    pub fn projection_with<T: Target>(mut self, target: T, refresh: Refresh) -> AppBuilder {
        self.declared.add_projection(target, refresh);
        self
    }

    /// Declares that the app knows the events of `E`. The app knows the events of its views and
    /// projections anyway, so this is for events that only commands read or write.
    ///
    /// When it starts, the app compares its known events with the log:
    ///
    /// - A type in the log that no known event and no upcaster takes causes a warning, or an error
    ///   if the app is [strict](AppBuilder::strict). Most likely the type was renamed or split, and
    ///   the upcaster is missing, so folds do not see its events. An app without known events skips
    ///   this check.
    /// - A stored event that lacks a tag which it would get today is an error
    ///   ([`StartError::MissingTag`](crate::StartError::MissingTag)), because a rule over that tag
    ///   does not see the event. An app that [gives older events the tag](App::retag) starts with
    ///   [`retagging`](AppBuilder::retagging). The check covers each type that has upcasters or a
    ///   version above 1, and reads up to 16 of its events after each of 16 places of the log.
    ///   Events that only commands read, and that are not declared here, are checked when the first
    ///   command asks for them.
    pub fn events<E: Event>(mut self) -> AppBuilder {
        self.declared.know::<E>();
        self
    }

    /// Leaves out everything with an effect outside the process, for a poster.
    pub(crate) fn only_views(mut self) -> AppBuilder {
        self.declared.plans.drop_projections();
        self
    }
}
