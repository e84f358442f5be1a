//! Flows of an app: the steps in its log, with the feeds that publish its events.

use std::collections::BTreeSet;

use crate::{
    app::App,
    process::{
        PublishedNote, StepKind, Trace, TraceError, TraceOptions, TraceSource, TraceSourceError,
        TraceTarget,
    },
};

impl App {
    /// The flow that an event belongs to, as a tree: events, reactions, commands, calls and timers.
    /// The target is a position, the id of an event, or a correlation. See
    /// [`ProcessOperations::trace`](crate::process::ProcessOperations::trace) for its cost.
    ///
    /// An event that an [intake](crate::collaboration::Intake) made tells from which feed it came,
    /// and an event that a [feed](crate::collaboration::Feed) of this app publishes tells that. The
    /// whole flow of several services is a trace of
    /// [`TraceSources`](crate::process::TraceSources).
    ///
    /// # Errors
    /// [`TraceError`] if there is no such event, or the log cannot be read.
    pub async fn trace(&self, target: impl Into<TraceTarget>) -> Result<Trace, TraceError> {
        self.trace_with(target, TraceOptions::default()).await
    }

    /// Like [`trace`](App::trace), with other bounds.
    ///
    /// # Errors
    /// [`TraceError`] if there is no such event, or the log cannot be read.
    pub async fn trace_with(
        &self,
        target: impl Into<TraceTarget>,
        options: TraceOptions,
    ) -> Result<Trace, TraceError> {
        let mut trace = self.process_operations().trace(target, options).await?;
        let (feeds, remarks) = (self.feeds(), &mut trace.remarks);
        let mut failed = BTreeSet::new();
        for step in &mut trace.steps {
            let StepKind::Event { position, published, .. } = &mut step.kind else { continue };
            for feed in feeds {
                let made = match feed.made_of(*position).await {
                    Ok(made) => made,
                    // One remark for each feed, although more events may fail.
                    Err(error) => {
                        if failed.insert(feed.name()) {
                            remarks.push(format!(
                                "feed {}: the trace does not tell whether it publishes the event \
                                 at position {position}: {error}",
                                feed.name()
                            ));
                        }
                        continue;
                    }
                };
                published.extend(made.into_iter().map(|(place, event_type)| {
                    PublishedNote::new(feed.name().to_owned(), place.to_string(), event_type)
                }));
            }
        }
        Ok(trace)
    }
}

impl TraceSource for App {
    async fn trace(
        &self,
        target: TraceTarget,
        options: TraceOptions,
    ) -> Result<Trace, TraceSourceError> {
        Ok(self.trace_with(target, options).await?)
    }
}
