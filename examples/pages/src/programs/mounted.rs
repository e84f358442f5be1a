use std::{env, net::SocketAddr};

use axum::{
    Router,
    extract::Request,
    middleware::{Next, from_fn},
    response::Response,
    routing::get,
};
use diptych::App;
use diptych_server::Server;
use tokio::net::TcpListener;

async fn my_middleware(request: Request, next: Next) -> Response {
    next.run(request).await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let app = App::open("data")?.start().await?;
    let (routes, handle) = Server::new(app.clone()).host("localhost").into_router()?;
    let service = Router::new()
        .route("/", get(async || "my own page"))
        .nest("/api", routes)
        .layer(from_fn(my_middleware));

    let address = env::var("ADDRESS").unwrap_or("127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("my server is at http://localhost:{}", listener.local_addr()?.port());
    let stopping = handle.clone();
    axum::serve(listener, service.into_make_service_with_connect_info::<SocketAddr>())
        .with_graceful_shutdown(async move {
            drop(tokio::signal::ctrl_c().await);
            stopping.stop(); // ends live streams, which the shutdown would wait for
        })
        .await?;
    handle.commands_ended().await; // also those whose clients went away
    Ok(app.stop().await?)
}
