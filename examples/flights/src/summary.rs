//! The results of a load, as figures that are equal on every run.

use std::{collections::BTreeMap, marker::PhantomData, time::Duration};

use diptych::{
    App, Query, QueryError, View,
    digest::{self, DigestError, StateDigest},
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::views::{
    Board, CountOfRule, CountOfType, Happenings, Names, Planes, Punctuality, RecentHappenings,
    Refusals, RefusalsByRule, Routes, WeatherDelay,
};

/// The contents of the log, as the views count them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Summary {
    /// Number of events of each type.
    pub events: Vec<CountOfType>,
    /// Number of accepted commands.
    pub accepted: u64,
    /// Number of refused commands.
    pub refused: u64,
    /// Number of refused commands by rule and command.
    pub refused_by_rule: Vec<CountOfRule>,
    /// A digest of each view. Equal views have equal digests, however they were built.
    pub digests: BTreeMap<&'static str, String>,
}

/// The reason why there is no summary.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SummaryError {
    /// A view did not answer.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// A digest of a view failed.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

/// The longest wait for a view to reach the end of the log.
const WITHIN: Duration = Duration::from_secs(600);

/// Summarises the log up to its present end. It waits until all views have reached that position.
///
/// # Errors
/// [`SummaryError`] if a view does not reach it.
pub async fn summary(app: &App) -> Result<Summary, SummaryError> {
    let happenings = app.query(RecentHappenings {}).strong().within(WITHIN).await?.value;
    let refusals = app.query(RefusalsByRule { top: Some(0) }).strong().within(WITHIN).await?.value;
    let digests = [
        ("Board", digest_of::<Board>(app).await?),
        ("Happenings", digest_of::<Happenings>(app).await?),
        ("Names", digest_of::<Names>(app).await?),
        ("Planes", digest_of::<Planes>(app).await?),
        ("Punctuality", digest_of::<Punctuality>(app).await?),
        ("Refusals", digest_of::<Refusals>(app).await?),
        ("Routes", digest_of::<Routes>(app).await?),
        ("WeatherDelay", digest_of::<WeatherDelay>(app).await?),
    ];
    Ok(Summary {
        events: happenings.events,
        accepted: happenings.accepted,
        refused: happenings.refused,
        refused_by_rule: refusals.by_rule,
        digests: BTreeMap::from(digests),
    })
}

async fn digest_of<V: View + Serialize>(app: &App) -> Result<String, SummaryError> {
    let digest = app.query(DigestOf::<V>(PhantomData)).strong().within(WITHIN).await?.value?;
    Ok(digest.to_string())
}

/// A query for the digest of a view.
struct DigestOf<V>(PhantomData<fn() -> V>);

impl<V: View + Serialize> Query for DigestOf<V> {
    type View = V;
    type Answer = Result<StateDigest, DigestError>;

    fn answer(&self, view: &V) -> Result<StateDigest, DigestError> {
        digest::digest(view)
    }
}
