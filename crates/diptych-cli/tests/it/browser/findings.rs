//! axe-core, which knows the rules for readers who do not see or do not point.

use std::{env, fs, path::PathBuf};

use fantoccini::Client;
use serde_json::json;

/// The findings, each with its rule, and its elements with what is wrong with them.
const FINDINGS: &str = "
    const told = ({ html, any }) => [html.slice(0, 160), ...any.map(({ message }) => message)];
    return axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) =>
        violations.map(({ id, nodes }) => [id, ...nodes.map(told)]));";

/// The program.
pub(crate) struct Axe(String);

impl Axe {
    /// The program, if it is installed.
    #[allow(clippy::print_stdout)]
    pub(crate) fn installed() -> Option<Axe> {
        let Some(folder) = env::var_os("DIPTYCH_BROWSER").map(PathBuf::from) else {
            println!("DID NOT RUN: `cargo xtask test` installs axe-core");
            return None;
        };
        let program = folder.join("npm/node_modules/axe-core/axe.min.js");
        Some(Axe(fs::read_to_string(program).unwrap()))
    }

    /// Looks over the page as it is now.
    pub(crate) async fn assert_no_findings(&self, page: &Client, place: &str) {
        page.execute(&self.0, Vec::new()).await.unwrap();
        let found = page.execute(FINDINGS, Vec::new()).await.unwrap();
        assert_eq!(found, json!([]), "{place}");
    }
}
