//! What came of it all, as figures that are the same on every run.

use std::{collections::BTreeMap, marker::PhantomData, time::Duration};

use diptych::{App, DigestError, Query, QueryError, StateDigest, View, digest};
use schemars::JsonSchema;
use serde::Serialize;

use crate::views::{
    Board, CountOfRule, CountOfType, Happenings, Names, Planes, Punctuality, RecentHappenings,
    Refusals, RefusalsByRule, Routes, WeatherDelay,
};

/// What is in the log, as the views have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Summary {
    /// Events by type.
    pub events: Vec<CountOfType>,
    /// Commands that were carried out.
    pub accepted: u64,
    /// Commands that were refused.
    pub refused: u64,
    /// The same by rule and command.
    pub refused_by_rule: Vec<CountOfRule>,
    /// A digest of each view: of equal views they are equal, however the views came to be.
    pub digests: BTreeMap<&'static str, String>,
}

/// Why there is no summary.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SummaryError {
    /// A view does not answer.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// A view has no digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

/// How long a view may take to come to the end of the log.
const WITHIN: Duration = Duration::from_secs(600);

/// Sums up what is in the log now, once all views are as far.
///
/// # Errors
/// [`SummaryError`] if a view does not come so far.
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

/// The digest of a view, as a question to it.
struct DigestOf<V>(PhantomData<fn() -> V>);

impl<V: View + Serialize> Query for DigestOf<V> {
    type View = V;
    type Answer = Result<StateDigest, DigestError>;

    fn answer(&self, view: &V) -> Result<StateDigest, DigestError> {
        digest(view)
    }
}
