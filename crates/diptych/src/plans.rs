//! Starts the followers of an app, of every kind. An app and a catalogue plan them.
//!
//! Each kind of follower has a plan here. The plan says which events the follower needs, and how it
//! starts. All running followers share one feed, one way to stop and one [`FollowerControl`].

use std::{
    any::{Any, TypeId, type_name},
    collections::HashMap,
    io,
    marker::PhantomData,
    sync::Arc,
};

use diptych_store::{Filter, Position};
use foldhash::fast::RandomState;

use crate::{
    event::{Event, Reading, Schema, SchemaError},
    fold::{Fold, kept_name},
    follow::{self, FollowerControl, FollowerFeed, FollowerKind, Followers, Progress, Refresh},
    lineage::Lineage,
    projection::{Target, runner::Runner},
    snapshot::{SnapshotPolicy, Snapshots, ViewSnapshotStore},
    view::{
        View, ViewOptions, Views,
        candidate::{CandidateRules, ViewCandidate},
        left_right::LeftRight,
        shown::{CandidateSide, ShownView},
        snapshots::SnapshotWriter,
    },
};

/// The followers that an app is to start.
#[derive(Default)]
pub(crate) struct FollowerPlans {
    views: Vec<PlannedView>,
    projections: Vec<PlannedProjection>,
    pub(crate) snapshots: SnapshotPlan,
}

struct PlannedView {
    id: TypeId,
    name: &'static str,
    /// The view that it is a candidate for.
    replaces: Option<(TypeId, &'static str)>,
    plan: Box<dyn FollowerPlan>,
}

struct PlannedProjection {
    name: String,
    plan: Box<dyn FollowerPlan>,
}

/// A follower before the start of the app, when there is no store to read yet.
trait FollowerPlan: Send {
    /// The events that the follower needs.
    fn filter(&self, schema: &Schema) -> Result<Filter, SchemaError>;

    fn start(self: Box<Self>, start: &mut Start<'_>) -> Result<(), StartFailure>;
}

/// The start of an app: the parts that its followers share, and the followers that run already.
struct Start<'a> {
    schema: &'a Schema,
    snapshots: &'a SnapshotPlan,
    feed: Arc<FollowerFeed>,
    followers: Followers,
    views: Views,
}

/// Why a follower could not be started.
pub(crate) enum StartFailure {
    Schema(SchemaError),
    Thread(io::Error),
}

impl From<SchemaError> for StartFailure {
    fn from(error: SchemaError) -> StartFailure {
        StartFailure::Schema(error)
    }
}

impl From<io::Error> for StartFailure {
    fn from(error: io::Error) -> StartFailure {
        StartFailure::Thread(error)
    }
}

impl FollowerPlans {
    pub(crate) fn add_view<V: View>(&mut self, options: ViewOptions) {
        let plan = Box::new(ViewPlan::<V> { options, view: PhantomData });
        let (id, name, replaces) = (TypeId::of::<V>(), type_name::<V>(), None);
        self.views.push(PlannedView { id, name, replaces, plan });
    }

    pub(crate) fn add_candidate<V: View, N: View + AsRef<V>>(
        &mut self,
        options: ViewOptions,
        rules: CandidateRules<V>,
    ) {
        let plan = Box::new(CandidatePlan::<V, N> { options, rules, view: PhantomData });
        let (id, name) = (TypeId::of::<N>(), type_name::<N>());
        let replaces = Some((TypeId::of::<V>(), type_name::<V>()));
        self.views.push(PlannedView { id, name, replaces, plan });
    }

    /// The first candidate without a view to replace, or with one that another candidate has, and
    /// that view.
    pub(crate) fn candidate_alone(&self) -> Option<(&'static str, &'static str)> {
        let is_view =
            |id: TypeId| self.views.iter().any(|view| view.id == id && view.replaces.is_none());
        let mut candidates = self.views.iter().enumerate().filter_map(|(at, view)| {
            let (id, replaced) = view.replaces?;
            let mut before = self.views.iter().take(at).filter_map(|view| view.replaces);
            let is_alone = !is_view(id) || before.any(|(other, _)| other == id);
            is_alone.then_some((view.name, replaced))
        });
        candidates.next()
    }

