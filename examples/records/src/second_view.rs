//! Stage 2: the record stays as it is, and a second view follows its rows.

use std::{collections::BTreeMap, path::Path};

use diptych::{App, Query};
use diptych_records::{RowChanges, RowFold, ServeRecords, WithRecords};
use diptych_server::Server;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Failure, plain::Customer};

/// The number of customers in each city.
#[derive(Clone, Default)]
pub(crate) struct Cities(BTreeMap<String, u64>);

impl RowChanges<Customer> for Cities {
    fn apply(&mut self, old: Option<&Customer>, new: Option<&Customer>) {
        self.moved(old.map(|row| &row.city), new.map(|row| &row.city));
    }
}

impl Cities {
    /// Counts a customer who leaves one city for another, or who comes or goes.
    pub(crate) fn moved(&mut self, from: Option<&String>, to: Option<&String>) {
        if let Some(to) = to {
            *self.0.entry(to.clone()).or_default() += 1;
        }
        if let Some(customers) = from.and_then(|from| self.0.get_mut(from)) {
            *customers -= 1;
        }
        self.0.retain(|_, customers| *customers > 0);
    }

    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        self.0.clone()
    }
}

/// How many customers each city has.
#[derive(Serialize, Deserialize, JsonSchema)]
pub(crate) struct PerCity {}

impl Query for PerCity {
    type View = RowFold<Customer, Cities>;
    type Answer = BTreeMap<String, u64>;

    fn answer(&self, cities: &RowFold<Customer, Cities>) -> BTreeMap<String, u64> {
        cities.counts()
    }
}

pub(crate) async fn start(log: &Path) -> Result<(App, Server), Failure> {
    let builder = App::open(log)?.records::<Customer>().view::<RowFold<Customer, Cities>>();
    let app = builder.start().await?;
    let server = Server::new(app.clone()).records::<Customer>("/customers");
    Ok((app, server.live_query::<PerCity>("customers-per-city")))
}
