//! The flow of several services as one tree: the trees of their logs, joined at the feeds.
//!
//! An event that an intake made carries the feed, the log and the id of its cause. So its tree
//! hangs below that event in the tree of the other service.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde::Serialize;
use uuid::Uuid;

use super::trace::{StepKind, Trace, TraceOptions, TraceStep};
use crate::collaboration::FeedOrigin;

/// The number of feeds that a cut names.
const NAMED: usize = 4;

/// The flow of several services: the steps of a tree, each after its cause.
/// [`Display`](std::fmt::Display) draws the tree.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct JoinedTrace {
    /// The correlation of the flow.
    pub correlation: Uuid,
    /// The services that were asked, in order.
    pub services: Vec<TracedService>,
    /// The steps in the order of the tree. The cause of a step is the last one before it whose
    /// depth is smaller by one.
    pub steps: Vec<JoinedStep>,
    /// Remarks for people, such as that the tree was cut.
    pub remarks: Vec<String>,
}

/// A service that was asked for its part of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TracedService {
    /// Its name among the sources.
    pub name: String,
    /// The id of its log, if it has a part of the flow.
    pub log: Option<Uuid>,
    /// The number of steps in its log.
    pub steps: usize,
    /// Why it could not be asked.
    pub away: Option<String>,
}

/// A step of a flow of several services.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct JoinedStep {
    /// The number of steps that led to it.
    pub depth: u32,
    /// The name of the service.
    pub service: String,
    /// The step.
    #[serde(flatten)]
    pub kind: StepKind,
}

/// The answer of a service: its tree, that it knows nothing of the flow, or why it was not asked.
pub(super) enum ServicePart {
    Tree(Trace),
    Nothing,
    Away(String),
}

/// The place of a step: the service and the number of the step in its tree.
type StepPlace = (usize, usize);

/// Joins the trees of services.
pub(super) fn join(
    correlation: Uuid,
    parts: Vec<(String, ServicePart)>,
    options: &TraceOptions,
) -> JoinedTrace {
    let (mut services, mut trees, mut remarks) = (Vec::new(), Vec::new(), Vec::new());
    let mut logs = HashMap::<Uuid, String>::new();
    for (name, part) in parts {
        let mut service = TracedService { name, log: None, steps: 0, away: None };
        let mut tree = Vec::new();
        match part {
            ServicePart::Tree(trace) => {
                service.log = Some(trace.log);
                let told = |remark: &String| format!("{}: {remark}", service.name);
                match logs.get(&trace.log) {
                    Some(first) => remarks.push(format!(
                        "{} has the same log as {first}, and is left out",
                        service.name
                    )),
                    None => {
                        remarks.extend(trace.remarks.iter().map(told));
                        logs.insert(trace.log, service.name.clone());
                        service.steps = trace.steps.len();
                        tree = trace.steps;
                    }
                }
            }
            ServicePart::Nothing => {}
            ServicePart::Away(reason) => service.away = Some(reason),
        }
        services.push(service);
        trees.push(tree);
    }
    let links = TreeLinks::of(&services, &trees);
    remarks.extend(links.unknown.iter().map(|(log, feed)| {
        format!(
            "events came from feed {feed} of log {log}, which no answer has: trace its service too"
        )
    }));
    let walk = JoinedWalk {
        services: &services,
        trees: &trees,
        links: &links,
        options,
        seen: HashSet::new(),
        steps: Vec::new(),
        is_full: false,
    };
    let (steps, is_full) = walk.run();
    if is_full {
        remarks.push(format!(
            "the flow has more than these {} steps: ask for more, or trace a later event",
            steps.len()
        ));
    }
    JoinedTrace { correlation, services, steps, remarks }
}

/// The edges of the joined tree.
struct TreeLinks {
    /// The effects of each step, first those in the same log.
    effects: HashMap<StepPlace, Vec<StepPlace>>,
    /// The steps without a known cause, in order.
    roots: Vec<StepPlace>,
    /// Logs and feeds from which events came, and that no answer has.
    unknown: BTreeSet<(Uuid, String)>,
}