    pub(crate) fn add_projection<T: Target>(&mut self, target: T, refresh: Refresh) {
        let name = target.name().to_owned();
        let plan = Box::new(ProjectionPlan { target, refresh });
        self.projections.push(PlannedProjection { name, plan });
    }

    /// Adds the followers of other plans behind these.
    pub(crate) fn append(&mut self, mut other: FollowerPlans) {
        self.views.append(&mut other.views);
        self.projections.append(&mut other.projections);
        self.snapshots.views.extend(other.snapshots.views);
    }

    /// Leaves out the followers that write outside the process.
    pub(crate) fn drop_projections(&mut self) {
        self.projections.clear();
    }

    /// The first view that was added twice.
    pub(crate) fn view_twice(&self) -> Option<&'static str> {
        let mut views = self.views.iter().enumerate();
        let is_again = |at: usize, id| self.views.iter().take(at).any(|other| other.id == id);
        views.find(|(at, view)| is_again(*at, view.id)).map(|(_, view)| view.name)
    }

    /// The first name that two projections have.
    pub(crate) fn projection_twice(&self) -> Option<String> {
        let mut projections = self.projections.iter().enumerate();
        let is_again = |at, name| self.projections.iter().take(at).any(|other| other.name == name);
        let twice = projections.find(|(at, projection)| is_again(*at, &*projection.name));
        twice.map(|(_, projection)| projection.name.clone())
    }

    fn filters(&self, schema: &Schema) -> Result<Vec<Filter>, SchemaError> {
        let views = self.views.iter().map(|view| &view.plan);
        let plans = views.chain(self.projections.iter().map(|projection| &projection.plan));
        plans.map(|plan| plan.filter(schema)).collect()
    }

    /// Starts all followers. Then waits until each view has stopped, or has reached the head as it
    /// was at this call.
    pub(crate) async fn start(
        self,
        lineage: Arc<Lineage>,
        schema: &Schema,
    ) -> Result<(Followers, Views), StartFailure> {
        let head = lineage.head();
        let feed = Arc::new(FollowerFeed::new(lineage, self.filters(schema)?));
        let FollowerPlans { views, projections, snapshots } = self;
        let (followers, shown) = (Followers::default(), Views::default());
        let mut start = Start { schema, snapshots: &snapshots, feed, followers, views: shown };
        // A candidate finds the view that it is to replace.
        let (views, candidates): (Vec<_>, Vec<_>) =
            views.into_iter().partition(|view| view.replaces.is_none());
        for view in views.into_iter().chain(candidates) {
            view.plan.start(&mut start)?;
        }
        for projection in projections {
            projection.plan.start(&mut start)?;
        }
        let Start { feed, mut followers, views, .. } = start;
        followers.start_pulse(&feed)?;
        for view in followers.required_views() {
            // A stopped view shows the reason in its status. It must not prevent the start.
            let _ = view.progress().until(head).await;
        }
        Ok((followers, views))
    }
}

struct ViewPlan<V> {
    options: ViewOptions,
    view: PhantomData<fn() -> V>,
}

impl<V: View> FollowerPlan for ViewPlan<V> {
    fn filter(&self, schema: &Schema) -> Result<Filter, SchemaError> {
        Ok(selection::<V::Event>(schema)?.1)
    }

    fn start(self: Box<Self>, start: &mut Start<'_>) -> Result<(), StartFailure> {
        start.view(shown::<V>(), self.options, None)
    }
}

/// A view at the start of the log.
fn shown<V: View>() -> Arc<ShownView<V>> {
    let kind = FollowerKind::View.name();
    let progress = Progress::new(kind, type_name::<V>().to_owned(), Position::START);
    Arc::new(ShownView::new(V::default(), Position::START, Arc::new(progress)))
}

impl Start<'_> {
    fn view<V: View>(
        &mut self,
        live: Arc<ShownView<V>>,
        options: ViewOptions,
        candidate: Option<Box<dyn CandidateSide>>,
    ) -> Result<(), StartFailure> {
        let (reading, filter) = selection::<V::Event>(self.schema)?;
        let (feed, progress) = (&self.feed, live.progress.clone());
        let snapshots = self.snapshots.snapshots::<V>(feed.lineage(), &reading);
        let mut copies =
            LeftRight::new(live.clone(), options, snapshots.clone().map(SnapshotWriter::new));
        let is_candidate = candidate.is_some();
        if let Some(candidate) = candidate {
            copies = copies.beside(candidate);
        }
        let worker = follow::spawn(copies, feed.clone(), reading, filter, Refresh::Live, progress)?;
        let control = FollowerControl::new(FollowerKind::View, worker, feed, Some(live.clone()));
        self.views.add(live, snapshots, control.clone());
        match is_candidate {
            true => self.followers.add_candidate(control),
            false => self.followers.add(control),
        }
        Ok(())
    }
}

