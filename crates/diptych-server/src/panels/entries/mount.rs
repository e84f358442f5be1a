//! Routes of another crate inside the door of a server.

use std::{fmt, sync::Arc};

use axum::{http::request::Parts, routing::MethodRouter};
use diptych::App;
use serde_json::{Map, Value};

use crate::door::access::Operation;

/// Names what a request asks for.
pub(crate) type Operations = Arc<dyn Fn(&Parts) -> Vec<Operation> + Send + Sync>;

/// Routes that are not those of commands and queries, and are inside the door of a server: hosts
/// and limits are checked, the hook is asked, and panics are caught. `diptych-records` makes its
/// REST routes so.
///
/// The handlers get the [`App`] as their state, and use the extractors of the feature `extract`.
#[must_use = "routes do nothing before they are added to a server"]
pub struct Mount {
    routes: Vec<(String, MethodRouter<App>)>,
    operations: Operations,
    extras: Operations,
    pub(crate) paths: Map<String, Value>,
    pub(crate) schemas: Map<String, Value>,
}

impl Mount {
    /// No routes yet. `operations` names what a request asks for. The hook is asked about each of
    /// these operations. If there are none, a server with a hook refuses the request.
    ///
    /// The handler of `GET` answers `HEAD` too, so `operations` gets such a request as `GET`. It
    /// gets no request with a wrong method.
    pub fn new(operations: impl Fn(&Parts) -> Vec<Operation> + Send + Sync + 'static) -> Mount {
        let (paths, schemas) = (Map::new(), Map::new());
        let (operations, extras) = (Arc::new(operations), Arc::new(|_: &Parts| Vec::new()));
        Mount { routes: Vec::new(), operations, extras, paths, schemas }
    }

    /// Names what a request can also get, such as the row that it changes. The hook is asked about
    /// each of these operations, too. If it denies one, the request goes on, and the handler finds
    /// the operation in [`DeniedExtras`].
    pub fn extras(
        mut self,
        extras: impl Fn(&Parts) -> Vec<Operation> + Send + Sync + 'static,
    ) -> Mount {
        self.extras = Arc::new(extras);
        self
    }

    /// Adds a route: a path as axum writes it, such as `/customers/{key}`, and its methods.
    pub fn route(mut self, path: &str, methods: MethodRouter<App>) -> Mount {
        self.routes.push((path.to_owned(), methods));
        self
    }

    /// Adds these paths and shared schemas to the OpenAPI document.
    pub fn documented(mut self, paths: Map<String, Value>, schemas: Map<String, Value>) -> Mount {
        self.paths.extend(paths);
        self.schemas.extend(schemas);
        self
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.routes.iter().map(|(path, _)| path.as_str())
    }

    /// The mounted path that answers requests for this path, if there is one.
    pub(crate) fn answers(&self, path: &str) -> Option<&str> {
        let is_parameter = |part: &str| part.starts_with('{');
        self.paths().find(|own| {
            let mut parts = path.split('/');
            for own in own.split('/') {
                match parts.next() {
                    Some(part) if own.starts_with("{*") => return !part.is_empty(),
                    Some(part) if own == part || (is_parameter(own) && !part.is_empty()) => {}
                    _ => return false,
                }
            }
            parts.next().is_none()
        })
    }

    /// The path that no router takes, if there is one, and why.
    fn mistake(&self) -> Option<String> {
        let path = self.paths().find(|path| !is_routable(path))?;
        Some(format!(
            "the mounted path {path:?}: write each parameter as a whole part {{name}}, and the \
             rest of a path as a last part {{*name}}: other braces, and a colon or an asterisk at \
             the start of a part, are not allowed"
        ))
    }

    /// Why these routes cannot stand beside the others, and beside those that the server has.
    pub(crate) fn problem_beside(
        &self,
        others: &[Mount],
        is_own: fn(&str) -> bool,
    ) -> Option<String> {
        if let Some(mistake) = self.mistake() {
            return Some(mistake);
        }
        let mut known: Vec<&str> = others.iter().flat_map(Mount::paths).collect();
        for path in self.paths() {
            if !path.starts_with('/') || path == "/" || is_own(path) || known.contains(&path) {
                return Some(format!(
                    "the mounted path {path:?}: it has to begin with a slash and a name, and no \
                     other route may have it"
                ));
            }
            if let Some(other) = known.iter().find(|other| has_clash(path, other)) {
                return Some(format!(
                    "the mounted path {path:?}: {other:?} has another parameter at the same place: \
                     give both one name"
                ));
            }
            known.push(path);
        }
        others.iter().find_map(|other| self.problem_with(&other.schemas))
    }

    /// Why these schemas cannot stand beside others: one name has two meanings.
    pub(crate) fn problem_with(&self, schemas: &Map<String, Value>) -> Option<String> {
        let differs =
            |(name, own): &(&String, &Value)| schemas.get(*name).is_some_and(|other| other != *own);
        let (name, _) = self.schemas.iter().find(differs)?;
        Some(format!("a mounted type and another have the schema name {name}: rename one"))
    }

    /// The routes, what their requests ask for, and what they can also get.
    pub(crate) fn into_parts(self) -> (Vec<(String, MethodRouter<App>)>, Operations, Operations) {
        (self.routes, self.operations, self.extras)
    }
}

/// The [extras](Mount::extras) that the hook denied to the caller: an extension of each request of
/// a mounted route. Its answer must not have them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeniedExtras(pub Vec<Operation>);

/// Whether a router takes this path.
fn is_routable(path: &str) -> bool {
    let mut parts = path.split('/').peekable();
    while let Some(part) = parts.next() {
        let inner = part.strip_prefix('{').and_then(|part| part.strip_suffix('}'));
        let is_taken = match inner {
            None => !part.starts_with([':', '*']) && !part.contains(['{', '}']),
            Some(name) => {
                let rest = name.strip_prefix('*');
                let name = rest.unwrap_or(name);
                let is_placed = rest.is_none() || parts.peek().is_none();
                is_placed && !name.is_empty() && !name.contains(['{', '}', '*'])
            }
        };
        if !is_taken {
            return false;
        }
    }
    true
}

/// Whether two paths differ first in a parameter that both have at one place.
fn has_clash(path: &str, other: &str) -> bool {
    let mut parts = path.split('/').zip(other.split('/'));
    let differs = parts.find(|(part, other)| part != other);
    differs.is_some_and(|(part, other)| part.starts_with('{') && other.starts_with('{'))
}

impl fmt::Debug for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.paths()).finish()
    }
}
