//! Messages arrive as they were sent, and no message of a peer makes a panic.

use std::{
    future::Future,
    io::{self, ErrorKind},
    pin::pin,
    sync::Arc,
    task::Context,
};

use diptych_store::{
    Append, AppendCondition, AppendError, Corruption, Digest, Epoch, EventStore, Filter,
    HistoryChanged, InvalidRequest, Key, Limits, LogId, LogIdentity, Memory, Metadata, Position,
    RawEvent, Read, ReadCommits, Refusal, SyncError, Tag, Timestamp, Tracking, Unavailable,
};
use proptest::prelude::*;
use prost::Message;
use uuid::Uuid;

use super::{messages::*, *};

/// The answer of a store in memory, which never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut context = Context::from_waker(std::task::Waker::noop());
    match pin!(future).poll(&mut context) {
        std::task::Poll::Ready(answer) => answer,
        std::task::Poll::Pending => panic!("the store waits"),
    }
}

fn identity(number: u8) -> LogIdentity {
    LogIdentity { id: LogId::from_bytes([number; 16]), epoch: Epoch::from_u64(number.into()) }
}

fn event() -> impl Strategy<Value = RawEvent> {
    let id = proptest::option::of(any::<u128>().prop_map(Uuid::from_u128));
    let time = proptest::option::of(-1_000_000_000_i64..4_000_000_000_000_000);
    let payload = proptest::collection::vec(any::<u8>(), 0..40);
    let tags = proptest::collection::vec("[a-c]:[a-z0-9ü]{0,4}", 0..4);
    ("[a-d]{1,3}", 1_u32..5, tags, payload, id, time, proptest::option::of(".{0,5}")).prop_map(
        |(name, version, tags, payload, id, occurred_at, actor)| {
            let mut event = RawEvent::new(name, payload).version(version);
            for tag in tags {
                let tag = Tag::parse(&tag).unwrap();
                if !event.tags.contains(&tag) {
                    event.tags.push(tag);
                }
            }
            event.id = id;
            let extra = [("a".into(), "1".into())].into();
            event.metadata(Metadata {
                occurred_at: occurred_at.map(Timestamp::from_micros),
                correlation: id,
                causation: None,
                actor: actor.map(Into::into),
                extra,
            })
        },
    )
}

fn append() -> impl Strategy<Value = Append> {
    let events = proptest::collection::vec(event(), 1..5);
    let condition = ("[a-d]", "[a-c]:[a-z]", 0_u64..9).prop_map(|(name, tag, after)| {
        let fail_if = Filter::event_type(name).or(Filter::tag(Tag::parse(&tag).unwrap()));
        AppendCondition { fail_if, after: after.into() }
    });
    let conditions = proptest::collection::vec(condition, 0..3);
    let key = proptest::option::of("[a-z]{1,5}");
    let tracking = proptest::option::of(("[a-z]{1,5}", 1_u64..9, any::<bool>()));
    (events, conditions, key, tracking).prop_map(|(events, conditions, key, tracking)| {
        let key = key.map(|name| Key::new(name, Digest::of(b"request")));
        let tracking = tracking.map(|(source, position, has_origin)| {
            let tracking = Tracking::new(source, position);
            if has_origin { tracking.origin(identity(3)) } else { tracking }
        });
        Append { conditions, key, tracking, ..Append::events(events) }
    })
}

/// Sends a message over the wire.
fn over_the_wire<M: Message + Default>(message: &M) -> M {
    M::decode(&*message.encode_to_vec()).unwrap()
}

