//! The catalogue of an application: its commands, queries, events, views, projections and
//! processes, declared once, by stable names. HTTP, command lines and other programs read it.
//!
//! ```
//! use diptych::{
//!     App, Command, DecisionContext, Event, Filter, Fold, Memory, Query, Recorded, Tag,
//!     catalogue::Catalogue,
//! };
//! use serde::{Deserialize, Serialize};
//!
//! /// A seat was taken.
//! #[derive(Event, Serialize, Deserialize)]
//! #[event("seat-taken")]
//! struct Taken {
//!     #[tag]
//!     seat: String,
//! }
//!
//! #[derive(Clone, Default)]
//! struct Seats(u64);
//!
//! impl Fold for Seats {
//!     type Event = Taken;
//!
//!     fn apply(&mut self, _: &Recorded<Taken>) {
//!         self.0 += 1;
//!     }
//! }
//!
//! #[derive(Debug, thiserror::Error, Serialize)]
//! #[error("the seat is taken")]
//! struct IsTaken {}
//!
//! /// Takes a seat.
//! #[derive(Serialize, Deserialize)]
//! struct Take {
//!     seat: String,
//! }
//!
//! impl Command for Take {
//!     type State = Seats;
//!     type Event = Taken;
//!     type Rejection = IsTaken;
//!
//!     fn boundary(&self) -> Filter {
//!         Filter::tag(Tag::new("seat", &self.seat))
//!     }
//!
//!     fn decide(&self, seats: &Seats, _: &DecisionContext) -> Result<Vec<Taken>, IsTaken> {
//!         match seats.0 {
//!             0 => Ok(vec![Taken { seat: self.seat.clone() }]),
//!             _ => Err(IsTaken {}),
//!         }
//!     }
//! }
//!
//! /// How many seats are taken.
//! #[derive(Deserialize)]
//! struct HowMany {}
//!
//! impl Query for HowMany {
//!     type View = Seats;
//!     type Answer = u64;
//!
//!     fn answer(&self, seats: &Seats) -> u64 {
//!         seats.0
//!     }
//! }
//!
//! fn catalogue() -> Catalogue {
//!     Catalogue::new()
//!         .command::<Take>("take-seat")
//!         .live_query::<HowMany>("how-many")
//!         .event::<Taken>()
//!         .view::<Seats>()
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use diptych::{command::ExecuteOptions, query::AskOptions};
//!
//! let app = App::over(Memory::new()).catalogue(catalogue()).start().await?;
//! let take = app.catalogue().command("take-seat").ok_or("no such command")?;
//! let receipt = take.execute(br#"{"seat":"4A"}"#, &ExecuteOptions::default()).await?;
//!
//! let how_many = app.catalogue().query("how-many").ok_or("no such query")?;
//! let options = AskOptions { after: Some(receipt), ..AskOptions::default() };
//! assert_eq!(how_many.ask(b"{}", &options).await?.value.get(), "1");
//! # Ok(()) }
//! ```
//!
//! An app has a catalogue even without such declarations: it lists the views and projections of its
//! builder.
//!
//! # Schemas
//!
//! [`Catalogue::new`] knows names and types. With the feature `schemas`,
//! `Catalogue::with_schemas` has the same methods for types that implement
//! [schemars](https://docs.rs/schemars)' `JsonSchema`: its entries also have schemas, and the doc
//! comments of the types as their descriptions. Views and projections have no schemas.
//!
//! # For other programs
//!
//! A catalogue can be listed before an app is started, and without a log. So the binary of an
//! application can print it as JSON, for tools that know nothing of its types:
//!
//! ```
//! # use diptych::catalogue::Catalogue;
//! # fn catalogue() -> Catalogue { Catalogue::new() }
//! # fn main() -> std::io::Result<()> {
//! if std::env::args().nth(1).as_deref() == Some("catalogue") {
//!     return catalogue().write_json(std::io::stdout());
//! }
//! # Ok(()) }
//! ```

mod command;
mod decode;
mod entries;
mod kind;
mod language;
mod listing;
mod process_commands;
mod query;
mod schemas;

use std::{convert::Infallible, fmt, io, marker::PhantomData, sync::Arc};

