//! Services that are asked for their parts of a flow.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::timeout};
use uuid::Uuid;

use super::{
    joined::{JoinedTrace, ServicePart, join},
    operations::ProcessOperations,
    trace::{Trace, TraceError, TraceOptions, TraceTarget},
};
use crate::request::BoxFuture;

/// A service that tells its part of a flow.
pub trait TraceSource: Send + Sync + 'static {
    /// The part of the flow that its log has. If the target is a correlation, it has every event
    /// with that correlation.
    fn trace(
        &self,
        target: TraceTarget,
        options: TraceOptions,
    ) -> impl Future<Output = Result<Trace, TraceSourceError>> + Send;
}

/// Why a service tells no part of a flow.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceSourceError {
    /// Its log has no event of the flow.
    #[error("{0}")]
    Nothing(String),
    /// It does not answer, or refuses.
    #[error("could not be asked: {reason}")]
    Away {
        /// The reason.
        reason: String,
    },
}

impl From<TraceError> for TraceSourceError {
    fn from(error: TraceError) -> TraceSourceError {
        match error {
            TraceError::NoSuchId { .. } | TraceError::NoSuchPosition { .. } => {
                TraceSourceError::Nothing(error.to_string())
            }
            TraceError::Read(_) => TraceSourceError::Away { reason: error.to_string() },
        }
    }
}

impl TraceSource for ProcessOperations {
    async fn trace(
        &self,
        target: TraceTarget,
        options: TraceOptions,
    ) -> Result<Trace, TraceSourceError> {
        Ok(ProcessOperations::trace(self, target, options).await?)
    }
}

/// No service has a flow of this name.
#[derive(Clone, Debug, thiserror::Error)]
#[error("no service has the flow: {}", answers.join("; "))]
#[non_exhaustive]
pub struct NoSuchFlow {
    /// The answer of each service that was asked.
    pub answers: Vec<String>,
}

/// The services of a flow, by name. The whole flow is one tree: an event that an intake made hangs
/// below the event of the other service from which it came.
///
/// A service that is away, or that refuses, is marked in the answer, and the others are joined.
///
/// ```
/// # use diptych::{App, Memory, Position};
/// use diptych::process::{TraceOptions, TraceSources};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let ordering = App::over(Memory::new()).start().await?;
/// # let shipping = App::over(Memory::new()).start().await?;
/// let services = TraceSources::new().with("ordering", ordering).with("shipping", shipping);
/// let flow = services.trace(Position::new(1), TraceOptions::default()).await;
/// assert!(flow.unwrap_err().to_string().contains("ordering: there is no event at position 1"));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct TraceSources {
    sources: Vec<(String, Arc<dyn AnyTraceSource>)>,
    answer_within: Duration,
}

/// A source whose type is erased.
trait AnyTraceSource: Send + Sync {
    fn trace(
        self: Arc<Self>,
        target: TraceTarget,
        options: TraceOptions,
    ) -> BoxFuture<Result<Trace, TraceSourceError>>;
}

impl<S: TraceSource> AnyTraceSource for S {
    fn trace(
        self: Arc<Self>,
        target: TraceTarget,
        options: TraceOptions,
    ) -> BoxFuture<Result<Trace, TraceSourceError>> {
        Box::pin(async move { TraceSource::trace(&*self, target, options).await })
    }
}

impl Default for TraceSources {
    fn default() -> TraceSources {
        TraceSources::new()
    }
}

impl TraceSources {
    /// No service yet.
    pub fn new() -> TraceSources {
        TraceSources { sources: Vec::new(), answer_within: Duration::from_secs(10) }
    }

    /// Adds a service under this name.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, source: impl TraceSource) -> TraceSources {
        self.sources.push((name.into(), Arc::new(source)));
        self
    }

    /// Sets how long each service may take for an answer: 10 seconds by default.
    #[must_use]
    pub fn answer_within(mut self, time: Duration) -> TraceSources {
        self.answer_within = time;
        self
    }

    /// The whole flow. A position is one of the first service. An id is that of an event of any
    /// service, or a correlation.
    ///
    /// Each service searches its log for the correlation, which has no index, within
    /// [`TraceOptions::searched_events`].
    ///
    /// # Errors
    /// [`NoSuchFlow`] if no service that answers knows the flow.
    pub async fn trace(
        &self,
        target: impl Into<TraceTarget>,
        options: TraceOptions,
    ) -> Result<JoinedTrace, NoSuchFlow> {
        let options = TraceOptions { whole_log: true, ..options };
        let target = target.into();
        let asked = match target {
            TraceTarget::Position(_) => self.sources.get(..1).unwrap_or_default(),
            TraceTarget::Id(_) => &self.sources,
        };
        let first = self.ask(asked, target, &options).await;
        let found = first.iter().find_map(|answer| answer.as_ref().ok());
        let Some(correlation) = found.map(|trace| trace.correlation) else {
            let names = asked.iter().map(|(name, _)| name);
            let answers = names.zip(first).filter_map(|(name, answer)| {
                let error = answer.err()?;
                Some(format!("{name}: {error}"))
            });
            return Err(NoSuchFlow { answers: answers.collect() });
        };
        let answers = match target {
            // Every service was asked for the correlation itself.
            TraceTarget::Id(id) if id == correlation => first,
            _ => self.ask(&self.sources, TraceTarget::Id(correlation), &options).await,
        };
        let names = self.sources.iter().map(|(name, _)| name.clone());
        let parts = names.zip(answers.into_iter().map(|answer| part(answer, correlation)));
        Ok(join(correlation, parts.collect(), &options))
    }

    /// Asks services at the same time.
    async fn ask(
        &self,
        sources: &[(String, Arc<dyn AnyTraceSource>)],
        target: TraceTarget,
        options: &TraceOptions,
    ) -> Vec<Result<Trace, TraceSourceError>> {
        let (within, mut asked) = (self.answer_within, JoinSet::new());
        for (number, (_, source)) in sources.iter().enumerate() {
            let answer = source.clone().trace(target, options.clone());
            asked.spawn(async move { (number, timeout(within, answer).await) });
        }
        let gone = || TraceSourceError::Away { reason: "its source panicked".to_owned() };
        let mut answers: Vec<_> = sources.iter().map(|_| Err(gone())).collect();
        while let Some(answered) = asked.join_next().await {
            let Ok((number, answer)) = answered else { continue };
            let late = || TraceSourceError::Away { reason: format!("no answer within {within:?}") };
            if let Some(slot) = answers.get_mut(number) {
                *slot = answer.unwrap_or_else(|_| Err(late()));
            }
        }
        answers
    }
}

fn part(answer: Result<Trace, TraceSourceError>, correlation: Uuid) -> ServicePart {
    match answer {
        Ok(trace) if trace.correlation == correlation => ServicePart::Tree(trace),
        Ok(trace) => ServicePart::Away(format!(
            "it answers with the flow {}, and was asked for {correlation}",
            trace.correlation
        )),
        Err(TraceSourceError::Nothing(_)) => ServicePart::Nothing,
        Err(TraceSourceError::Away { reason }) => ServicePart::Away(reason),
    }
}

impl fmt::Debug for TraceSources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.sources.iter().map(|(name, _)| name);
        f.debug_list().entries(names).finish()
    }
}
