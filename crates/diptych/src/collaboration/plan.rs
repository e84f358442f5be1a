//! Feeds and intakes before the start of their app.

use std::{collections::HashSet, marker::PhantomData, pin::Pin, sync::Arc};

use diptych_store::{
    Append, AppendCondition, AppendError, Filter, FilterItem, Metadata, Position, Read, ReadError,
    Refusal, Store,
};
use tokio::{runtime::Handle, task::JoinSet};

use super::{
    feed::{AnyFeed, Feed, FeedHandle, FeedReader},
    intake::{Intake, IntakeOptions, IntakeStart},
    page::FeedSource,
    runner::IntakeTask,
    services::{Collaboration, IntakeControl},
    shared::IntakeShared,
    status::IntakeStatusCell,
    stored::{STARTED, StartedRecord, decode, record},
    translator::Translator,
};
use crate::event::{Schema, SchemaError};

/// Maximum number of bytes of a name. It stands in tags and in names of tracked sources.
const MOST_NAME_BYTES: usize = 64;

/// Why a feed or an intake cannot be started.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CollaborationError {
    /// A name is not one.
    #[error(
        "{name:?} is no name for a feed or an intake: use at most {MOST_NAME_BYTES} small letters, \
         digits and dashes"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// Two feeds, or two intakes, have one name.
    #[error("there are two feeds or two intakes {name:?}: rename one")]
    Twice {
        /// The name of both.
        name: String,
    },
    /// The log knows an intake that looks like this one under another name. Under the new name it
    /// would take in the same events again.
    #[error(
        "the log does not know the intake {name:?}, and knows {other:?} with the same source and \
         the same public events, which this app does not run; if it was renamed, add \
         `.stored_as({other:?})` to its `IntakeOptions`; if it is another one, keep {other:?} in \
         the app, or say `retired_intake({other:?})`"
    )]
    LooksRenamed {
        /// The name in the program.
        name: String,
        /// The name in the log.
        other: String,
    },
    /// Declarations contradict each other, or events of intakes cannot be read.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The log cannot be read.
    #[error("the intakes of the log cannot be read: {0}")]
    Read(#[from] ReadError),
    /// The start of an intake cannot be stored.
    #[error("the start of the intake {name:?} cannot be stored: {cause}")]
    Append {
        /// The name of the intake.
        name: String,
        /// The error of the store.
        #[source]
        cause: Arc<AppendError>,
    },
    /// An intake needs a tokio runtime with its clock enabled.
    #[error("an intake needs a tokio runtime: start the app on one")]
    NoRuntime,
}

/// The feeds and intakes that an app is to start.
#[derive(Default)]
pub(crate) struct CollaborationPlans {
    feeds: Vec<FeedPlan>,
    intakes: Vec<IntakePlan>,
}

struct FeedPlan {
    name: &'static str,
    open: OpenFeed,
}

type OpenFeed = fn(Store, &Schema) -> Result<Arc<dyn AnyFeed>, SchemaError>;

struct IntakePlan {
    name: &'static str,
    /// The name under which the log keeps the place.
    intake: String,
    starting: Box<dyn StartingIntake>,
}

/// The parts of an app that its intakes use.
pub(crate) struct CollaborationParts<'a> {
    pub(crate) store: &'a Store,
    pub(crate) schema: &'a Schema,
    /// Names of intakes in the log that the app leaves alone.
    pub(crate) retired: &'a [String],
}

trait StartingIntake: Send {
    fn start<'a>(
        self: Box<Self>,
        parts: &'a CollaborationParts<'a>,
        run: &'a [String],
        tasks: &'a mut JoinSet<()>,
    ) -> BoxedIntakeStart<'a>;
}

type BoxedIntakeStart<'a> =
    Pin<Box<dyn Future<Output = Result<Arc<IntakeShared>, CollaborationError>> + Send + 'a>>;

struct TypedIntakePlan<I, S> {
    source: S,
    start: IntakeStart,
    options: IntakeOptions,
    intake: PhantomData<fn() -> I>,
}

impl CollaborationPlans {
    pub(crate) fn add_feed<F: Feed>(&mut self) {
        let open = |store, schema: &Schema| {
            Ok(Arc::new(FeedReader::<F>::new(store, schema)?) as Arc<dyn AnyFeed>)
        };
        self.feeds.push(FeedPlan { name: F::NAME, open });
    }

    pub(crate) fn add_intake<I: Intake, S: FeedSource>(
        &mut self,
        source: S,
        start: IntakeStart,
        options: IntakeOptions,
    ) {
        let intake = options.stored_as.clone().unwrap_or_else(|| I::NAME.to_owned());
        let marker = PhantomData;
        let starting = Box::new(TypedIntakePlan::<I, S> { source, start, options, intake: marker });
        self.intakes.push(IntakePlan { name: I::NAME, intake, starting });
    }

    pub(crate) fn append(&mut self, mut other: CollaborationPlans) {
        self.feeds.append(&mut other.feeds);
        self.intakes.append(&mut other.intakes);
    }

    /// Leaves out whatever writes.
    pub(crate) fn drop_intakes(&mut self) {
        self.intakes.clear();
    }

