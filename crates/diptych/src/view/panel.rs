//! The right panel as a whole: all views and projections of an app.

use std::{
    any::{Any, TypeId, type_name},
    collections::HashMap,
    io,
    sync::Arc,
};

use diptych_store::{Filter, Position};
use foldhash::fast::RandomState;

use super::{
    View, ViewOptions,
    copies::{Copies, Live},
    handle::{NoSuchView, Shown, ViewControl, ViewStatus},
    keeps::Keeps,
};
use crate::{
    event::{Reading, Schema, SchemaError},
    fold::kept_name,
    follow::{self, Control, Feed, Progress, Pulse, Refresh},
    lineage::Lineage,
    projection::{self, NoSuchProjection, ProjectionControl, ProjectionStatus},
    snapshot::{Ages, Keeping, Snapshots},
};

/// The views of an app, by their type, and in the order in which they were named; and its
/// projections.
pub(crate) struct Panel {
    views: HashMap<TypeId, Kept, RandomState>,
    order: Vec<TypeId>,
    projections: Vec<Arc<Control>>,
    pulse: Option<Pulse>,
    feed: Arc<Feed>,
}

pub(crate) struct Kept {
    /// An `Arc<Live<V>>`.
    live: Arc<dyn Any + Send + Sync>,
    /// An `Arc<Ages<V>>`.
    ages: Option<Arc<dyn Any + Send + Sync>>,
    pub(crate) control: Arc<Control>,
    /// The same live view, for what needs no type.
    pub(crate) shown: Arc<dyn Shown>,
}

/// A view that is to be kept, before there is a store to read.
pub(crate) trait Planned: Send {
    fn id(&self) -> TypeId;
    fn name(&self) -> &'static str;
    /// Which events it wants.
    fn filter(&self, schema: &Schema) -> Result<Filter, SchemaError>;
    fn start(
        self: Box<Self>,
        feed: &Arc<Feed>,
        schema: &Schema,
        snapshots: &SnapshotPlan,
    ) -> Result<Kept, Unstarted>;
}

/// How and where views are kept outside the log.
#[derive(Default)]
pub(crate) struct SnapshotPlan {
    pub(crate) place: Option<Arc<dyn Snapshots>>,
    /// By the type of the view, with its name: an `Arc<Keeping<V>>` each.
    views: HashMap<TypeId, Snapshotted, RandomState>,
}

struct Snapshotted {
    view: &'static str,
    /// The name that its snapshots are kept under.
    name: &'static str,
    keeping: Arc<dyn Any + Send + Sync>,
    keep: usize,
}

impl SnapshotPlan {
    pub(crate) fn add<V: View>(&mut self, keeping: Keeping<V>, keep: usize) {
        let (view, name, keeping) = (type_name::<V>(), kept_name::<V>(), Arc::new(keeping));
        self.views.insert(TypeId::of::<V>(), Snapshotted { view, name, keeping, keep });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.views.is_empty()
    }

    /// The names that snapshots are kept under.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.views.values().map(|planned| planned.name)
    }

    /// One that is not among these views.
    pub(crate) fn without_view(&self, views: &[Box<dyn Planned>]) -> Option<&'static str> {
        let missing = |id: &TypeId| !views.iter().any(|view| view.id() == *id);
        self.views.iter().find(|(id, _)| missing(id)).map(|(_, planned)| planned.view)
    }

    fn ages<V: View>(
        &self,
        lineage: &Arc<Lineage>,
        reading: &Reading<V::Event>,
    ) -> Option<Arc<Ages<V>>> {
        let Snapshotted { keeping, keep, .. } = self.views.get(&TypeId::of::<V>())?;
        let (place, keeping) = (self.place.clone()?, keeping.clone().downcast().ok()?);
        let (lineage, declared) = (lineage.clone(), reading.declared());
        Some(Arc::new(Ages::new(keeping, *keep, place, lineage, declared)))
    }
}

/// Everything that is to be started.
#[derive(Default)]
pub(crate) struct Plans {
    pub(crate) views: Vec<Box<dyn Planned>>,
    pub(crate) projections: Vec<Box<dyn projection::control::Planned>>,
    pub(crate) snapshots: SnapshotPlan,
}

impl Plans {
    fn filters(&self, schema: &Schema) -> impl Iterator<Item = Result<Filter, SchemaError>> {
        let views = self.views.iter().map(|view| view.filter(schema));
        views.chain(self.projections.iter().map(|projection| projection.filter(schema)))
    }
}

/// Why a view or a projection could not be started.
pub(crate) enum Unstarted {
    Schema(SchemaError),
    Thread(io::Error),
}

pub(crate) struct Plan<V> {
    pub(crate) options: ViewOptions,
    pub(crate) view: std::marker::PhantomData<fn() -> V>,
}

/// How events are read, and which.
type Selected<E> = (Arc<Reading<E>>, Filter);

impl<V: View> Plan<V> {
    pub(crate) fn new(options: ViewOptions) -> Plan<V> {
        Plan { options, view: std::marker::PhantomData }
    }

    fn reading(schema: &Schema) -> Result<Selected<V::Event>, SchemaError> {
        let reading = schema.reading::<V::Event>()?;
        reading.check_current()?;
        let filter = reading.everything();
        Ok((reading, filter))
    }
}

impl<V: View> Planned for Plan<V> {
    fn id(&self) -> TypeId {
        TypeId::of::<V>()
    }

