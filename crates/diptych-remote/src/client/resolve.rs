//! Looks for a commit whose answer was lost when its server ended. The new server knows nothing of
//! the old session, and nothing that the old server had not executed will be executed any more. So
//! the log tells whether the commit was made.

use diptych_store::{
    Batch, Filter, Key, Position, Read, ReadError, Timestamp, Tracking, Unavailable,
};
use tokio::time::timeout;

use crate::{
    client::{
        checks::{self, CommitPlace, ReadFacts},
        link::{Link, LogCaller},
        pending::{AppendJob, CommitTrace},
    },
    wire::{
        self,
        messages::{FindKeyRequest, FindTrackingRequest, HeadRequest},
    },
};

/// How many times the time of an answer a search may take.
const LONGEST_SEARCH: u32 = 8;

/// The fate of a commit, as far as the log tells it.
pub(crate) enum Finding {
    /// It was made.
    Made(CommitPlace),
    /// It was not made, or the log refuses it if it is sent again.
    NotMade,
    /// The commit cannot be told from others.
    Unknown,
}

/// Finds out what became of a commit, which was accepted at this place, or not accepted.
pub(crate) async fn fate(
    link: &Link,
    job: &AppendJob,
    place: Option<CommitPlace>,
) -> Result<Finding, ReadError> {
    let Some(place) = place else { return find(link, job).await };
    Ok(match is_kept(link, &job.trace, &place).await? {
        true => Finding::Made(place),
        false => Finding::NotMade,
    })
}

/// Looks for a commit that was not accepted when the connection was lost. A search that takes too
/// long, as in a log that grows faster than it is read, finds nothing.
async fn find(link: &Link, job: &AppendJob) -> Result<Finding, ReadError> {
    let longest = link.options().answer_time * LONGEST_SEARCH;
    timeout(longest, search(link, job)).await.unwrap_or(Ok(Finding::Unknown))
}

async fn search(link: &Link, job: &AppendJob) -> Result<Finding, ReadError> {
    let trace = &job.trace;
    if let Some(key) = &trace.key {
        return find_by_key(link, job, key).await;
    }
    if trace.has_id {
        return find_by_id(link, trace).await;
    }
    let Some(tracking) = &trace.tracking else { return Ok(Finding::Unknown) };
    let found = tracked(link, tracking).await?;
    // The log refuses a place of a source that it has already. Another process may have stored it.
    Ok(match found.is_some_and(|found| found.position >= tracking.position) {
        true => Finding::Unknown,
        false => Finding::NotMade,
    })
}

/// The tracking of the source of this one.
async fn tracked(link: &Link, tracking: &Tracking) -> Result<Option<Tracking>, ReadError> {
    let source = tracking.source.to_string();
    let found = link.ask(|mut log: LogCaller| {
        let request = FindTrackingRequest { source: source.clone(), ..Default::default() };
        async move { log.find_tracking(request).await }
    });
    let found = found.await?.into_inner().tracking;
    found.map(wire::tracking_of).transpose().map_err(|error| unusable(error).into())
}

fn unusable(error: wire::MessageError) -> Unavailable {
    Unavailable::Server { what: error.to_string().into() }
}

/// Whether the accepted commit is in the log.
async fn is_kept(link: &Link, trace: &CommitTrace, place: &CommitPlace) -> Result<bool, ReadError> {
    let Some(first) = &trace.first else {
        // A commit without events has a tracking, or nothing that could be lost.
        let Some(tracking) = &trace.tracking else { return Ok(true) };
        let found = tracked(link, tracking).await?;
        return Ok(found.is_some_and(|found| found.position >= tracking.position));
    };
    let head = link.ask(|mut log: LogCaller| async move {
        log.head(HeadRequest { ..HeadRequest::default() }).await
    });
    if place.last.get() > head.await?.into_inner().head {
        return Ok(false);
    }
    let batch = read(link, &Filter::everything(), one(place.first)).await?;
    let event = batch.get(0).filter(|event| event.position() == place.first);
    Ok(event.is_some_and(|event| {
        event.bytes() == &first[..] && event.recorded_at() == place.recorded_at
    }))
}

async fn find_by_key(link: &Link, job: &AppendJob, key: &Key) -> Result<Finding, ReadError> {
    let name = key.name.to_string();
    let found = link.ask(|mut log: LogCaller| {
        let request = FindKeyRequest { key: name.clone(), ..FindKeyRequest::default() };
        async move { log.find_key(request).await }
    });
    let Some(commit) = found.await?.into_inner().commit else { return Ok(Finding::NotMade) };
    let (first, last) = (Position::new(commit.first), Position::new(commit.last));
    // Another commit is under the key, an older one or one of another process. The log refuses the
    // new one, and tells where the other is.
    let length = last.get().checked_sub(first.before().get());
    if first <= job.trace.after || length != Some(job.trace.events) {
        return Ok(Finding::NotMade);
    }
    Ok(match recorded_at(link, job, first, last).await? {
        Some(recorded_at) => Finding::Made(CommitPlace { first, last, recorded_at }),
        None => Finding::NotMade,
    })
}

/// When the events at these positions were recorded, if they are those of the append.
async fn recorded_at(
    link: &Link,
    job: &AppendJob,
    first: Position,
    last: Position,
) -> Result<Option<Timestamp>, ReadError> {
    let mut sent = job.call.encoded.as_ref().map_or(&[][..], |encoded| &encoded.bytes);
    let (mut after, mut time) = (first.before(), None);
    while after < last {
        let batch = read(link, &Filter::everything(), Read::after(after).upto(last)).await?;
        for event in batch.iter() {
            let Some(rest) = sent.strip_prefix(event.bytes()) else { return Ok(None) };
            (sent, time) = (rest, Some(event.recorded_at()));
        }
        if batch.upto() <= after {
            return Ok(None);
        }
        after = batch.upto();
    }
    Ok(time.filter(|_| sent.is_empty()))
}

/// Reads the events like the first one since the append was asked for.
async fn find_by_id(link: &Link, trace: &CommitTrace) -> Result<Finding, ReadError> {
    let (Some(item), Some(first)) = (trace.item(), &trace.first) else {
        return Ok(Finding::Unknown);
    };
    let filter = Filter::from(item);
    let mut after = trace.after;
    loop {
        let batch = read(link, &filter, Read::after(after)).await?;
        if let Some(event) = batch.iter().find(|event| event.bytes() == &first[..]) {
            let first = event.position();
            let last = first.plus(trace.events.saturating_sub(1));
            let recorded_at = event.recorded_at();
            return Ok(Finding::Made(CommitPlace { first, last, recorded_at }));
        }
        // Nothing was considered, so this is the head.
        if batch.upto() <= after {
            return Ok(Finding::NotMade);
        }
        after = batch.upto();
    }
}

fn one(position: Position) -> Read {
    Read::after(position.before()).upto(position).limit(1)
}

async fn read(link: &Link, filter: &Filter, read: Read) -> Result<Batch, ReadError> {
    let request = wire::read_request(filter, &read, 1);
    let reply = link.ask(|mut log: LogCaller| {
        let request = request.clone();
        async move {
            let message = log.read(request).await?.into_inner().message().await?;
            message.ok_or_else(|| tonic::Status::unavailable("a read ended without an answer"))
        }
    });
    let reply = reply.await?;
    let contradiction = |error| link.contradiction(&error);
    let head = checks::head(reply.head).map_err(contradiction)?;
    let batch = wire::batch_of(reply).map_err(unusable)?;
    let facts = ReadFacts { filter, read: &read, known: Position::START, head };
    facts.check(&batch).map_err(contradiction)?;
    Ok(batch)
}
