//! The page of the shop, and the routes below it.

use diptych::App;
use diptych_server::Server;

use crate::shop::NewestOrders;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The server: one query, what waits in the process, and the page.
pub(crate) fn server(app: App) -> Server {
    Server::new(app)
        .title("Orders", env!("CARGO_PKG_VERSION"))
        .query::<NewestOrders>("orders")
        .process_operations()
        .file("/", HTML, include_bytes!("../page/index.html"))
        .file("/page.css", CSS, include_bytes!("../page/page.css"))
        .file("/page.js", SCRIPT, include_bytes!("../page/page.js"))
        .file("/favicon.svg", "image/svg+xml", include_bytes!("../page/favicon.svg"))
        .file("/words.js", SCRIPT, include_bytes!("../page/words.js"))
}
