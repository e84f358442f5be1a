//! The rules by which a view that is built beside another one takes its place.

use std::{
    any::type_name,
    fmt::{self, Debug},
    marker::PhantomData,
};

use serde::Serialize;

use super::Query;
use crate::{
    digest::digest,
    follow::SwitchPolicy,
    view::{
        View, ViewOptions,
        candidate::{CandidateRules, StateComparison},
    },
};

/// A view `N` that is built beside the view `V`, compared with it, and put in its place: see
/// [`AppBuilder::view_candidate`](crate::AppBuilder::view_candidate).
///
/// It is any view that contains the state of `V`, as `AsRef<V>` gives it, so that the queries of
/// `V` have an answer from it. It can apply other events, keep more state, and apply them in
/// another way.
#[must_use = "a candidate does nothing until an app gets it"]
pub struct Candidate<V, N> {
    policy: SwitchPolicy,
    comparisons: Vec<StateComparison<V>>,
    options: ViewOptions,
    view: PhantomData<fn() -> N>,
}

impl<V: View, N: View + AsRef<V>> Candidate<V, N> {
    /// A candidate that takes the place of the view by this policy. Without a comparison any state
    /// counts as equal.
    pub fn new(policy: SwitchPolicy) -> Candidate<V, N> {
        let (comparisons, options) = (Vec::new(), ViewOptions::default());
        Candidate { policy, comparisons, options, view: PhantomData }
    }

    /// Compares the [digests](crate::digest()) of the two states. It takes as long as serialising
    /// both.
    pub fn by_digest(mut self) -> Candidate<V, N>
    where
        V: Serialize,
    {
        self.comparisons.push(Box::new(|served, own| {
            let [served, own] = [served, own].map(|state| digest(state));
            let (served, own) = (served.map_err(told)?, own.map_err(told)?);
            match served == own {
                true => Ok(()),
                false => Err(format!("the digest is {served}, that of the candidate is {own}")),
            }
        }));
        self
    }

    /// Compares the answers to this query.
    pub fn sample<Q>(mut self, query: Q) -> Candidate<V, N>
    where
        Q: Query<View = V, Answer: PartialEq + Debug>,
    {
        self.comparisons.push(Box::new(move |served, own| {
            let (served, own) = (query.answer(served), query.answer(own));
            match served == own {
                true => Ok(()),
                false => {
                    let query = type_name::<Q>();
                    Err(format!("{query}: the view answers {served:?}, the candidate {own:?}"))
                }
            }
        }));
        self
    }

    /// The options of the candidate as a view.
    pub fn options(mut self, options: ViewOptions) -> Candidate<V, N> {
        self.options = options;
        self
    }

    pub(crate) fn into_parts(self) -> (ViewOptions, CandidateRules<V>) {
        let Candidate { policy, comparisons, options, .. } = self;
        (options, CandidateRules { policy, comparisons })
    }
}

fn told(error: impl fmt::Display) -> String {
    error.to_string()
}

impl<V, N> Debug for Candidate<V, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidate").field("policy", &self.policy).finish_non_exhaustive()
    }
}