proptest! {
    #[test]
    fn an_append_arrives_as_it_was_sent(append in append()) {
        let limits = Limits::default();
        let call = over_the_wire(&call_of(&append, 7, &limits).unwrap());
        prop_assert_eq!(call.number, 7);
        prop_assert_eq!(append_of(call, &limits).unwrap(), append);
    }

    #[test]
    fn a_batch_arrives_as_it_was_read(appends in proptest::collection::vec(append(), 1..6)) {
        let memory = filled(appends);
        for read in [Read::all(), Read::backwards(), Read::all().limit(2)] {
            let batch = now(memory.read(&Filter::everything(), read)).unwrap();
            let head = memory.head().position();
            let arrived = batch_of(over_the_wire(&read_reply(&batch, head, false))).unwrap();
            prop_assert_eq!(arrived.upto(), batch.upto());
            prop_assert_eq!(arrived.commit_end(), batch.commit_end());
            let of = |batch: &diptych_store::Batch| -> Vec<_> {
                batch.iter().map(|event| (event.position(), event.recorded_at(), event.to_raw()))
                    .collect()
            };
            prop_assert_eq!(of(&arrived), of(&batch));
            // The readable form has the same content.
            let readable = over_the_wire(&read_reply(&batch, head, true));
            let events = readable.events.into_iter().map(|event| event_of(event.event.unwrap()));
            let events: Result<Vec<_>, _> = events.collect();
            let raw: Vec<_> = batch.iter().map(|event| event.to_raw()).collect();
            prop_assert_eq!(events.unwrap(), raw);
        }
    }

    #[test]
    fn commits_arrive_as_they_were_read(appends in proptest::collection::vec(append(), 1..6)) {
        let memory = filled(appends);
        let batch = now(memory.commits(ReadCommits::after(Position::START))).unwrap();
        let reply = read_commits_reply(&batch, memory.head().position(), false);
        let arrived = commits_of(over_the_wire(&reply)).unwrap();
        let of = |batch: &diptych_store::CommitBatch| -> Vec<_> {
            batch.iter().map(|commit| {
                let events: Vec<_> = commit.events().map(|event| event.to_raw()).collect();
                let facts = (commit.key().cloned(), commit.tracking().cloned());
                (commit.first(), commit.last(), commit.recorded_at(), facts, events)
            }).collect()
        };
        prop_assert_eq!(of(&arrived), of(&batch));
        prop_assert_eq!(arrived.upto(), batch.upto());
    }

    /// Bytes of a peer that lies, or of another protocol.
    #[test]
    fn hostile_messages_are_errors(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let limits = Limits::default();
        if let Ok(call) = Call::decode(&*bytes) {
            let _ = append_of(call, &limits);
        }
        if let Ok(reply) = ReadReply::decode(&*bytes) {
            let _ = batch_of(reply);
        }
        if let Ok(reply) = ReadCommitsReply::decode(&*bytes) {
            let _ = commits_of(reply);
        }
        if let Ok(failure) = Failure::decode(&*bytes) {
            let _ = as_append_error(failure, identity(1));
        }
    }

    /// A right message with a few wrong numbers, which comes further than random bytes.
    #[test]
    fn wrong_numbers_in_a_message_are_errors_or_another_batch(
        append in append(),
        place in any::<usize>(),
        number in any::<u32>(),
        step in any::<i64>(),
    ) {
        let memory = filled(vec![Append::events(append.events)]);
        let batch = now(memory.read(&Filter::everything(), Read::all())).unwrap();
        let reply = read_reply(&batch, Position::new(9), false);
        let mut encoded = reply.encoded.clone().unwrap();
        let place = place % encoded.sizes.len();
        encoded.sizes[place] = number;
        encoded.position_steps[place] = step;
        encoded.time_steps[place] = step;
        let _ = batch_of(ReadReply { encoded: Some(encoded.clone()), ..reply.clone() });
        encoded.time_steps.pop();
        let uneven = batch_of(ReadReply { encoded: Some(encoded), ..reply });
        prop_assert!(uneven.is_err());
    }
}

fn filled(appends: Vec<Append>) -> Memory {
    let memory = Memory::new();
    for append in appends {
        // Conditions, keys and tracking of the appends can refuse each other.
        let _ = now(memory.append(append));
    }
    memory
}

