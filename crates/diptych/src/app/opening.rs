//! Apps over a folder: the process that writes it, and processes that follow it.

use std::{path::Path, sync::Arc};

use diptych_log::{Log, LogOptions, OpenError, ReadOnlyLog};

use super::{App, AppBuilder};
use crate::snapshot::Snapshots;

impl App {
    /// Opens the log in this folder, creating both if missing.
    ///
    /// # Errors
    /// [`OpenError`](crate::OpenError): another process holds the folder, the log is damaged, or
    /// its files cannot be used.
    pub fn open(folder: impl AsRef<Path>) -> Result<AppBuilder, OpenError> {
        App::open_with(folder, LogOptions::default())
    }

    /// Opens the log in this folder with these options, creating both if missing.
    ///
    /// # Errors
    /// As [`open`](App::open).
    pub fn open_with(
        folder: impl AsRef<Path>,
        options: LogOptions,
    ) -> Result<AppBuilder, OpenError> {
        let log = Log::open(folder, options)?;
        let mut builder = App::over(log.clone()).close_store();
        builder.place = Some(Arc::new(move || {
            let place: Arc<dyn Snapshots> = Arc::new(log.snapshots()?);
            Ok(place)
        }));
        Ok(builder)
    }

    /// Follows the log in this folder, which another process writes: views and queries here,
    /// commands there. The folder may be read-only.
    ///
    /// The app is a few milliseconds behind the writer. It has the writer's history, so a receipt
    /// or token of the writer is valid here, and a query with it waits until the app has seen it.
    /// Commands fail with [`Unavailable`](crate::store::Unavailable): this process does not write.
    /// Snapshots of views need a place of their own
    /// ([`snapshots_in`](AppBuilder::snapshots_in)).
    ///
    /// If the log gets another history, or the folder is replaced, the app ends with the reason,
    /// and has to be started again.
    ///
    /// # Errors
    /// [`OpenError`](crate::OpenError): there is no log in the folder, it is damaged, or its files
    /// cannot be read.
    pub fn follow(folder: impl AsRef<Path>) -> Result<AppBuilder, OpenError> {
        App::follow_with(folder, LogOptions::default())
    }

    /// Follows the log in this folder with these options.
    ///
    /// # Errors
    /// As [`follow`](App::follow).
    pub fn follow_with(
        folder: impl AsRef<Path>,
        options: LogOptions,
    ) -> Result<AppBuilder, OpenError> {
        Ok(App::over(ReadOnlyLog::open(folder, options)?).close_store())
    }
}
