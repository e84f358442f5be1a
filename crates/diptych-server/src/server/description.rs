//! The words about a server in its descriptions for programs.

use super::Server;
use crate::panels::documents::credential::Credential;

impl Server {
    /// Sets the name of the application and the version of its API.
    pub fn title(mut self, title: impl Into<String>, version: impl Into<String>) -> Server {
        (self.title, self.version) = (title.into(), version.into());
        self
    }

    /// Names, in the descriptions for programs, how callers prove who they are to the
    /// [hook](Server::admit).
    pub fn credential(mut self, credential: Credential) -> Server {
        self.credential = Some(credential);
        self
    }
}