    /// # Errors
    /// [`CollaborationError`] if a name is not one, or stands there twice.
    pub(crate) fn check(&self) -> Result<(), CollaborationError> {
        check_names(self.feeds.iter().map(|plan| plan.name))?;
        check_names(self.intakes.iter().map(|plan| plan.name))?;
        check_names(self.intakes.iter().map(|plan| plan.intake.as_str()))
    }

    /// Opens the feeds and starts the intakes.
    ///
    /// # Errors
    /// [`CollaborationError`] if one does not fit the log.
    pub(crate) async fn start(
        self,
        parts: &CollaborationParts<'_>,
    ) -> Result<Collaboration, CollaborationError> {
        let feeds = self.feeds.iter().map(|plan| (plan.open)(parts.store.clone(), parts.schema));
        let feeds = feeds.map(|feed| Ok(FeedHandle::new(feed?)));
        let feeds = feeds.collect::<Result<Vec<_>, SchemaError>>()?;
        let mut tasks = JoinSet::new();
        if !self.intakes.is_empty() && Handle::try_current().is_err() {
            return Err(CollaborationError::NoRuntime);
        }
        let run = self.intakes.iter().map(|plan| plan.intake.clone());
        let run: Vec<_> = run.chain(parts.retired.iter().cloned()).collect();
        let mut intakes = Vec::new();
        for plan in self.intakes {
            let shared = plan.starting.start(parts, &run, &mut tasks).await?;
            intakes.push(IntakeControl::new(shared));
        }
        Ok(Collaboration::new(feeds, intakes, tasks))
    }
}

fn check_names<'n>(names: impl Iterator<Item = &'n str> + Clone) -> Result<(), CollaborationError> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_bad = |name: &&str| {
        name.is_empty() || name.len() > MOST_NAME_BYTES || !name.chars().all(is_plain)
    };
    if let Some(name) = names.clone().find(is_bad) {
        return Err(CollaborationError::Name { name: name.to_owned() });
    }
    let mut seen = HashSet::new();
    match names.into_iter().find(|name| !seen.insert(*name)) {
        Some(name) => Err(CollaborationError::Twice { name: name.to_owned() }),
        None => Ok(()),
    }
}

impl<I: Intake, S: FeedSource> StartingIntake for TypedIntakePlan<I, S> {
    fn start<'a>(
        self: Box<Self>,
        parts: &'a CollaborationParts<'a>,
        run: &'a [String],
        tasks: &'a mut JoinSet<()>,
    ) -> BoxedIntakeStart<'a> {
        Box::pin(async move {
            let TypedIntakePlan { source, start, options, .. } = *self;
            super::feed::check_public::<I::Public>()?;
            let intake = options.stored_as.clone().unwrap_or_else(|| I::NAME.to_owned());
            let types = Translator::<I>::types();
            let started = StartedRecord { intake: intake.clone(), types, source: source.name() };
            enrol(parts.store, &started, run).await?;
            let translator = Translator::<I>::new(&options, parts.schema)?;
            let shared = Arc::new(IntakeShared {
                name: I::NAME,
                intake,
                source: source.name(),
                store: parts.store.clone(),
                status: IntakeStatusCell::new(I::NAME),
            });
            let task = IntakeTask::new(shared.clone(), source, translator, start, options);
            tasks.spawn(task.run());
            Ok(shared)
        })
    }
}

/// Adds a new intake to the log.
///
/// # Errors
/// [`CollaborationError`] if it looks like a renamed one, or the log cannot be used.
async fn enrol(
    store: &Store,
    started: &StartedRecord,
    run: &[String],
) -> Result<(), CollaborationError> {
    let all = Filter::from(FilterItem::everything().or_type(STARTED));
    loop {
        let head = store.fresh_head().await?;
        let (mut known, mut upto) = (Vec::<StartedRecord>::new(), Position::START);
        while upto < head {
            let batch = store.read(&all, Read::after(upto).upto(head)).await?;
            for event in batch.iter() {
                known.push(decode(&event)?);
            }
            upto = batch.upto();
        }
        if known.iter().any(|other| other.intake == started.intake) {
            return Ok(());
        }
        let looks = |other: &&StartedRecord| {
            other.types == started.types
                && other.source == started.source
                && !run.contains(&other.intake)
        };
        let name = started.intake.clone();
        if let Some(other) = known.iter().find(looks) {
            let other = other.intake.clone();
            return Err(CollaborationError::LooksRenamed { name, other });
        }
        let event = record(STARTED, &started.intake, started, Metadata::default())?;
        let condition = AppendCondition { fail_if: all.clone(), after: upto };
        let accepted = match store.append(Append::event(event).condition(condition)).await {
            Ok(accepted) => accepted.synced().await.map_err(AppendError::from),
            // Another program added an intake meanwhile.
            Err(AppendError::Refused(Refusal::Conflict { .. })) => continue,
            Err(error) => Err(error),
        };
        let failed = |cause| CollaborationError::Append { name, cause: Arc::new(cause) };
        return accepted.map(drop).map_err(failed);
    }
}
