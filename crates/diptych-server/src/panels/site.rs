//! The state that all handlers share.

use std::{sync::Arc, time::Instant};

use diptych::{App, poster::Poster};
use serde_json::{Map, Value};

#[cfg(feature = "poster")]
use crate::owner::Owner;
#[cfg(feature = "webhooks")]
use crate::panels::entries::webhook::WebhookRoutes;
use crate::{
    door::{entrance::Door, metrics::Metrics},
    panels::{answers::PastAnswers, documents::Documents, entries::Entries, live::LiveQueries},
};

/// An app with its entries, behind a door.
pub(crate) struct Site {
    pub(crate) app: App,
    pub(crate) door: Arc<Door>,
    pub(crate) entries: Entries,
    pub(crate) answers: Arc<PastAnswers>,
    pub(crate) live: LiveQueries,
    pub(crate) documents: Documents,
    /// The shared schemas of the types behind the entries.
    pub(crate) definitions: Map<String, Value>,
    /// The endpoints for webhooks, by their paths.
    #[cfg(feature = "webhooks")]
    pub(crate) webhooks: WebhookRoutes,
    pub(crate) metrics: Option<Metrics>,
    /// Whether the site has the routes for operators of processes.
    pub(crate) has_operations: bool,
    pub(crate) started: Instant,
    /// The poster that the app belongs to, if it follows the log of another process.
    pub(crate) poster: Option<Poster>,
    /// The application that carries out the commands of the poster.
    #[cfg(feature = "poster")]
    pub(crate) owner: Option<Arc<Owner>>,
}
