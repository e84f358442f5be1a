//! A log on another machine: a [store](RemoteStore) over the network, and the messages of its
//! protocol.
//!
//! `diptych serve` offers the log of a folder, and `diptych_server::LogServer` the log of any
//! store. A [`RemoteStore`] connects to it and keeps every promise of the store contract.
//!
//! The module [`wire`] has the messages, generated from the files in `proto/diptych/v1`, and turns
//! them into the words of `diptych_store` and back. [The log on the wire][page] explains the
//! protocol for authors of other clients.
//!
//! [Share a log][guide] is the guide: from a folder to a server by another address.
//!
//! # Features
//!
//! | feature | default | has |
//! |---|---|---|
//! | `client` | yes | [`RemoteStore`]; without it the crate has the messages only |
//!
//! [guide]: https://github.com/diptych-rs/diptych/blob/main/docs/guides/share-a-log.md
//! [page]: https://github.com/diptych-rs/diptych/blob/main/docs/reference/wire.md

#[cfg(feature = "client")]
mod client;
pub mod wire;

#[cfg(feature = "client")]
pub use client::{
    AppendAnswer, ConnectError, FeedCallError, FeedClient, RemoteOptions, RemoteStore,
};
