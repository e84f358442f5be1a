//! Stage 3: customers move by a command that says so. Plain changes of the city are refused, and
//! the refusal names the command. The view of the record follows both kinds of events.

use std::{collections::BTreeMap, path::Path};

use diptych::{App, Command, DecisionContext, Event, Filter, Query};
use diptych_records::{Record, RecordIntents, Row, RowChanges, RowFold, ServeRecords, WithRecords};
use diptych_server::Server;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Failure, second_view::Cities};

/// A customer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Record)]
#[record("customer", intents = CustomerLife)]
pub(crate) struct Customer {
    #[key]
    id: String,
    #[unique]
    email: String,
    #[index]
    #[retired("move-house")]
    city: String,
    name: String,
}

/// Events of customers with a meaning, beside the facts about their rows.
#[derive(Clone, Debug, PartialEq, Event)]
pub(crate) enum CustomerLife {
    #[event("customer-moved")]
    Moved {
        #[tag]
        customer: String,
        from: String,
        to: String,
    },
}

impl RecordIntents<Customer> for CustomerLife {
    fn key(&self) -> String {
        let CustomerLife::Moved { customer, .. } = self;
        customer.clone()
    }

    fn apply(&self, row: &mut Customer) {
        let CustomerLife::Moved { to, .. } = self;
        row.city = to.clone();
    }
}

/// A customer moves to another city.
#[derive(Serialize, Deserialize, JsonSchema)]
pub(crate) struct MoveHouse {
    pub(crate) customer: String,
    pub(crate) city: String,
}

#[derive(Debug, PartialEq, thiserror::Error, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum StaysThere {
    #[error("there is no such customer")]
    Missing,
    #[error("the customer lives there already")]
    LivesThere,
}

impl Command for MoveHouse {
    type State = Row<Customer>;
    type Event = CustomerLife;
    type Rejection = StaysThere;

    fn boundary(&self) -> Filter {
        Row::<Customer>::filter(&self.customer)
    }

    fn decide(
        &self,
        row: &Row<Customer>,
        _: &DecisionContext,
    ) -> Result<Vec<CustomerLife>, StaysThere> {
        match row.get() {
            None => Err(StaysThere::Missing),
            Some(row) if row.city == self.city => Err(StaysThere::LivesThere),
            Some(row) => Ok(vec![CustomerLife::Moved {
                customer: self.customer.clone(),
                from: row.city.clone(),
                to: self.city.clone(),
            }]),
        }
    }
}

/// The view of stage 2 follows the command, too: it is told of each change of a row.
impl RowChanges<Customer> for Cities {
    fn apply(&mut self, old: Option<&Customer>, new: Option<&Customer>) {
        self.moved(old.map(|row| &row.city), new.map(|row| &row.city));
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
    let server = server.live_query::<PerCity>("customers-per-city");
    Ok((app, server.command::<MoveHouse>("move-house")))
}
