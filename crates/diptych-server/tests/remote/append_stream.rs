//! A stream of appends as a client in another language has it: the messages themselves.

use diptych_remote::wire::messages::{
    AppendReply, AppendRequest, OpenSession, log_client::LogClient,
};
use tokio::sync::mpsc;
use tonic::{Streaming, transport::Channel};

use crate::door_server::in_time;

/// Opens the session whose id has this byte, with the calls of the first message. The stream ends
/// when the sender is dropped.
pub(crate) async fn open_session(
    log: &mut LogClient<Channel>,
    session: u8,
    first: AppendRequest,
) -> (mpsc::Sender<AppendRequest>, Streaming<AppendReply>) {
    let (requests, waiting) = mpsc::channel(4);
    let open = Some(OpenSession { session: vec![session; 16], identity: None });
    requests.send(AppendRequest { open, ..first }).await.unwrap();
    let messages = futures_util::stream::unfold(waiting, async |mut waiting| {
        let message: AppendRequest = waiting.recv().await?;
        Some((message, waiting))
    });
    let replies = in_time(log.append(messages)).await.unwrap().into_inner();
    (requests, replies)
}
