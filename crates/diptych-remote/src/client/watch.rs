//! Follows the head of the log.

use std::sync::Arc;

use diptych_store::{Position, Unavailable};
use tokio::time::timeout;
use tonic::Status;

use crate::{
    client::link::{Link, Pauses, Trouble},
    wire::{
        self,
        messages::{HeadReply, WatchRequest},
    },
};

/// Shows each head that the server sends, until the runtime is shut down.
pub(crate) async fn follow(link: Arc<Link>) {
    let mut pauses = Pauses::new();
    loop {
        if follow_once(&link).await {
            pauses = Pauses::new();
        }
        let away = Status::unavailable("the connection to the server of the log was lost");
        link.paused(Some(Unavailable::Backend(Arc::new(away))));
        pauses.wait().await;
    }
}

/// Follows until the connection is lost. Returns whether the server sent anything.
async fn follow_once(link: &Link) -> bool {
    let heartbeat = link.options().heartbeat;
    let heartbeat_ms = u32::try_from(heartbeat.as_millis()).unwrap_or(u32::MAX);
    // The history is not named here: the answer tells which one the server has.
    let (mut log, origin) = link.caller_as(None);
    let opened = log.watch(WatchRequest { heartbeat_ms, ..WatchRequest::default() });
    let mut stream = match timeout(heartbeat, opened).await {
        Ok(Ok(stream)) => stream.into_inner(),
        Ok(Err(status)) => {
            if let Trouble::Final(error) = link.why(status, origin) {
                tracing::warn!(%error, "the head of the remote log cannot be followed");
            }
            return false;
        }
        Err(_) => return false,
    };
    let mut has_answered = false;
    // A heartbeat may be late by half of its time.
    while let Ok(Ok(Some(reply))) = timeout(heartbeat * 3 / 2, stream.message()).await {
        has_answered = true;
        show(link, reply);
    }
    has_answered
}

fn show(link: &Link, reply: HeadReply) {
    let HeadReply { identity, head, paused, .. } = reply;
    let Some(Ok(identity)) = identity.map(wire::identity_of) else { return };
    link.found(identity, Position::new(head));
    let paused = paused.and_then(|paused| wire::unavailable_of(paused, identity).ok());
    link.paused(paused.filter(|paused| !matches!(paused, Unavailable::Closed)));
}