use command::CommandEntry;
pub use command::{AnyCommand, JsonRejection, NamedCommand, NamedCommandError};
pub use decode::{DecodeError, decode, decode_json};
pub(crate) use entries::CatalogueEntries;
pub use entries::CatalogueError;
use entries::{EventEntry, FollowerEntry};
pub use kind::EntryKind;
pub use language::{FeedDescription, PublicEventDescription, PublishedLanguage};
pub use listing::{CatalogueEntry, Components, EntryDetail, Listing};
pub(crate) use process_commands::ProcessCommands;
use query::QueryEntry;
pub use query::{
    AnyExplain, AnyPast, AnyQuery, AnyWatch, ExplainOptions, JsonAnswer, NamedQuery,
    NamedQueryError, RawExplanation,
};
#[cfg(feature = "schemas")]
use schemars::JsonSchema;
use schemas::Describe;
pub use schemas::{SCHEMAS, resolved};
use serde::{Serialize, Serializer, de::DeserializeOwned};

use crate::{
    collaboration::{CollaborationPlans, Feed, FeedSource, Intake, IntakeOptions, IntakeStart},
    command::{Command, panel::LeftPanel},
    event::{Declare, Event, EventType, Schema},
    follow::Refresh,
    plans::FollowerPlans,
    process::{
        CallsFrom, Gateway, GatewayEntry, GatewayOptions, Process, ProcessOptions, ProcessPlan,
        ProcessPlans, ProcessStart,
    },
    projection::Target,
    query::{Candidate, Query, RightPanel},
    view::{View, ViewOptions},
};

/// The declarations of an application: its commands, queries, events, views and projections. Give
/// it to [`AppBuilder::catalogue`](crate::AppBuilder::catalogue).
///
/// Names of commands and queries consist of small letters, digits and dashes. Mistakes are reported
/// when the app starts.
#[must_use = "a catalogue does nothing before an app is started with it"]
pub struct Catalogue<S = NamesOnly> {
    declarations: Declarations,
    described: PhantomData<fn() -> S>,
}

/// Marks a [`Catalogue`] whose entries have names and types.
#[derive(Debug)]
pub enum NamesOnly {}

/// Marks a [`Catalogue`] whose entries also have schemas.
#[cfg(feature = "schemas")]
#[derive(Debug)]
pub enum WithSchemas {}

/// Declarations before the start of their app.
#[derive(Default)]
pub(crate) struct Declarations {
    pub(crate) entries: CatalogueEntries,
    /// The views and projections that the app is to start.
    pub(crate) plans: FollowerPlans,
    /// The processes that the app is to start.
    pub(crate) processes: ProcessPlans,
    /// The feeds and intakes that the app is to start.
    pub(crate) collaboration: CollaborationPlans,
    /// The events that the app is to know.
    pub(crate) known: Vec<Declare>,
}

impl Declarations {
    pub(crate) fn add_view<V: View>(&mut self, options: ViewOptions) {
        self.entries.followers.push(FollowerEntry::view::<V>());
        self.plans.add_view::<V>(options);
        self.know::<V::Event>();
    }

    pub(crate) fn add_candidate<V: View, N: View + AsRef<V>>(
        &mut self,
        candidate: Candidate<V, N>,
    ) {
        let (options, rules) = candidate.into_parts();
        self.entries.followers.push(FollowerEntry::view::<N>());
        self.plans.add_candidate::<V, N>(options, rules);
        self.know::<N::Event>();
    }

    pub(crate) fn add_projection<T: Target>(&mut self, target: T, refresh: Refresh) {
        self.entries.followers.push(FollowerEntry::projection(&target));
        self.plans.add_projection(target, refresh);
        self.know::<T::Event>();
    }

    pub(crate) fn add_process<P: Process>(&mut self, start: ProcessStart, options: ProcessOptions) {
        self.entries.followers.push(FollowerEntry::process::<P>());
        self.processes.add(ProcessPlan::new::<P>(start, options));
        self.know::<P::Event>();
    }

    pub(crate) fn add_feed<F: Feed>(&mut self) {
        self.add_described_feed::<F>(Describe::default());
    }

    fn add_described_feed<F: Feed>(&mut self, describe: Describe) {
        self.entries.followers.push(FollowerEntry::feed::<F>(describe));
        self.collaboration.add_feed::<F>();
        self.know::<F::Private>();
    }

