//! Answers calls about a log.

use std::{pin::Pin, sync::Arc, time::Duration};

use diptych::store::{
    Append, CommitBatch, EventChecksum, Filter, HistoryChanged, LogIdentity, Position, ReadCommits,
    ReadError, Store, Tag, Unavailable,
};
use diptych_remote::wire::{
    self, EncodedReply, FailureCause,
    messages::{
        AppendReply, AppendRequest, Call, ChecksumReply, ChecksumRequest, Committed, CountReply,
        CountRequest, DescribeRequest, Description, FindKeyReply, FindKeyRequest,
        FindTrackingReply, FindTrackingRequest, HeadReply, HeadRequest, LastReply, LastRequest,
        ReadCommitsReply, ReadCommitsRequest, ReadRequest, SubscribeRequest, TypesReply,
        TypesRequest, WatchRequest, log_server,
    },
};
use futures_util::Stream;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use crate::{
    door::{entrance::RequestPermit, stop::Stop},
    hinge::{
        append_bytes::AppendBytes,
        append_times::AppendTimes,
        appends::AppendStream,
        live::LiveFeeds,
        sessions::Sessions,
        streams::{self, HeadWatch, LogFollower, MessageSize},
    },
};

/// Messages of a stream that wait for the client to read them.
const WAITING_MESSAGES: usize = 2;
/// The bounds of the time between two signs of life of a stream.
const HEARTBEATS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// A stream of messages to a client.
pub(crate) type MessageStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The log of a store.
pub(crate) struct LogService {
    store: Store,
    name: String,
    /// The running server. It tells clients that their sessions are gone.
    instance: Uuid,
    sessions: Arc<Sessions>,
    feeds: Arc<LiveFeeds>,
    append_bytes: Arc<AppendBytes>,
    times: AppendTimes,
    stop: Stop,
}

impl LogService {
    pub(crate) fn new(
        store: Store,
        name: String,
        append_bytes: AppendBytes,
        times: AppendTimes,
        stop: Stop,
    ) -> LogService {
        let (instance, sessions) = (Uuid::new_v4(), Arc::new(Sessions::default()));
        let (feeds, append_bytes) = (Arc::default(), Arc::new(append_bytes));
        LogService { store, name, instance, sessions, feeds, append_bytes, times, stop }
    }

    /// The request, if it is for this log and its present history.
    fn enter<T>(&self, request: Request<T>) -> Result<T, Status> {
        let metadata = request.metadata();
        if let Some(name) = metadata.get(wire::LOG_HEADER)
            && name.as_bytes() != self.name.as_bytes()
        {
            return Err(Status::not_found(format!("the log of this server is {:?}", self.name)));
        }
        if let Some(history) = metadata.get(wire::HISTORY_HEADER) {
            let known = history.to_str().ok().and_then(wire::history_of_header);
            let known = known.ok_or_else(|| {
                Status::invalid_argument("the history of the log is an id and an epoch")
            })?;
            self.check_history(known)?;
        }
        Ok(request.into_inner())
    }

    /// Refuses a client that works with another history.
    pub(crate) fn check_history(&self, was: LogIdentity) -> Result<(), Status> {
        let is = self.store.identity();
        match is == was {
            true => Ok(()),
            false => Err(self.failed(&Unavailable::HistoryChanged(HistoryChanged { was, is }))),
        }
    }

    fn failed(&self, cause: &impl FailureCause) -> Status {
        wire::status(&wire::failure_of(cause, self.store.head().position()))
    }

    fn head(&self) -> u64 {
        self.store.head().position().get()
    }

    fn filter(&self, filter: Option<wire::messages::Filter>) -> Result<Filter, Status> {
        wire::filter_of(filter, &self.store.limits()).map_err(|error| self.failed(&error))
    }

    fn read_failed(&self, error: ReadError) -> Status {
        self.failed(&error)
    }
}

