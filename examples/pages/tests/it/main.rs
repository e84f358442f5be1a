//! Runs the programs of pages as a reader does, and sends them the requests that their pages show
//! or name.

// These files are parts of the tests of the tutorial, whose pages show services, too.
#[path = "../../../tutorial/tests/it/page.rs"]
mod page;
mod postgres;
mod programs;
mod schemas;
mod secured;
#[path = "../../../tutorial/tests/it/service.rs"]
mod service;
mod services;
