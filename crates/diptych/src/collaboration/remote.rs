//! The feed of a server, read over the native wire.

use std::fmt;

use diptych_remote::{
    ConnectError, FeedCallError, FeedClient, RemoteOptions,
    wire::{
        self,
        messages::{
            FeedEnd, FeedEvent, FeedPageReply, FeedPageRequest, FeedPlace, feed_page_request::After,
        },
    },
};
use diptych_store::{Position, Timestamp};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{
    cloud_event::{CloudEvent, EventPlace, MalformedEvent},
    page::{FeedCursor, FeedError, FeedPage, FeedRead, FeedSource},
};

/// The feed of another service, such as `diptych://ordering.example:4500/feeds/orders`: a source
/// for an [intake](crate::AppBuilder::intake).
///
/// Its events are the same as over HTTP. They need less work on both sides, because the attributes
/// are no text that is parsed. A lost connection is made again by the next question. An intake that
/// is behind gets its next page while it works on this one.
///
/// ```no_run
/// use diptych::remote::{RemoteFeed, RemoteOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut options = RemoteOptions::default();
/// options.token = Some(std::env::var("ORDERS_TOKEN")?);
/// let orders = RemoteFeed::new("diptychs://ordering.example/feeds/orders", options)?;
/// # Ok(()) }
/// ```
pub struct RemoteFeed {
    client: FeedClient,
}

impl RemoteFeed {
    /// The feed at this address, `diptych://host:port/feeds/name`, or encrypted with `diptychs://`.
    /// The first question connects. [`answer_time`](RemoteOptions::answer_time) of the options
    /// counts from the end of the wait that an intake asks for.
    ///
    /// # Errors
    /// [`ConnectError`] if the address has another form, or the options cannot be used.
    pub fn new(address: &str, options: RemoteOptions) -> Result<RemoteFeed, ConnectError> {
        Ok(RemoteFeed { client: FeedClient::new(address, options)? })
    }
}

impl FeedSource for RemoteFeed {
    fn name(&self) -> String {
        self.client.name().to_owned()
    }

    async fn read(&self, read: FeedRead) -> Result<FeedPage, FeedError> {
        page_of(self.client.page(question(read)).await?)
    }
}

impl fmt::Debug for RemoteFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RemoteFeed").field(&self.client.name()).finish()
    }
}

impl From<FeedCallError> for FeedError {
    fn from(error: FeedCallError) -> FeedError {
        match error {
            FeedCallError::AboveHead { after, head } => FeedError::AboveHead { after, head },
            FeedCallError::Refused { reason } => FeedError::Refused { reason },
            other => FeedError::Unreachable { reason: other.to_string() },
        }
    }
}

fn question(read: FeedRead) -> FeedPageRequest {
    let after = match read.after {
        FeedCursor::Position(after) => After::Position(after.get()),
        FeedCursor::Event(EventPlace { position, part }) => {
            After::Event(FeedPlace { position: position.get(), part })
        }
        FeedCursor::End => After::End(FeedEnd {}),
    };
    FeedPageRequest {
        after: Some(after),
        // 0 lets the server choose.
        limit: u32::try_from(read.limit.max(1)).unwrap_or(u32::MAX),
        wait_ms: u64::try_from(read.wait.as_millis()).unwrap_or(u64::MAX),
        ..FeedPageRequest::default()
    }
}

fn page_of(reply: FeedPageReply) -> Result<FeedPage, FeedError> {
    let identity = reply.identity.and_then(|identity| wire::identity_of(identity).ok());
    let log = identity.ok_or_else(|| FeedError::Unreachable {
        reason: "its page does not name the log: compare the versions".to_owned(),
    })?;
    let events: Result<Vec<CloudEvent>, MalformedEvent> =
        reply.events.into_iter().map(event_of).collect();
    Ok(FeedPage::new(log, events?, Position::new(reply.upto), Position::new(reply.head)))
}

fn event_of(message: FeedEvent) -> Result<CloudEvent, MalformedEvent> {
    let malformed = |problem: String| MalformedEvent { id: message.id.clone(), problem };
    let id = |name: &str, bytes: &[u8]| match bytes {
        [] => Ok(None),
        bytes => {
            Uuid::from_slice(bytes).map(Some).map_err(|error| malformed(format!("{name}: {error}")))
        }
    };
    let eventid = id("eventid", &message.eventid)?;
    let correlationid = id("correlationid", &message.correlationid)?;
    let causationid = id("causationid", &message.causationid)?;
    let time = message.time.map(Timestamp::from_micros);
    if time.is_some_and(|time| !time.has_text()) {
        return Err(malformed("its time has no form as text".to_owned()));
    }
    let no_json = |error: &dyn fmt::Display| malformed(format!("its data is no JSON: {error}"));
    let data = String::from_utf8(message.data).map_err(|error| no_json(&error))?;
    let data = RawValue::from_string(data).map_err(|error| no_json(&error))?;
    Ok(CloudEvent {
        specversion: message.specversion,
        id: message.id,
        source: message.source,
        event_type: message.r#type,
        subject: message.subject,
        time,
        datacontenttype: message.datacontenttype,
        data,
        sequence: message.sequence,
        previous: message.previous,
        partitionkey: message.partitionkey,
        eventid,
        correlationid,
        causationid,
        hops: message.hops,
        via: message.via,
    })
}