    pub(crate) fn add_intake<I: Intake, S: FeedSource>(
        &mut self,
        source: S,
        start: IntakeStart,
        options: IntakeOptions,
    ) {
        self.entries.followers.push(FollowerEntry::intake::<I>());
        self.collaboration.add_intake::<I, S>(source, start, options);
        self.know::<I::Event>();
    }

    pub(crate) fn add_gateway<G: Gateway>(
        &mut self,
        name: String,
        gateway: G,
        from: CallsFrom,
        options: GatewayOptions,
    ) {
        self.entries.gateways.add(GatewayEntry::new(name, gateway, from, options));
    }

    pub(crate) fn know<E: Event>(&mut self) {
        self.known.push(Schema::declared::<E>);
    }

    pub(crate) fn append(&mut self, other: Declarations) {
        let Declarations { entries, plans, processes, collaboration, mut known } = other;
        self.entries.append(entries);
        self.processes.append(processes);
        self.collaboration.append(collaboration);
        self.plans.append(plans);
        self.known.append(&mut known);
    }

    fn add_command<C: Command>(&mut self, entry: CommandEntry) {
        self.entries.commands.push(Arc::new(entry));
        self.know::<C::Event>();
    }

    fn add_query(&mut self, entry: QueryEntry) {
        self.entries.queries.push(Arc::new(entry));
    }

    fn add_event<E: Event>(&mut self, describe: Describe) {
        self.entries.events.push(EventEntry::of::<E>(describe));
        self.know::<E>();
    }
}

impl Catalogue {
    /// A catalogue of names and types, without schemas.
    pub fn new() -> Catalogue {
        Catalogue::empty()
    }

    /// Declares a command under this name (`take-seat`). Its rejection can be written as JSON. The
    /// app knows its events, as those of [`AppBuilder::events`](crate::AppBuilder::events).
    pub fn command<C>(self, name: impl Into<String>) -> Catalogue
    where
        C: Command<Rejection: Serialize> + Serialize + DeserializeOwned,
    {
        let entry = CommandEntry::new::<C>(name.into(), Describe::default());
        self.with(|declarations| declarations.add_command::<C>(entry))
    }

    /// Declares a command that no rule rejects.
    pub fn infallible_command<C>(self, name: impl Into<String>) -> Catalogue
    where
        C: Command<Rejection = Infallible> + Serialize + DeserializeOwned,
    {
        let entry = CommandEntry::infallible::<C>(name.into(), Describe::default());
        self.with(|declarations| declarations.add_command::<C>(entry))
    }

    /// Declares a query under this name (`how-many`).
    pub fn query<Q>(self, name: impl Into<String>) -> Catalogue
    where
        Q: Query<Answer: Serialize> + DeserializeOwned,
    {
        let entry = QueryEntry::new::<Q>(name.into(), Describe::default());
        self.with(|declarations| declarations.add_query(entry))
    }

    /// Declares a query that can also be watched.
    pub fn live_query<Q>(self, name: impl Into<String>) -> Catalogue
    where
        Q: Query<Answer: Serialize + Clone + PartialEq> + DeserializeOwned,
    {
        let entry = QueryEntry::live::<Q>(name.into(), Describe::default());
        self.with(|declarations| declarations.add_query(entry))
    }

    /// Declares an event, with all its types. The app knows it, as those of
    /// [`AppBuilder::events`](crate::AppBuilder::events).
    pub fn event<E: Event>(self) -> Catalogue {
        self.with(|declarations| declarations.add_event::<E>(Describe::default()))
    }

    /// Declares a feed, as [`AppBuilder::feed`](crate::AppBuilder::feed) does.
    pub fn feed<F: Feed>(self) -> Catalogue {
        self.with(Declarations::add_feed::<F>)
    }
}

#[cfg(feature = "schemas")]
impl Catalogue<WithSchemas> {
    /// A catalogue with schemas, and with the doc comments of the types (feature `schemas`).
    pub fn with_schemas() -> Catalogue<WithSchemas> {
        Catalogue::empty()
    }

    /// Declares a command under this name (`take-seat`). Its rejection can be written as JSON. The
    /// app knows its events, as those of [`AppBuilder::events`](crate::AppBuilder::events).
    pub fn command<C>(self, name: impl Into<String>) -> Catalogue<WithSchemas>
    where
        C: Command<Rejection: Serialize + JsonSchema> + Serialize + DeserializeOwned + JsonSchema,
    {
        let entry = CommandEntry::new::<C>(name.into(), Describe::two::<C, C::Rejection>());
        self.with(|declarations| declarations.add_command::<C>(entry))
    }

