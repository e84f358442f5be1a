//! Stage 2: the same record, and a second view over its events.

use std::{collections::BTreeMap, path::Path};

use diptych::{App, Fold, Query, Recorded};
use diptych_records::{Fields, RecordEvent, ServeRecords, WithRecords};
use diptych_server::Server;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Failure, plain::Customer};

/// The number of customers in each city.
#[derive(Clone, Default)]
pub(crate) struct Cities(BTreeMap<String, u64>);

impl Fold for Cities {
    type Event = RecordEvent<Customer>;

    fn apply(&mut self, event: &Recorded<RecordEvent<Customer>>) {
        let (old, new) = event.event.sides();
        let city = |of: &Fields| of.get("city").and_then(|city| city.as_str().map(str::to_owned));
        self.moved(city(&old), city(&new));
    }
}

impl Cities {
    /// Counts a customer who leaves one city for another, or who comes or goes.
    pub(crate) fn moved(&mut self, from: Option<String>, to: Option<String>) {
        if let Some(customers) = from.as_ref().and_then(|from| self.0.get_mut(from)) {
            *customers -= 1;
        }
        if let Some(to) = to {
            *self.0.entry(to).or_default() += 1;
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
    type View = Cities;
    type Answer = BTreeMap<String, u64>;

    fn answer(&self, cities: &Cities) -> BTreeMap<String, u64> {
        cities.counts()
    }
}

pub(crate) async fn start(log: &Path) -> Result<(App, Server), Failure> {
    let app = App::open(log)?.records::<Customer>().view::<Cities>().start().await?;
    let server = Server::new(app.clone()).records::<Customer>("/customers");
    Ok((app, server.live_query::<PerCity>("customers-per-city")))
}
