//! The declarations of an app: its catalogue, its events, and the followers that it starts.

mod flows;

use super::{App, AppBuilder};
use crate::{
    catalogue::{AppCatalogue, Catalogue},
    collaboration::{
        Feed, FeedHandle, FeedSource, Intake, IntakeControl, IntakeOperations, IntakeOptions,
        IntakeStart,
    },
    command::panel::LeftPanel,
    event::Event,
    follow::Refresh,
    process::{
        AskError, CallsFrom, Gateway, GatewayOptions, GatewayStatus, NoSuchProcess, OutsideAnswer,
        Process, ProcessControl, ProcessOperations, ProcessOptions, ProcessPlans, ProcessPreview,
        ProcessStart, ProcessStartError, ProcessStatus, ask, preview,
    },
    projection::Target,
    query::Candidate,
    view::{View, ViewOptions},
};

impl App {
    /// The [catalogue](crate::catalogue) of this app: commands and queries by name, and all entries
    /// as data.
    pub fn catalogue(&self) -> AppCatalogue {
        AppCatalogue::new(self.catalogue.clone(), self.left.clone(), self.right.clone())
    }

    /// A handle on a process: its status and its parked letters.
    ///
    /// # Errors
    /// [`NoSuchProcess`] if the app does not run it.
    pub fn process(&self, name: &str) -> Result<ProcessControl, NoSuchProcess> {
        self.processes.control(name)
    }

    /// The processes of the log for operators: letters, calls, timers and instances, also of
    /// processes that this app does not run.
    pub fn process_operations(&self) -> ProcessOperations {
        let gateways = self.processes.gateways().clone();
        ProcessOperations::of_app(self.store().clone(), gateways)
    }

    /// The intakes of the log for operators: their places and parked events, also of intakes that
    /// this app does not run.
    pub fn intake_operations(&self) -> IntakeOperations {
        IntakeOperations::over(self.store().clone())
    }

    /// The status of each process, in the order in which they were added.
    pub fn processes(&self) -> Vec<ProcessStatus> {
        self.processes.status()
    }

    /// The status of each gateway in this program, in the order in which they were added.
    pub fn gateways(&self) -> Vec<GatewayStatus> {
        self.processes.gateways().status()
    }

    /// Asks a gateway for an answer that a decision needs, such as a rate of today. Give the answer
    /// to the command as data.
    ///
    /// The answer is in the log before this returns, under a key of the caller, such as the key of
    /// the command. So a repetition with this key gets the recorded answer, also after a restart
    /// and in another program, and nothing is asked again. It is asked once, and the policy of the
    /// gateway repeats nothing. A kill between the answer and its record asks again, so this is for
    /// questions that have no effect outside.
    ///
    /// # Errors
    /// [`AskError`] if there is no answer, or the key has the answer to another question.
    pub async fn ask<G: Gateway>(
        &self,
        gateway: &str,
        question: &G::Call,
        key: &str,
    ) -> Result<OutsideAnswer<G::Answer>, AskError> {
        ask::<G>(&self.left.store, self.processes.gateways(), gateway, question, key).await
    }

    /// The calls and commands that a process would ask for if this app ran it from `start`. The
    /// process reacts to the events of the log in memory, and nothing is sent or stored. It lists
    /// the first `most` calls, and counts all. Use it before a process, or a gateway, is started
    /// over old events.
    ///
    /// # Errors
    /// [`ProcessStartError`] if the process does not fit the log.
    pub async fn preview_process<P: Process>(
        &self,
        start: ProcessStart,
        most: usize,
    ) -> Result<ProcessPreview, ProcessStartError> {
        let LeftPanel { store, schema, clock, .. } = &*self.left;
        preview::<P>(schema, store, clock, self.processes.gateways(), start, most).await
    }

    /// The feed of this name.
    pub fn feed(&self, name: &str) -> Option<FeedHandle> {
        self.feeds().iter().find(|feed| feed.name() == name).cloned()
    }

    /// All [feeds](crate::collaboration::Feed), in the order in which they were added.
    pub fn feeds(&self) -> &[FeedHandle] {
        self.collaboration.feeds()
    }