    /// Declares a command that no rule rejects.
    pub fn infallible_command<C>(self, name: impl Into<String>) -> Catalogue<WithSchemas>
    where
        C: Command<Rejection = Infallible> + Serialize + DeserializeOwned + JsonSchema,
    {
        let entry = CommandEntry::infallible::<C>(name.into(), Describe::one::<C>());
        self.with(|declarations| declarations.add_command::<C>(entry))
    }

    /// Declares a query under this name (`how-many`).
    pub fn query<Q>(self, name: impl Into<String>) -> Catalogue<WithSchemas>
    where
        Q: Query<Answer: Serialize + JsonSchema> + DeserializeOwned + JsonSchema,
    {
        let entry = QueryEntry::new::<Q>(name.into(), Describe::two::<Q, Q::Answer>());
        self.with(|declarations| declarations.add_query(entry))
    }

    /// Declares a query that can also be watched.
    pub fn live_query<Q>(self, name: impl Into<String>) -> Catalogue<WithSchemas>
    where
        Q: Query<Answer: Serialize + JsonSchema + Clone + PartialEq>,
        Q: DeserializeOwned + JsonSchema,
    {
        let entry = QueryEntry::live::<Q>(name.into(), Describe::two::<Q, Q::Answer>());
        self.with(|declarations| declarations.add_query(entry))
    }

    /// Declares an event, with all its types. The app knows it, as those of
    /// [`AppBuilder::events`](crate::AppBuilder::events).
    pub fn event<E: Event + JsonSchema>(self) -> Catalogue<WithSchemas> {
        self.with(|declarations| declarations.add_event::<E>(Describe::event::<E>()))
    }

    /// Declares a feed, as [`AppBuilder::feed`](crate::AppBuilder::feed) does, with the schemas of
    /// its public events. The [language](Catalogue::language) has them.
    pub fn feed<F: Feed<Public: JsonSchema>>(self) -> Catalogue<WithSchemas> {
        let describe = Describe::public_event::<F::Public>();
        self.with(|declarations| declarations.add_described_feed::<F>(describe))
    }
}

impl<S> Catalogue<S> {
    /// Declares a view, which the app keeps up to date in memory. Its name is
    /// [`Fold::NAME`](crate::Fold::NAME), or else the path of its Rust type.
    pub fn view<V: View>(self) -> Catalogue<S> {
        self.view_with::<V>(ViewOptions::default())
    }

    /// Like [`view`](Catalogue::view), with options.
    pub fn view_with<V: View>(self, options: ViewOptions) -> Catalogue<S> {
        self.with(|declarations| declarations.add_view::<V>(options))
    }

    /// Declares a projection, which the app runs.
    pub fn projection(self, target: impl Target) -> Catalogue<S> {
        self.projection_with(target, Refresh::Live)
    }

    /// Like [`projection`](Catalogue::projection), with a choice of when to apply new events.
    pub fn projection_with(self, target: impl Target, refresh: Refresh) -> Catalogue<S> {
        self.with(|declarations| declarations.add_projection(target, refresh))
    }

    /// Declares a process, which the app runs: see
    /// [`AppBuilder::process`](crate::AppBuilder::process).
    pub fn process<P: Process>(self, start: ProcessStart) -> Catalogue<S> {
        self.process_with::<P>(start, ProcessOptions::default())
    }

    /// Like [`process`](Catalogue::process), with options.
    pub fn process_with<P: Process>(
        self,
        start: ProcessStart,
        options: ProcessOptions,
    ) -> Catalogue<S> {
        self.with(|declarations| declarations.add_process::<P>(start, options))
    }

    /// Whether the declarations contradict each other. The start of an app checks this, too.
    ///
    /// # Errors
    /// [`CatalogueError`] with the first mistake.
    pub fn check(&self) -> Result<(), CatalogueError> {
        self.declarations.entries.check()
    }

    /// All entries as data.
    pub fn listing(&self) -> Listing {
        Listing::of(&self.declarations.entries)
    }

    /// The feeds with their public events: what the application tells others.
    pub fn language(&self) -> PublishedLanguage {
        PublishedLanguage::of(&self.declarations.entries)
    }