impl TreeLinks {
    fn of(services: &[TracedService], trees: &[Vec<TraceStep>]) -> TreeLinks {
        let mut events = HashMap::<(Uuid, Uuid), StepPlace>::new();
        for (number, (service, tree)) in services.iter().zip(trees).enumerate() {
            for (at, step) in tree.iter().enumerate() {
                if let (StepKind::Event { id, .. }, Some(log)) = (&step.kind, service.log) {
                    events.insert((log, *id), (number, at));
                }
            }
        }
        let known: HashSet<_> = services.iter().filter_map(|service| service.log).collect();
        let (mut effects, mut roots) = (HashMap::<StepPlace, Vec<StepPlace>>::new(), Vec::new());
        let (mut crossings, mut unknown) = (Vec::new(), BTreeSet::new());
        for (number, tree) in trees.iter().enumerate() {
            // The last step of each depth.
            let mut above: Vec<usize> = Vec::new();
            for (at, step) in tree.iter().enumerate() {
                let depth = usize::try_from(step.depth).unwrap_or(usize::MAX).min(above.len());
                above.truncate(depth);
                let cause = above.last().map(|cause| (number, *cause));
                above.push(at);
                let place = (number, at);
                match (cause, origin(&step.kind)) {
                    (Some(cause), _) => effects.entry(cause).or_default().push(place),
                    (None, Some(from)) => {
                        let cause = from.cause.and_then(|id| events.get(&(from.log, id)));
                        match cause {
                            Some(cause) => crossings.push((*cause, place)),
                            None => roots.push(place),
                        }
                        if !known.contains(&from.log) {
                            unknown.insert((from.log, from.feed.clone()));
                        }
                    }
                    (None, None) => roots.push(place),
                }
            }
        }
        for (cause, effect) in crossings {
            effects.entry(cause).or_default().push(effect);
        }
        TreeLinks { effects, roots, unknown }
    }
}

/// The published event from which a step came.
fn origin(kind: &StepKind) -> Option<&FeedOrigin> {
    match kind {
        StepKind::Event { origin, .. } | StepKind::ForeignParked { origin, .. } => origin.as_ref(),
        _ => None,
    }
}

struct JoinedWalk<'j> {
    services: &'j [TracedService],
    trees: &'j [Vec<TraceStep>],
    links: &'j TreeLinks,
    options: &'j TraceOptions,
    seen: HashSet<StepPlace>,
    steps: Vec<JoinedStep>,
    is_full: bool,
}

/// A step that is to be added, and the feeds on the way to it.
struct JoinedVisit {
    place: StepPlace,
    depth: u32,
    via: Vec<String>,
}

impl JoinedWalk<'_> {
    fn run(mut self) -> (Vec<JoinedStep>, bool) {
        for root in &self.links.roots {
            self.walk(*root);
        }
        // Steps that name each other as their causes have no root: such logs contradict each other.
        for (service, tree) in self.trees.iter().enumerate() {
            for at in 0..tree.len() {
                if !self.seen.contains(&(service, at)) {
                    self.walk((service, at));
                }
            }
        }
        (self.steps, self.is_full)
    }

    fn walk(&mut self, root: StepPlace) {
        let mut left = vec![JoinedVisit { place: root, depth: 0, via: Vec::new() }];
        while let Some(JoinedVisit { place, depth, mut via }) = left.pop() {
            if self.is_full || self.steps.len() >= self.options.steps {
                self.is_full = true;
                return;
            }
            let (service, at) = place;
            let Some(step) = self.trees.get(service).and_then(|tree| tree.get(at)) else {
                continue;
            };
            let name = self.services.get(service).map_or("", |service| &service.name);
            if let Some(from) = origin(&step.kind).filter(|_| depth > 0) {
                via.push(format!("{}@{}", from.feed, from.log));
            }
            let is_parked = matches!(step.kind, StepKind::ForeignParked { .. });
            let feeds = u32::try_from(via.len()).unwrap_or(u32::MAX);
            let is_far = feeds > self.options.feeds && !is_parked;
            let kind = match is_far || self.seen.contains(&place) {
                true => cut(&via),
                false => step.kind.clone(),
            };
            let is_cut = matches!(kind, StepKind::Cut { .. });
            self.seen.insert(place);
            self.steps.push(JoinedStep { depth, service: name.to_owned(), kind });
            if is_cut {
                self.see_below(place);
                continue;
            }
            let effects = self.links.effects.get(&place).into_iter().flatten();
            left.extend(effects.rev().map(|effect| JoinedVisit {
                place: *effect,
                depth: depth.saturating_add(1),
                via: via.clone(),
            }));
        }
    }

    /// Marks everything below a cut, so that it is no tree of its own.
    fn see_below(&mut self, place: StepPlace) {
        let mut left = vec![place];
        while let Some(place) = left.pop() {
            for effect in self.links.effects.get(&place).into_iter().flatten() {
                if self.seen.insert(*effect) {
                    left.push(*effect);
                }
            }
        }
    }
}

/// The end of a branch that comes through too many feeds.
fn cut(via: &[String]) -> StepKind {
    let feeds = u32::try_from(via.len()).unwrap_or(u32::MAX);
    let mut named: Vec<String> = Vec::new();
    for feed in via.iter().rev() {
        if !named.contains(feed) && named.len() < NAMED {
            named.push(feed.clone());
        }
    }
    named.reverse();
    StepKind::Cut { feeds, via: named }
}

#[cfg(test)]
mod tests;