#[test]
fn every_failure_arrives_with_its_words() {
    let (was, position) = (identity(1), Position::new(5));
    let corruption = Corruption { place: "a".into(), what: "b".into(), advice: "c".into() };
    let refusals = [
        Refusal::AlreadyTracked { source_name: "s".into(), tracked: position, at: 7.into() },
        Refusal::OriginChanged {
            source_name: "s".into(),
            stored: Some(identity(2)),
            given: None,
            tracked: position,
            at: 7.into(),
        },
        Refusal::KeyTaken { first: 1.into(), last: 2.into() },
        Refusal::KeyReused { first: 1.into(), last: 2.into() },
        Refusal::Conflict { at: 9.into(), after: position },
    ];
    let failed = Unavailable::Failed { reason: "the disk broke".into() };
    let unavailable = [
        failed.clone(),
        Unavailable::Closed,
        Unavailable::Server { what: "no".into() },
        Unavailable::HistoryChanged(HistoryChanged { was, is: identity(2) }),
    ];
    let invalid = [
        InvalidRequest::AboveHead { position, head: 4.into() },
        InvalidRequest::WithinCommit { position, first: 4.into(), last: 6.into() },
        InvalidRequest::RecordedAt { problem: InvalidRequest::TIME_MISSING },
        InvalidRequest::RecordedAt { problem: InvalidRequest::TIME_NOT_TAKEN },
        InvalidRequest::RecordedAt { problem: InvalidRequest::COPY_UNDER_WAY },
        InvalidRequest::too_many("tracking sources", 3, 2, "tracking_sources"),
        InvalidRequest::too_large("commit", 3, 2, "commit_bytes"),
    ];
    let errors = refusals
        .map(AppendError::Refused)
        .into_iter()
        .chain(unavailable.map(AppendError::Unavailable))
        .chain(invalid.map(AppendError::Invalid))
        .chain([AppendError::Corrupt(corruption), SyncError { cause: failed }.into()]);
    for error in errors {
        let sent = failure_of(&error, position);
        let status = status(&over_the_wire(&sent));
        assert_eq!(status.message(), error.to_string());
        let arrived = from_status(status).unwrap();
        assert_eq!(arrived.head, 5);
        let arrived = as_append_error(arrived, was).unwrap();
        assert_eq!(arrived.to_string(), error.to_string());
        assert_eq!(format!("{arrived:?}"), format!("{error:?}"));
    }
}

/// Once, a full disk of the server was "the store's backend does not answer: …; try again".
#[test]
fn a_full_disk_arrives_with_its_file_operation_and_cause_and_without_folders() {
    let at = Position::new(5);
    let kinds = [
        (ErrorKind::StorageFull, "free space on the file system of the server"),
        (ErrorKind::QuotaExceeded, "raise the quota on the server"),
        (ErrorKind::FileTooLarge, "raise the limit on the size of a file on the server"),
        (ErrorKind::PermissionDenied, "give the server access to its files"),
        (ErrorKind::NotFound, "put the file back on the server"),
        (ErrorKind::ReadOnlyFilesystem, "make the file system of the server writable"),
        (ErrorKind::TimedOut, "find the cause on the server"),
    ];
    for (kind, advice) in kinds {
        let cause = io::Error::new(kind, "the words of /the/system");
        let unavailable = Unavailable::Storage {
            what: "cannot write /srv/secret data/bank/segments/0000001.seg".into(),
            cause: Arc::new(cause),
            advice: "free space on the file system",
        };
        for error in [
            AppendError::Unavailable(unavailable.clone()),
            SyncError { cause: unavailable.clone() }.into(),
        ] {
            let status = status(&over_the_wire(&failure_of(&error, at)));
            let words = status.message().to_owned();
            let arrived = as_append_error(from_status(status).unwrap(), identity(1)).unwrap();
            assert_eq!(arrived.to_string(), words);
            let Some(Unavailable::Storage { what, cause, advice: found }) =
                unavailable_in(&arrived)
            else {
                panic!("{arrived:?}");
            };
            assert!(what.contains("the server of the log cannot write"), "{what}");
            assert!(what.ends_with("0000001.seg") && !what.contains('/'), "{what}");
            let expected = if kind == ErrorKind::TimedOut { ErrorKind::Other } else { kind };
            assert_eq!((cause.kind(), cause.to_string()), (expected, "the words of system".into()));
            assert!(found.contains(advice), "{found}");
        }
    }
}

fn unavailable_in(error: &AppendError) -> Option<&Unavailable> {
    match error {
        AppendError::Unavailable(unavailable) => Some(unavailable),
        AppendError::OutcomeUnknown(SyncError { cause }) => Some(cause),
        _ => None,
    }
}

/// Every limit that a store of this version can name arrives with its name.
#[test]
fn every_limit_has_a_name_on_the_wire() {
    let limits = Limits::default();
    let text = format!("{limits:?}");
    let fields = text.trim_start_matches("Limits {").split(',');
    let names = fields.filter_map(|field| field.split_once(':')).map(|(name, _)| name.trim());
    for name in names.map(str::to_owned) {
        let leaked: &'static str = name.clone().leak();
        let error = AppendError::Invalid(InvalidRequest::too_many("tag", 2, 1, leaked));
        let arrived = as_append_error(failure_of(&error, Position::START), identity(1)).unwrap();
        assert_eq!(arrived.to_string(), error.to_string());
    }
    assert_eq!(limits_of(&limits_message(&limits)), limits);
}