struct CandidatePlan<V, N> {
    options: ViewOptions,
    rules: CandidateRules<V>,
    view: PhantomData<fn() -> N>,
}

impl<V: View, N: View + AsRef<V>> FollowerPlan for CandidatePlan<V, N> {
    fn filter(&self, schema: &Schema) -> Result<Filter, SchemaError> {
        Ok(selection::<N::Event>(schema)?.1)
    }

    fn start(self: Box<Self>, start: &mut Start<'_>) -> Result<(), StartFailure> {
        let (live, CandidatePlan { options, rules, .. }) = (shown::<N>(), *self);
        let candidate = start.views.shared::<V>().and_then(|served| {
            let is_seated = served.seat(live.clone());
            let candidate = || ViewCandidate::new(served.clone(), live.clone(), rules);
            is_seated.then(|| Box::new(candidate()) as Box<dyn CandidateSide>)
        });
        start.view(live, options, candidate)
    }
}

struct ProjectionPlan<T> {
    target: T,
    refresh: Refresh,
}

impl<T: Target> FollowerPlan for ProjectionPlan<T> {
    fn filter(&self, schema: &Schema) -> Result<Filter, SchemaError> {
        Ok(selection::<T::Event>(schema)?.1)
    }

    fn start(self: Box<Self>, start: &mut Start<'_>) -> Result<(), StartFailure> {
        let (reading, filter) = selection::<T::Event>(start.schema)?;
        let (kind, feed) = (FollowerKind::Projection, &start.feed);
        let name = self.target.name().to_owned();
        let progress = Arc::new(Progress::new(kind.name(), name, Position::START));
        let runner = Runner::new(self.target, feed.lineage().clone(), progress.clone());
        let worker = follow::spawn(runner, feed.clone(), reading, filter, self.refresh, progress)?;
        start.followers.add(FollowerControl::new(kind, worker, feed, None));
        Ok(())
    }
}

/// How all events of `E` are read, and their filter.
fn selection<E: Event>(schema: &Schema) -> Result<(Arc<Reading<E>>, Filter), SchemaError> {
    let reading = schema.reading::<E>()?;
    reading.check_current()?;
    let filter = reading.everything();
    Ok((reading, filter))
}

/// How and where snapshots of views are kept.
#[derive(Default)]
pub(crate) struct SnapshotPlan {
    pub(crate) place: Option<Arc<dyn Snapshots>>,
    views: HashMap<TypeId, PlannedSnapshots, RandomState>,
}

struct PlannedSnapshots {
    /// The name under which its snapshots are kept.
    name: &'static str,
    /// An `Arc<SnapshotPolicy<V>>`.
    policy: Arc<dyn Any + Send + Sync>,
    keep: usize,
}

impl SnapshotPlan {
    /// Adds a fold. If it is no view of the app, nothing follows from it.
    pub(crate) fn add<F: Fold>(&mut self, policy: SnapshotPolicy<F>, keep: usize) {
        let (name, policy) = (kept_name::<F>(), Arc::new(policy));
        self.views.insert(TypeId::of::<F>(), PlannedSnapshots { name, policy, keep });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.views.is_empty()
    }

    /// The names under which snapshots are kept.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.views.values().map(|planned| planned.name)
    }

    fn snapshots<V: View>(
        &self,
        lineage: &Arc<Lineage>,
        reading: &Reading<V::Event>,
    ) -> Option<Arc<ViewSnapshotStore<V>>> {
        let PlannedSnapshots { policy, keep, .. } = self.views.get(&TypeId::of::<V>())?;
        let (place, policy) = (self.place.clone()?, policy.clone().downcast().ok()?);
        let (lineage, declared) = (lineage.clone(), reading.declared());
        Some(Arc::new(ViewSnapshotStore::new(policy, *keep, place, lineage, declared)))
    }
}
