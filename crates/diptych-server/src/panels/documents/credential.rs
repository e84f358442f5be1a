//! How callers prove who they are, for the descriptions of a server.

use serde_json::{Value, json};

/// The name of the scheme in both documents.
const CALLER: &str = "caller";

/// How callers prove who they are, for the OpenAPI and AsyncAPI documents. The
/// [hook](crate::Server::admit) alone decides about them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credential {
    /// `Authorization: Bearer …`
    Bearer,
    /// `Authorization: Basic …`
    Basic,
    /// A header of this name.
    Header(String),
}

impl Credential {
    /// Adds the scheme to an OpenAPI document, for all operations.
    pub(super) fn add_to_openapi(&self, document: &mut Value) {
        let scheme = match self {
            Credential::Header(name) => json!({ "type": "apiKey", "in": "header", "name": name }),
            other => other.http(),
        };
        add_to_components(document, scheme);
        let operations = document.as_object_mut();
        operations.map(|members| members.insert("security".to_owned(), json!([{ CALLER: [] }])));
    }

    /// Adds the scheme to an AsyncAPI document, for all operations.
    pub(super) fn add_to_asyncapi(&self, document: &mut Value) {
        let scheme = match self {
            Credential::Header(name) => {
                json!({ "type": "httpApiKey", "in": "header", "name": name })
            }
            other => other.http(),
        };
        add_to_components(document, scheme);
        let operations = document.get_mut("operations").and_then(Value::as_object_mut);
        let security = json!([{ "$ref": format!("#/components/securitySchemes/{CALLER}") }]);
        for operation in operations.into_iter().flat_map(|operations| operations.values_mut()) {
            let members = operation.as_object_mut();
            members.map(|members| members.insert("security".to_owned(), security.clone()));
        }
    }

    fn http(&self) -> Value {
        let scheme = if *self == Credential::Basic { "basic" } else { "bearer" };
        json!({ "type": "http", "scheme": scheme })
    }
}

fn add_to_components(document: &mut Value, scheme: Value) {
    let components = document.get_mut("components").and_then(Value::as_object_mut);
    let schemes = json!({ CALLER: scheme });
    components.map(|components| components.insert("securitySchemes".to_owned(), schemes));
}