    /// Writes all entries as JSON, for tools that do not know the types.
    ///
    /// # Errors
    /// An error of the writer.
    pub fn write_json(&self, writer: impl io::Write) -> io::Result<()> {
        write_json(&self.listing(), writer)
    }

    pub(crate) fn into_declarations(self) -> Declarations {
        self.declarations
    }

    fn empty() -> Catalogue<S> {
        Catalogue { declarations: Declarations::default(), described: PhantomData }
    }

    fn with(mut self, change: impl FnOnce(&mut Declarations)) -> Catalogue<S> {
        change(&mut self.declarations);
        self
    }
}

impl Default for Catalogue {
    fn default() -> Catalogue {
        Catalogue::new()
    }
}

impl<S> Serialize for Catalogue<S> {
    fn serialize<T: Serializer>(&self, serializer: T) -> Result<T::Ok, T::Error> {
        self.listing().serialize(serializer)
    }
}

impl<S> fmt::Debug for Catalogue<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.declarations.entries.fmt(f)
    }
}

/// The catalogue of a running app: see [`App::catalogue`](crate::App::catalogue).
#[derive(Clone)]
pub struct AppCatalogue {
    entries: Arc<CatalogueEntries>,
    // As in an app, the right panel is dropped before the left one.
    right: Arc<RightPanel>,
    left: Arc<LeftPanel>,
}

impl AppCatalogue {
    pub(crate) fn new(
        entries: Arc<CatalogueEntries>,
        left: Arc<LeftPanel>,
        right: Arc<RightPanel>,
    ) -> AppCatalogue {
        AppCatalogue { entries, left, right }
    }

    /// The command of this name.
    pub fn command(&self, name: &str) -> Option<NamedCommand> {
        self.commands().find(|command| command.name() == name)
    }

    /// All commands, in the order of their declaration.
    pub fn commands(&self) -> impl Iterator<Item = NamedCommand> + '_ {
        let entries = self.entries.commands.iter().cloned();
        entries.map(|entry| NamedCommand { entry, panel: self.left.clone() })
    }

    /// The query of this name.
    pub fn query(&self, name: &str) -> Option<NamedQuery> {
        self.queries().find(|query| query.name() == name)
    }

    /// All queries, in the order of their declaration.
    pub fn queries(&self) -> impl Iterator<Item = NamedQuery> + '_ {
        let entries = self.entries.queries.iter().cloned();
        entries.map(|entry| NamedQuery { entry, panel: self.right.clone() })
    }

    /// The types of all events, in the order of their declaration.
    pub fn events(&self) -> impl Iterator<Item = EventType> + '_ {
        self.entries.events.iter().flat_map(|entry| (entry.types)())
    }

    /// This catalogue with more commands, queries and events, for a part of a program that adds its
    /// own. The app keeps the catalogue that it was started with.
    ///
    /// # Errors
    /// [`CatalogueError`] if a name is bad or occurs twice, or if there are views or projections,
    /// which a running app does not take.
    pub fn with<S>(&self, more: Catalogue<S>) -> Result<AppCatalogue, CatalogueError> {
        let more = more.into_declarations().entries;
        more.check_followers()?;
        let mut entries = (*self.entries).clone();
        entries.append(more);
        entries.check()?;
        let (left, right) = (self.left.clone(), self.right.clone());
        Ok(AppCatalogue { entries: Arc::new(entries), left, right })
    }

    /// All entries as data. It is made anew each time, with all schemas.
    pub fn listing(&self) -> Listing {
        Listing::of(&self.entries)
    }

    /// The feeds with their public events, as [`Catalogue::language`] has them.
    pub fn language(&self) -> PublishedLanguage {
        PublishedLanguage::of(&self.entries)
    }

    /// Writes all entries as JSON, as [`Catalogue::write_json`] does.
    ///
    /// # Errors
    /// An error of the writer.
    pub fn write_json(&self, writer: impl io::Write) -> io::Result<()> {
        write_json(&self.listing(), writer)
    }
}

impl Serialize for AppCatalogue {
    fn serialize<T: Serializer>(&self, serializer: T) -> Result<T::Ok, T::Error> {
        self.listing().serialize(serializer)
    }
}

impl fmt::Debug for AppCatalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entries.fmt(f)
    }
}

fn write_json(listing: &Listing, mut writer: impl io::Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut writer, listing)?;
    writeln!(writer)
}