    /// The intake of this name: its status and its parked events.
    pub fn intake(&self, name: &str) -> Option<IntakeControl> {
        self.intakes().iter().find(|intake| intake.name() == name).cloned()
    }

    /// All [intakes](crate::collaboration::Intake), in the order in which they were added.
    pub fn intakes(&self) -> &[IntakeControl] {
        self.collaboration.intakes()
    }
}

impl AppBuilder {
    /// Adds the declarations of a [catalogue](crate::catalogue): the app keeps its views, runs its
    /// projections, knows its events, and carries out its commands and queries by name. If it is
    /// called several times, the catalogues are joined.
    pub fn catalogue<S>(mut self, catalogue: Catalogue<S>) -> AppBuilder {
        self.declared.append(catalogue.into_declarations());
        self
    }

    /// Keeps this fold up to date in memory, so that [queries](App::query) are answered from it.
    pub fn view<V: View>(self) -> AppBuilder {
        self.view_with::<V>(ViewOptions::default())
    }

    /// Like [`view`](AppBuilder::view), with options.
    pub fn view_with<V: View>(mut self, options: ViewOptions) -> AppBuilder {
        self.declared.add_view::<V>(options);
        self
    }

    /// Builds a view beside the view that queries name, compares it with that, and puts it in its
    /// place: by itself, or by a command ([`switch`](crate::follow::FollowerControl::switch)) to
    /// the [view](App::view) `N`. Until then, the queries of `V` are answered by `V`. The start of
    /// the app does not wait for the candidate.
    ///
    /// The candidate never passes the view, so that both are compared and switched at an equal
    /// position, and no answer goes back. After the switch the view follows on, for a switch back,
    /// until [`drop_version(1)`](crate::follow::FollowerControl::drop_version). The switch is in
    /// memory: the next start begins with `V` again. Questions about the past are answered by the
    /// fold of `V`.
    ///
    /// ```
    /// use diptych::{App, Event, Fold, Memory, Recorded, follow::SwitchPolicy, query::Candidate};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Event, Serialize, Deserialize)]
    /// #[event("sold")]
    /// struct Sold {
    ///     cents: u64,
    /// }
    ///
    /// #[derive(Clone, Default, Serialize)]
    /// struct Takings(u64);
    ///
    /// impl Fold for Takings {
    ///     type Event = Sold;
    ///
    ///     fn apply(&mut self, sold: &Recorded<Sold>) {
    ///         self.0 += sold.cents;
    ///     }
    /// }
    ///
    /// /// The next version, which also counts.
    /// #[derive(Clone, Default)]
    /// struct CountedTakings {
    ///     takings: Takings,
    ///     sales: u64,
    /// }
    ///
    /// impl Fold for CountedTakings {
    ///     type Event = Sold;
    ///
    ///     fn apply(&mut self, sold: &Recorded<Sold>) {
    ///         self.takings.apply(sold);
    ///         self.sales += 1;
    ///     }
    /// }
    ///
    /// impl AsRef<Takings> for CountedTakings {
    ///     fn as_ref(&self) -> &Takings {
    ///         &self.takings
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let candidate = Candidate::<Takings, CountedTakings>::new(SwitchPolicy::Automatic);
    /// let app = App::over(Memory::new())
    ///     .view::<Takings>()
    ///     .view_candidate(candidate.by_digest())
    ///     .start()
    ///     .await?;
    /// # Ok(()) }
    /// ```
    pub fn view_candidate<V: View, N: View + AsRef<V>>(
        mut self,
        candidate: Candidate<V, N>,
    ) -> AppBuilder {
        self.declared.add_candidate(candidate);
        self
    }

    /// Keeps rows outside the log in step with it. The start of the app does not wait for them.
    pub fn projection(self, target: impl Target) -> AppBuilder {
        self.projection_with(target, Refresh::Live)
    }

    /// Like [`projection`](AppBuilder::projection), with a choice of when to apply new events.
    pub fn projection_with<T: Target>(mut self, target: T, refresh: Refresh) -> AppBuilder {
        self.declared.add_projection(target, refresh);
        self
    }

