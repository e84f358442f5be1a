//! Stage 1: customers are created, read, changed, listed and deleted. Their events are facts about
//! rows, and say nothing about why.

use std::path::Path;

use diptych::App;
use diptych_records::{Record, ServeRecords, WithRecords};
use diptych_server::Server;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Failure;

/// A customer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Record)]
#[record("customer")]
pub(crate) struct Customer {
    #[key]
    id: String,
    #[unique]
    email: String,
    #[index]
    pub(crate) city: String,
    name: String,
}

pub(crate) async fn start(log: &Path) -> Result<(App, Server), Failure> {
    let app = App::open(log)?.records::<Customer>().start().await?;
    let server = Server::new(app.clone()).records::<Customer>("/customers");
    Ok((app, server))
}
