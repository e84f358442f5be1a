//! Follows the log of a server, also over the time when the server is away.
//!
//! The store connects again by itself. While nothing new comes, it is asked for a sign of life, so
//! that the user is told about a server that is away.

use std::{pin::pin, time::Duration};

use diptych_store::{Filter, Position, Read, ReadError, Store, Unavailable};
use tokio::{runtime::Builder, sync::watch::Receiver, time::timeout};

use crate::{
    address::RemoteLog,
    exit::{Exit, Failure},
    read,
    signal::{on_signal, stopped},
    tail::{BATCH, say, say_waiting},
};

/// Time between two questions to a server that sends nothing.
const QUIET: Duration = Duration::from_secs(1);
/// A server without an answer for this time is reported as away.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause before a server is asked again that could not be reached.
const AGAIN: Duration = Duration::from_millis(200);

/// The log of a server, and the position up to which it was printed.
pub(crate) struct ServerTail<'a> {
    pub(crate) log: Store,
    pub(crate) address: &'a RemoteLog,
    pub(crate) filter: &'a Filter,
    pub(crate) upto: Position,
}

impl ServerTail<'_> {
    /// Prints events up to the head, then new ones, until the program is interrupted.
    pub(crate) fn follow(mut self) -> Result<(), Failure> {
        let stop = on_signal()?;
        let runtime = Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(|error| {
            Failure::new(Exit::Failed, format!("cannot wait for the server: {error}"))
        })?;
        runtime.block_on(self.print_until(stop))
    }

    async fn print_until(&mut self, stop: Receiver<bool>) -> Result<(), Failure> {
        let mut stop = pin!(stopped(stop));
        let mut waited = false;
        loop {
            tokio::select! {
                printed = self.print_new() => printed?,
                () = &mut stop => return Ok(()),
            }
            if !waited {
                say_waiting(self.upto);
                waited = true;
            }
        }
    }

    /// Waits until there is something to consider, and prints what matches.
    async fn print_new(&mut self) -> Result<(), Failure> {
        let head = self.head_after(self.upto).await?;
        while self.upto < head {
            let read = Read::after(self.upto).upto(head).limit(BATCH);
            let batch = self.answer(|| self.log.read(self.filter, read.clone())).await?;
            read::print_batch(&batch)?;
            self.upto = batch.upto();
        }
        Ok(())
    }

    /// The head, once it is above this position.
    async fn head_after(&self, position: Position) -> Result<Position, Failure> {
        let head = self.log.head();
        loop {
            match timeout(QUIET, head.after(position)).await {
                Ok(moved) => return Ok(moved.map_err(ReadError::from)?),
                Err(_) => {
                    self.answer(|| self.log.known_head()).await?;
                }
            }
        }
    }

    /// Asks the server until it answers, however long that takes.
    async fn answer<T>(&self, ask: impl AsyncFn() -> Result<T, ReadError>) -> Result<T, Failure> {
        let mut is_away = false;
        loop {
            let mut asked = pin!(ask());
            let answer = match timeout(PATIENCE, &mut asked).await {
                Ok(answer) => answer,
                Err(_) => {
                    self.say_away(&mut is_away);
                    asked.await
                }
            };
            match answer {
                Err(ReadError::Unavailable(Unavailable::Backend(_))) => {
                    self.say_away(&mut is_away);
                    tokio::time::sleep(AGAIN).await;
                }
                answer => {
                    if is_away {
                        say(&format!("({} answers again)", self.address));
                    }
                    return Ok(answer?);
                }
            }
        }
    }

    fn say_away(&self, is_away: &mut bool) {
        if !std::mem::replace(is_away, true) {
            say(&format!(
                "({} does not answer; after position {} the output goes on once it does)",
                self.address, self.upto
            ));
        }
    }
}