    /// Runs this [process](crate::process). `start` tells where it begins if the log does not know
    /// it yet. The start of the app does not wait until the process has caught up.
    ///
    /// If the log knows a process with the same events and the same tag that this app does not run,
    /// the start is refused: a renamed process would have its effects again. Then either
    /// [name](ProcessOptions::renamed_from) the former name, or
    /// [retire](AppBuilder::retired_process) the other process.
    pub fn process<P: Process>(self, start: ProcessStart) -> AppBuilder {
        self.process_with::<P>(start, ProcessOptions::default())
    }

    /// Like [`process`](AppBuilder::process), with options.
    pub fn process_with<P: Process>(
        mut self,
        start: ProcessStart,
        options: ProcessOptions,
    ) -> AppBuilder {
        self.declared.add_process::<P>(start, options);
        self
    }

    /// Adds a [gateway](crate::process::Gateway), which processes call by this name. `from` tells
    /// which calls it sends: a process that catches up with old events also asks for old calls.
    pub fn gateway<G: Gateway>(
        mut self,
        name: impl Into<String>,
        gateway: G,
        from: CallsFrom,
        options: GatewayOptions,
    ) -> AppBuilder {
        self.declared.add_gateway(name.into(), gateway, from, options);
        self
    }

    /// Publishes this [feed](crate::collaboration::Feed). Other programs read it by
    /// [`App::feed`].
    pub fn feed<F: Feed>(mut self) -> AppBuilder {
        self.declared.add_feed::<F>();
        self
    }

    /// Takes in the feed of another service by this [intake](crate::collaboration::Intake). `start`
    /// tells where it begins if the log does not know it yet. The start of the app does not wait
    /// for the source.
    pub fn intake<I: Intake>(self, source: impl FeedSource, start: IntakeStart) -> AppBuilder {
        self.intake_with::<I>(source, start, IntakeOptions::default())
    }

    /// Like [`intake`](AppBuilder::intake), with options.
    pub fn intake_with<I: Intake>(
        mut self,
        source: impl FeedSource,
        start: IntakeStart,
        options: IntakeOptions,
    ) -> AppBuilder {
        self.declared.add_intake::<I, _>(source, start, options);
        self
    }

    /// Declares that the intake of this name in the log belongs to another program, or is no longer
    /// run. An intake that looks like it may then start under its own name.
    pub fn retired_intake(mut self, name: impl Into<String>) -> AppBuilder {
        self.settings.retired_intakes.push(name.into());
        self
    }

    /// Declares that the process of this name in the log belongs to another program, or is no
    /// longer run. A process that looks like it may then start under its own name.
    pub fn retired_process(mut self, name: impl Into<String>) -> AppBuilder {
        self.settings.retired.push(name.into());
        self
    }

    /// Declares that the app knows the events of `E`. The app knows the events of its views and
    /// projections anyway, so this is for events that only commands read or write.
    ///
    /// When it starts, the app compares its known events with the log:
    ///
    /// - A type in the log that no known event and no upcaster takes causes a warning, or an error
    ///   if the app is [strict](AppBuilder::strict). Most likely the type was renamed or split, and
    ///   the upcaster is missing, so folds do not see its events. An app without known events skips
    ///   this check.
    /// - A stored event that lacks a tag which it would get today is an error
    ///   ([`StartError::MissingTag`](crate::StartError::MissingTag)), because a rule over that tag
    ///   does not see the event. An app that [gives older events the tag](App::retag) starts with
    ///   [`retagging`](AppBuilder::retagging). The check covers each type that has upcasters or a
    ///   version above 1, and reads up to 16 of its events after each of 16 places of the log.
    ///   Events that only commands read, and that are not declared here, are checked when the first
    ///   command asks for them.
    pub fn events<E: Event>(mut self) -> AppBuilder {
        self.declared.know::<E>();
        self
    }

    /// Leaves out everything with an effect outside the process, for a poster.
    pub(crate) fn only_views(mut self) -> AppBuilder {
        self.declared.plans.drop_projections();
        self.declared.processes = ProcessPlans::default();
        self.declared.collaboration.drop_intakes();
        self
    }
}