    fn name(&self) -> &'static str {
        type_name::<V>()
    }

    fn filter(&self, schema: &Schema) -> Result<Filter, SchemaError> {
        Ok(Self::reading(schema)?.1)
    }

    fn start(
        self: Box<Self>,
        feed: &Arc<Feed>,
        schema: &Schema,
        snapshots: &SnapshotPlan,
    ) -> Result<Kept, Unstarted> {
        let (reading, filter) = Self::reading(schema).map_err(Unstarted::Schema)?;
        let progress = Progress::new("view", type_name::<V>().to_owned(), Position::START);
        let progress = Arc::new(progress);
        let live = Arc::new(Live::new(V::default(), Position::START, progress.clone()));
        let ages = snapshots.ages::<V>(feed.lineage(), &reading);
        let copies = Copies::new(live.clone(), self.options, ages.clone().map(Keeps::new));
        let control = follow::spawn(copies, feed.clone(), reading, filter, Refresh::Live, progress);
        let control = Arc::new(control.map_err(Unstarted::Thread)?);
        let ages = ages.map(|ages| ages as Arc<dyn Any + Send + Sync>);
        Ok(Kept { live: live.clone(), ages, control, shown: live })
    }
}

impl Panel {
    /// Starts everything, and waits until each view has reached the head that is seen now, or
    /// stopped.
    pub(crate) async fn start(
        lineage: Arc<Lineage>,
        schema: &Schema,
        plans: Plans,
    ) -> Result<Panel, Unstarted> {
        let head = lineage.head();
        let filters: Result<Vec<_>, _> = plans.filters(schema).collect();
        let feed = Arc::new(Feed::new(lineage, filters.map_err(Unstarted::Schema)?));
        let (views, order, projections) = (HashMap::default(), Vec::new(), Vec::new());
        let mut panel = Panel { views, order, projections, pulse: None, feed };
        for view in plans.views {
            let id = view.id();
            let kept = view.start(&panel.feed, schema, &plans.snapshots)?;
            panel.views.insert(id, kept);
            panel.order.push(id);
        }
        for projection in plans.projections {
            panel.projections.push(Arc::new(projection.start(&panel.feed, schema)?));
        }
        let followers: Vec<_> = panel.controls().map(|control| control.progress.clone()).collect();
        if !followers.is_empty() {
            let pulse = Pulse::start(panel.feed.head().clone(), followers);
            panel.pulse = Some(pulse.map_err(Unstarted::Thread)?);
        }
        for kept in panel.in_order() {
            // One that stopped says so itself. It must not keep the others from their work.
            let _ = kept.control.progress.until(head).await;
        }
        Ok(panel)
    }

    fn in_order(&self) -> impl Iterator<Item = &Kept> {
        self.order.iter().filter_map(|id| self.views.get(id))
    }

    /// # Errors
    /// [`NoSuchView`] if the app does not keep it.
    pub(crate) fn control<V: View>(&self) -> Result<ViewControl<V>, NoSuchView> {
        let kept = self.views.get(&TypeId::of::<V>());
        let live = kept.and_then(|kept| Some((kept.live.clone().downcast().ok()?, kept)));
        let (live, kept) = live.ok_or(NoSuchView { view: type_name::<V>() })?;
        Ok(ViewControl::new(live, kept.control.clone(), self.feed.head().clone()))
    }

    /// # Errors
    /// [`NoSuchView`] if the app does not keep it.
    pub(crate) fn live<V: View>(&self) -> Result<&Live<V>, NoSuchView> {
        let kept = self.views.get(&TypeId::of::<V>());
        let live = kept.and_then(|kept| kept.live.downcast_ref::<Live<V>>());
        live.ok_or(NoSuchView { view: type_name::<V>() })
    }

    /// The snapshots of this view, if any are kept.
    pub(crate) fn ages<V: View>(&self) -> Option<Arc<Ages<V>>> {
        self.views.get(&TypeId::of::<V>())?.ages.clone()?.downcast().ok()
    }

    pub(crate) fn head(&self) -> Position {
        self.feed.head().position()
    }

    /// # Errors
    /// [`NoSuchProjection`] if the app does not run it.
    pub(crate) fn projection(&self, name: &str) -> Result<ProjectionControl, NoSuchProjection> {
        let named = self.projections.iter().find(|control| control.progress.name() == name);
        match named {
            Some(control) => Ok(ProjectionControl::new(control.clone(), &self.feed)),
            None => Err(NoSuchProjection { name: name.to_owned() }),
        }
    }

    pub(crate) fn projections(&self) -> Vec<ProjectionStatus> {
        let control = |control: &Arc<Control>| ProjectionControl::new(control.clone(), &self.feed);
        self.projections.iter().map(|projection| control(projection).status()).collect()
    }

    fn controls(&self) -> impl Iterator<Item = &Arc<Control>> {
        self.in_order().map(|kept| &kept.control).chain(&self.projections)
    }

    pub(crate) fn status(&self) -> Vec<ViewStatus> {
        self.in_order().map(|kept| kept.shown.status(self.head())).collect()
    }

    /// The first view that does not go on.
    pub(crate) fn halted(&self) -> Option<ViewStatus> {
        let halted = |kept: &&Kept| kept.control.progress.arrivals().is_err();
        Some(self.in_order().find(halted)?.shown.status(self.head()))
    }

    /// Ends everything, and waits until it has.
    pub(crate) async fn stop(&self) {
        // All at once, and also those that wait for a store which does not answer.
        self.controls().for_each(|control| control.end());
        for control in self.controls() {
            control.ended().await;
        }
    }
}

/// Whoever drops an app may open its log again at once: nobody here holds it any more by then.
impl Drop for Panel {
    fn drop(&mut self) {
        self.pulse = None;
        self.controls().for_each(|control| control.end());
        self.controls().for_each(|control| control.join());
    }
}
