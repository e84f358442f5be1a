use crate::{
    error::OpenError,
    inline::{InlineRows, InlineSet},
    options::PostgresOptions,
    store::PostgresStore,
};

/// A store that is to be opened, with its inline projections.
pub struct StoreBuilder {
    address: String,
    options: PostgresOptions,
    rows: Vec<Box<dyn InlineRows>>,
}

impl StoreBuilder {
    /// A store at an address, as [`PostgresStore::open`] takes it.
    pub fn new(address: impl Into<String>, options: PostgresOptions) -> StoreBuilder {
        StoreBuilder { address: address.into(), options, rows: Vec::new() }
    }

    /// Writes these rows in the transaction of each append, so that a reader of the tables sees
    /// them as soon as an append has its answer. Their tables are in the database of the log.
    ///
    /// From the first time on, the log names them, and refuses appends of programs that do not
    /// write them in the same version.
    #[must_use]
    pub fn inline(mut self, rows: impl InlineRows) -> StoreBuilder {
        self.rows.push(Box::new(rows));
        self
    }

    /// Opens the store. New rows catch up with the log before.
    ///
    /// # Errors
    /// [`OpenError`], with [`OpenError::Inline`] for rows that cannot be brought in step with the
    /// log.
    pub async fn open(self) -> Result<PostgresStore, OpenError> {
        PostgresStore::with_rows(&self.address, self.options, InlineSet::new(self.rows)).await
    }
}

/// The address may contain a password, so it is not shown.
impl std::fmt::Debug for StoreBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreBuilder").field("options", &self.options).finish_non_exhaustive()
    }
}
