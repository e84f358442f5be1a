//! A projection in its database.

use std::{fmt, sync::Arc};

use diptych::projection::{
    Database, DatabaseWork, ReaderName, SchemaObject, StoredCheckpoint, StoredVersion,
    SwitchPolicy, TargetError, VersionSlot,
};
use tokio_postgres::error::SqlState;

use crate::{
    Postgres, Projection,
    link::Link,
    schema,
    session::{PostgresTransaction, described},
    stored,
    trouble::{StatementError, of_commit, of_place},
};

/// A [`Projection`] in a [`Postgres`] database, to be run.
pub struct PostgresProjection<P> {
    projection: P,
    place: Postgres,
    beside: Option<SwitchPolicy>,
    /// The objects that `create` makes; `None` before it was tried.
    described: Option<Arc<[SchemaObject]>>,
    /// Whether its connection is the one of a store.
    is_inline: bool,
    /// The connection and the name of the server and the database. It is taken out during each
    /// operation, and made again after an error of the database.
    open: Option<(Link, String)>,
}

impl<P: Projection> Database for PostgresProjection<P> {
    type Event = P::Event;

    fn projection(&self) -> &str {
        self.projection.name()
    }

    fn version(&self) -> u32 {
        self.projection.version()
    }

    fn beside(&self) -> Option<SwitchPolicy> {
        self.beside
    }

    fn key(&self) -> Option<String> {
        self.projection.key().map(str::to_owned)
    }

    fn reader_names(&self) -> Vec<ReaderName> {
        let names = self.projection.readers().into_iter();
        names.map(|(name, object)| ReaderName { name, object }).collect()
    }

    fn transaction(&mut self, work: DatabaseWork<'_, P::Event>) -> Result<(), TargetError> {
        self.with(|this, link, place| {
            let outcome = this.attempt(link, place, work);
            if outcome.is_err() {
                link.checked = None;
                // A connection that cannot roll back is not used again, and its transaction ends
                // with it.
                link.roll_back().map_err(|error| of_place(place, "rolling back", error))?;
            }
            outcome
        })
    }

    fn described(&mut self) -> Result<Arc<[SchemaObject]>, TargetError> {
        if let Some(described) = &self.described {
            return Ok(described.clone());
        }
        let made = self.with(|this, link, place| described(&this.projection, place, link))?;
        let made: Arc<[SchemaObject]> = made.into();
        self.described = Some(made.clone());
        Ok(made)
    }

    fn peek(&mut self) -> Result<Option<StoredCheckpoint>, TargetError> {
        self.with(|this, link, place| {
            let reading = |error| of_place(place, "reading the checkpoint", error);
            let Some(known) = link.checked.as_ref().map(diptych::projection::CheckedSchema::count)
            else {
                return Ok(None);
            };
            if schema::schema_count(link).map_err(reading)? != known {
                return Ok(None);
            }
            let (name, version) = (this.projection.name(), this.projection.version());
            let served = stored::row_name(name, VersionSlot::Served);
            let found = stored::checkpoint(link, &served).map_err(reading)?;
            if found.is_some_and(|found| found.version != version) && this.beside.is_some() {
                let own = stored::row_name(name, VersionSlot::Beside(version));
                return stored::checkpoint(link, &own).map_err(reading);
            }
            Ok(found.filter(|found| found.version == version))
        })
    }

    fn peek_versions(&mut self) -> Result<Vec<StoredVersion>, TargetError> {
        self.with(|this, link, place| match stored::versions(link, this.projection.name()) {
            Err(StatementError::Server(error))
                if error.code() == Some(&SqlState::UNDEFINED_TABLE) =>
            {
                Ok(Vec::new())
            }
            versions => versions.map_err(|error| of_place(place, "reading versions", error)),
        })
    }
}

impl<P: Projection> PostgresProjection<P> {
    pub(crate) fn new(projection: P, place: Postgres) -> PostgresProjection<P> {
        let (beside, described, open, is_inline) = (None, None, None, false);
        PostgresProjection { projection, place, beside, described, is_inline, open }
    }

    /// A projection on a connection that a store has made.
    pub(crate) fn inline(projection: P, place: Postgres) -> PostgresProjection<P> {
        PostgresProjection { is_inline: true, ..PostgresProjection::new(projection, place) }
    }

    pub(crate) fn code(&self) -> &P {
        &self.projection
    }

    pub(crate) fn set_schema(&mut self, schema: &str) {
        schema.clone_into(&mut self.place.schema);
    }

    pub(crate) fn lend(&mut self, link: Link, place: String) {
        self.open = Some((link, place));
    }

    /// Takes the connection back, unless it failed.
    pub(crate) fn take_back(&mut self) -> Option<(Link, String)> {
        self.open.take()
    }

    /// Builds a raised version beside the one in the database, and lets it take its place by this
    /// policy. Without this, a raised version removes the tables of the old one, and readers see
    /// incomplete rows until it has caught up.
    ///
    /// The version needs tables with names of its own, and
    /// [names for readers](Projection::readers).
    #[must_use]
    pub fn beside(mut self, policy: SwitchPolicy) -> PostgresProjection<P> {
        self.beside = Some(policy);
        self
    }

    fn with<T>(
        &mut self,
        work: impl FnOnce(&Self, &mut Link, &str) -> Result<T, TargetError>,
    ) -> Result<T, TargetError> {
        let open = self.open.take().filter(|(link, _)| !link.is_closed());
        let (mut link, place) = match open {
            Some(open) => open,
            None if self.is_inline => {
                return Err(TargetError::unavailable("the connection of the store", "it is gone"));
            }
            None => Link::open(&self.place)?,
        };
        let outcome = work(self, &mut link, &place);
        let is_in_trouble =
            matches!(outcome, Err(TargetError::Unavailable { .. } | TargetError::Broken { .. }));
        if !is_in_trouble {
            self.open = Some((link, place));
        }
        outcome
    }

    /// Runs the work in one transaction, and commits it.
    fn attempt(
        &self,
        link: &mut Link,
        place: &str,
        work: DatabaseWork<'_, P::Event>,
    ) -> Result<(), TargetError> {
        let beginning = |error| of_place(place, "beginning to write", error);
        link.begin_alone(self.projection.name()).map_err(beginning)?;
        let mut session = PostgresTransaction {
            projection: &self.projection,
            schema: &self.place.schema,
            place,
            link,
            last: None,
        };
        work(&mut session)?;
        let last = session.last;
        // The server answers a commit after a failed statement as if all were well.
        if link.has_failed {
            let reason = format!("{place}: a statement failed, and nothing was committed");
            return Err(TargetError::Unavailable { reason, source: None });
        }
        link.batch("commit").map_err(|error| of_commit(place, last, error))
    }
}

impl<P> fmt::Debug for PostgresProjection<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresProjection").field("place", &self.place).finish_non_exhaustive()
    }
}
