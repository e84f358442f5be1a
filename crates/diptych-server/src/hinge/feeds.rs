//! Answers calls about feeds.

use std::{sync::Arc, time::Duration};

use diptych::{
    Position, Uuid,
    collaboration::{
        CloudEvent, EventPlace, FeedCursor, FeedError, FeedHandle, FeedPage, FeedRead,
    },
    store::InvalidRequest,
};
use diptych_remote::wire::{
    self,
    messages::{
        FeedEvent, FeedPageReply, FeedPageRequest, FeedPlace, feed_page_request::After,
        feeds_server,
    },
};
use tokio::time::timeout;
use tonic::{Request, Response, Status};

use crate::{
    door::{
        entrance::{Door, RequestPermit, peer_of},
        limits::MOST_EVENTS,
        problem::Problem,
    },
    hinge::{
        admission::{Gate, Need, Revocation},
        calls::{busy, refused},
        held::CallPlace,
    },
};

/// The feeds of a server.
pub(crate) struct FeedService {
    feeds: Vec<FeedHandle>,
    door: Arc<Door>,
    gate: Gate,
}

impl FeedService {
    pub(crate) fn new(feeds: Vec<FeedHandle>, door: Arc<Door>, gate: Gate) -> FeedService {
        FeedService { feeds, door, gate }
    }

    fn feed(&self, name: &str) -> Result<&FeedHandle, Status> {
        self.feeds.iter().find(|feed| feed.name() == name).ok_or_else(|| {
            let known: Vec<&str> = self.feeds.iter().map(FeedHandle::name).collect();
            Status::not_found(match known.is_empty() {
                true => format!("there is no feed {name:?}: the server offers none"),
                false => format!("there is no feed {name:?}"),
            })
        })
    }

    /// The page, once there is an event or the wait is over. It waits no longer than the server
    /// runs and the token is valid.
    async fn read(
        &self,
        feed: &FeedHandle,
        read: FeedRead,
        revocation: Option<Revocation>,
    ) -> Result<FeedPage, Status> {
        let revoked = async {
            match revocation {
                Some(revocation) => revocation.await,
                None => std::future::pending().await,
            }
        };
        let longest = self.door.limits().answer_time.saturating_add(read.wait);
        let page = tokio::select! {
            page = timeout(longest, feed.page(read)) => page.map_err(|_| {
                Status::deadline_exceeded("the page was not read in time: ask for fewer events")
            })?,
            () = self.door.stop().begun() => feed.page(read.wait(Duration::ZERO)).await,
            () = revoked => return Err(Status::unauthenticated(
                "the token was revoked, or lost the scope of this feed: give another one",
            )),
        };
        page.map_err(failed)
    }
}

#[tonic::async_trait]
impl feeds_server::Feeds for FeedService {
    async fn page(
        &self,
        mut request: Request<FeedPageRequest>,
    ) -> Result<Response<FeedPageReply>, Status> {
        let permit = request.extensions_mut().remove::<RequestPermit>();
        let peer = peer_of(request.extensions());
        let need = Need::Feed(request.get_ref().feed.clone());
        let admitted = self.gate.admit(request.metadata().as_ref(), need);
        let revocation = admitted.map_err(|refusal| {
            self.door.refused(peer, &refusal.reason);
            refused(refusal)
        })?;
        let question = request.into_inner();
        let feed = self.feed(&question.feed)?;
        let read = read_of(&question);
        // A call that waits holds a place among the streams, so that waiting has a bound.
        let place = match (read.wait.is_zero(), permit) {
            (true, permit) => permit.map(CallPlace::Request),
            (false, permit) => {
                let stream = self.door.stream(peer).map_err(busy)?;
                drop(permit);
                Some(CallPlace::stream(stream))
            }
        };
        let page = self.read(feed, read, revocation).await?;
        let mut response = Response::new(reply_of(page));
        if let Some(place) = place {
            response.extensions_mut().insert(place);
        }
        Ok(response)
    }
}

fn read_of(question: &FeedPageRequest) -> FeedRead {
    let after = match question.after {
        None => FeedCursor::Position(Position::START),
        Some(After::Position(after)) => FeedCursor::Position(Position::new(after)),
        Some(After::Event(FeedPlace { position, part })) => {
            FeedCursor::Event(EventPlace { position: Position::new(position), part })
        }
        Some(After::End(_)) => FeedCursor::End,
    };
    let limit = match usize::try_from(question.limit).unwrap_or(usize::MAX) {
        0 => FeedRead::LIMIT,
        limit => limit.min(MOST_EVENTS),
    };
    let wait = Duration::from_millis(question.wait_ms).min(FeedHandle::LONGEST_WAIT);
    FeedRead::after(after).limit(limit).wait(wait)
}

fn reply_of(page: FeedPage) -> FeedPageReply {
    FeedPageReply {
        identity: Some(wire::identity_message(page.log)),
        upto: page.upto.get(),
        head: page.head.get(),
        events: page.events.into_iter().map(message_of).collect(),
        ..FeedPageReply::default()
    }
}

fn message_of(event: CloudEvent) -> FeedEvent {
    let bytes = |id: Option<Uuid>| id.map(|id| id.as_bytes().to_vec()).unwrap_or_default();
    FeedEvent {
        specversion: event.specversion,
        id: event.id,
        source: event.source,
        r#type: event.event_type,
        subject: event.subject,
        time: event.time.map(|time| time.as_micros()),
        datacontenttype: event.datacontenttype,
        data: Box::<str>::from(event.data).into_boxed_bytes().into_vec(),
        sequence: event.sequence,
        previous: event.previous,
        partitionkey: event.partitionkey,
        eventid: bytes(event.eventid),
        correlationid: bytes(event.correlationid),
        causationid: bytes(event.causationid),
        hops: event.hops,
        via: event.via,
    }
}

fn failed(error: FeedError) -> Status {
    match error {
        FeedError::AboveHead { after, head } => {
            let invalid = InvalidRequest::AboveHead { position: after, head };
            wire::status(&wire::failure_of(&invalid, head))
        }
        FeedError::Read(_) | FeedError::Unreachable { .. } => {
            Status::unavailable(error.to_string())
        }
        error => {
            let problem = Problem::mistake("an event of the feed cannot be published", &error);
            Status::internal(problem.detail())
        }
    }
}