/// A time between two signs of life that the server can keep.
fn heartbeat(wish_ms: u32) -> Duration {
    let wish = match wish_ms {
        0 => HEARTBEATS.1,
        wish_ms => Duration::from_millis(u64::from(wish_ms)),
    };
    wish.clamp(HEARTBEATS.0, HEARTBEATS.1)
}

fn upto(upto: Option<u64>) -> Position {
    upto.map_or(Position::MAX, Position::new)
}

#[tonic::async_trait]
impl log_server::Log for LogService {
    type WatchStream = MessageStream<HeadReply>;
    type AppendStream = MessageStream<AppendReply>;
    type ReadStream = MessageStream<EncodedReply>;
    type ReadCommitsStream = MessageStream<ReadCommitsReply>;
    type SubscribeStream = MessageStream<EncodedReply>;

    async fn describe(
        &self,
        request: Request<DescribeRequest>,
    ) -> Result<Response<Description>, Status> {
        self.enter(request)?;
        Ok(Response::new(Description {
            identity: Some(wire::identity_message(self.store.identity())),
            limits: Some(wire::limits_message(&self.store.limits())),
            head: self.head(),
            instance: self.instance.as_bytes().to_vec(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Description::default()
        }))
    }

    async fn head(&self, request: Request<HeadRequest>) -> Result<Response<HeadReply>, Status> {
        self.enter(request)?;
        self.store.fresh_head().await.map_err(|error| self.read_failed(error))?;
        Ok(Response::new(streams::head_reply(&self.store)))
    }

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let WatchRequest { heartbeat_ms, .. } = self.enter(request)?;
        let watch = HeadWatch::new(self.store.clone(), heartbeat(heartbeat_ms), self.stop.clone());
        Ok(Response::new(Box::pin(watch.into_stream())))
    }

    async fn append(
        &self,
        request: Request<Streaming<AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let requests = self.enter(request)?;
        let (replies, waiting) = mpsc::channel(WAITING_MESSAGES);
        let stream = AppendStream {
            // A stream does not go on in another history.
            store: self.store.pinned(),
            sessions: self.sessions.clone(),
            instance: self.instance,
            bytes: self.append_bytes.clone(),
            times: self.times,
            stop: self.stop.clone(),
        };
        // A client that goes away does not end the appends that were read.
        tokio::spawn(stream.run(requests, replies));
        Ok(Response::new(Box::pin(streams::received(waiting))))
    }

    async fn commit(&self, request: Request<Call>) -> Result<Response<Committed>, Status> {
        let place = request.extensions().get::<RequestPermit>().cloned();
        let call = self.enter(request)?;
        let held = self.append_bytes.hold(&call);
        let append = wire::append_of(call, &self.store.limits());
        let append: Append = append.map_err(|error| self.failed(&error))?;
        self.times.check(&append).map_err(|error| self.failed(&error))?;
        let (store, stop) = (self.store.clone(), self.stop.clone());
        // A client that goes away does not leave the commit half way.
        let committed = tokio::spawn(async move {
            let _held = (held, place);
            let commit = async {
                let accepted = store.append(append).await?;
                let recorded_at = accepted.recorded_at;
                Ok((accepted.synced().await?, recorded_at))
            };
            stop.fenced(commit).await
        });
        let committed: Option<Result<_, diptych::store::AppendError>> =
            committed.await.map_err(|_| Status::aborted("the append was cut off"))?;
        let committed = committed.ok_or_else(|| Status::aborted("the server has ended"))?;
        let (commit, recorded_at) = committed.map_err(|error| self.failed(&error))?;
        Ok(Response::new(Committed {
            first: commit.first.get(),
            last: commit.last.get(),
            recorded_at: recorded_at.as_micros(),
            head: self.head(),
            ..Committed::default()
        }))
    }

    async fn read(
        &self,
        request: Request<ReadRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let request = self.enter(request)?;
        let filter = self.filter(request.filter.clone())?;
        // The messages of one read are of one history.
        let read = streams::LogRead::new(self.store.pinned(), filter, &request);
        // The first batch is read now, so that a wrong request is the answer of the call.
        let (first, rest) = read.next().await.map_err(|error| self.read_failed(error))?;
        Ok(Response::new(Box::pin(streams::batches(first, rest))))
    }

