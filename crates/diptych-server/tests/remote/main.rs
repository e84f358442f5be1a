//! The store over the network, against a server in the same process or in another one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stdout)]

mod append_stream;
mod apps;
mod behind;
mod child;
mod compat;
mod conformance;
mod damaged_headers;
mod door;
mod door_server;
mod encryption;
mod feeds;
mod fence;
mod health;
mod histories;
mod hostile;
mod http_json;
mod killed_clients;
mod kills;
mod live_posters;
mod log_process;
mod newer_servers;
mod poster_process;
mod posters;
mod private_authority;
mod protocol;
mod proxy;
mod restarts;
mod served_log;
mod stops;
mod subscribers;
