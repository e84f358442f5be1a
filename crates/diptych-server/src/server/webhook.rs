//! The webhooks that a server takes.

use std::mem;

use super::Server;
use crate::{
    panels::entries::{
        mount::Mount,
        webhook::{WebhookRoute, WebhookRoutes},
    },
    router::has_route,
};

impl Server {
    /// Takes webhooks of another system at this path, such as `/hooks/payments`, and executes the
    /// command that each becomes. The [hook](Server::admit) is not asked about them, because their
    /// signatures tell who sent them.
    pub fn webhook(mut self, path: &str, route: WebhookRoute) -> Server {
        self.mistakes.extend(route.mistake(path));
        let is_twice = self.webhooks.values().any(|other| other.name() == route.name());
        if is_twice || has_route(path) || self.webhooks.insert(path.to_owned(), route).is_some() {
            let problem = "no other route may have its path, and no other webhook its name";
            self.mistakes.push(format!("the webhook {path:?}: {problem}"));
        }
        self
    }

    /// # Errors
    /// The mistake that a poster takes webhooks, or that a file or a mount has the path of one.
    pub(super) fn take_webhooks(&mut self, mounts: &[Mount]) -> Result<WebhookRoutes, String> {
        let webhooks = mem::take(&mut self.webhooks);
        for path in webhooks.keys() {
            if let Some(mounted) = mounts.iter().find_map(|mount| mount.answers(path)) {
                let problem = "has this path too: give one of them another path";
                return Err(format!("the webhook {path:?}: the mounted {mounted:?} {problem}"));
            }
        }
        match webhooks.keys().next() {
            Some(path) if self.poster.is_some() => Err(format!(
                "the webhook {path:?}: a poster executes no commands: take it at the owner of the \
                 log"
            )),
            _ => match webhooks.keys().find(|path| self.files.contains_key(*path)) {
                Some(path) => Err(format!("the webhook {path:?} and a file have one path")),
                None => Ok(webhooks),
            },
        }
    }
}

/// Each path with the name of its source, for descriptions.
pub(super) fn listed(webhooks: &WebhookRoutes) -> Vec<(String, String)> {
    let webhooks = webhooks.iter();
    webhooks.map(|(path, route)| (path.clone(), route.name().to_owned())).collect()
}