    async fn read_commits(
        &self,
        request: Request<ReadCommitsRequest>,
    ) -> Result<Response<Self::ReadCommitsStream>, Status> {
        let request = self.enter(request)?;
        let limit = request.limit_events.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let read =
            ReadCommits { after: request.after.into(), limit_events: limit.unwrap_or(usize::MAX) };
        let first = self.store.commits(read.clone()).await;
        let first: CommitBatch = first.map_err(|error| self.read_failed(error))?;
        let stream = streams::commit_batches(self.store.clone(), first, read, &request);
        Ok(Response::new(Box::pin(stream)))
    }

    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let request = self.enter(request)?;
        let filter = self.filter(request.filter)?;
        let follower = LogFollower {
            store: self.store.pinned(),
            feeds: self.feeds.clone(),
            filter,
            after: request.after.into(),
            heartbeat: heartbeat(request.heartbeat_ms),
            as_messages: request.as_messages,
            stop: self.stop.clone(),
            is_live: false,
            member: None,
            size: MessageSize::default(),
        };
        Ok(Response::new(Box::pin(follower.into_stream())))
    }

    async fn last(&self, request: Request<LastRequest>) -> Result<Response<LastReply>, Status> {
        let LastRequest { filter, upto: bound, .. } = self.enter(request)?;
        let filter = self.filter(filter)?;
        let found = self.store.last(&filter, upto(bound)).await;
        let position = found.map_err(|error| self.read_failed(error))?.map(Position::get);
        Ok(Response::new(LastReply { position, head: self.head(), ..LastReply::default() }))
    }

    async fn count(&self, request: Request<CountRequest>) -> Result<Response<CountReply>, Status> {
        let CountRequest { tag, upto: bound, .. } = self.enter(request)?;
        let tag = Tag::parse(&tag).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let count = self.store.count(&tag, upto(bound)).await;
        let count = count.map_err(|error| self.read_failed(error))?;
        Ok(Response::new(CountReply { count, head: self.head(), ..CountReply::default() }))
    }

    async fn find_key(
        &self,
        request: Request<FindKeyRequest>,
    ) -> Result<Response<FindKeyReply>, Status> {
        let FindKeyRequest { key, .. } = self.enter(request)?;
        let found = self.store.keyed(&key).await.map_err(|error| self.read_failed(error))?;
        let commit = found.map(wire::keyed_commit_message);
        Ok(Response::new(FindKeyReply { commit, head: self.head(), ..FindKeyReply::default() }))
    }

    async fn find_tracking(
        &self,
        request: Request<FindTrackingRequest>,
    ) -> Result<Response<FindTrackingReply>, Status> {
        let FindTrackingRequest { source, .. } = self.enter(request)?;
        let found = self.store.tracked(&source).await.map_err(|error| self.read_failed(error))?;
        let tracking = found.as_ref().map(wire::tracking_message);
        Ok(Response::new(FindTrackingReply {
            tracking,
            head: self.head(),
            ..FindTrackingReply::default()
        }))
    }

    async fn checksum(
        &self,
        request: Request<ChecksumRequest>,
    ) -> Result<Response<ChecksumReply>, Status> {
        let ChecksumRequest { position, .. } = self.enter(request)?;
        let found = self.store.checksum(position.into()).await;
        let found = found.map_err(|error| self.read_failed(error))?;
        let checksum = found.map(EventChecksum::to_u64);
        Ok(Response::new(ChecksumReply { checksum, head: self.head(), ..ChecksumReply::default() }))
    }

    async fn types(&self, request: Request<TypesRequest>) -> Result<Response<TypesReply>, Status> {
        self.enter(request)?;
        let types = self.store.types().await.map_err(|error| self.read_failed(error))?;
        Ok(Response::new(TypesReply { types, head: self.head(), ..TypesReply::default() }))
    }
}
