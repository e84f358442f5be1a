//! A running server of the theatre.

use std::net::SocketAddr;

use diptych::{App, AppBuilder, EventStore, Memory};
use diptych_server::{ServeError, Server, ServerLimits};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

use crate::{
    client::{Connection, Events, Request, Response},
    domain::{Guestbook, Plan, theatre},
};

pub(crate) struct TheatreServer {
    pub(crate) app: App,
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    pub(crate) serving: JoinHandle<Result<(), ServeError>>,
}

pub(crate) fn with_views(builder: AppBuilder) -> AppBuilder {
    builder.view::<Plan>().view::<Guestbook>()
}

impl TheatreServer {
    /// In memory, and with nothing special.
    pub(crate) async fn new() -> TheatreServer {
        TheatreServer::over(Memory::new()).await
    }

    pub(crate) async fn over(store: impl EventStore) -> TheatreServer {
        TheatreServer::of(with_views(App::over(store)).start().await.unwrap(), |server| server)
            .await
    }

    /// With these limits.
    pub(crate) async fn within(set: impl FnOnce(&mut ServerLimits)) -> TheatreServer {
        TheatreServer::over_within(Memory::new(), set).await
    }

    pub(crate) async fn over_within(
        store: impl EventStore,
        set: impl FnOnce(&mut ServerLimits),
    ) -> TheatreServer {
        let mut limits = ServerLimits::default();
        set(&mut limits);
        let app = with_views(App::over(store)).start().await.unwrap();
        TheatreServer::of(app, |server| server.limits(limits)).await
    }

    pub(crate) async fn of(app: App, set: impl FnOnce(Server) -> Server) -> TheatreServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let server = set(theatre(app.clone()));
        let serving = tokio::spawn(server.serve(listener, async move { drop(stopped.await) }));
        TheatreServer { app, address, stop, serving }
    }

    pub(crate) async fn connect(&self) -> Connection {
        Connection::open(self.address).await
    }

    /// On a connection of its own.
    pub(crate) async fn ask(&self, request: &Request) -> Response {
        self.connect().await.ask(request).await
    }

    pub(crate) async fn get(&self, target: &str) -> Response {
        self.ask(&Request::get(target)).await
    }

    pub(crate) async fn events(&self, target: &str) -> Events {
        Events::open(self.address, &Request::get(target)).await
    }

    /// Sends a command, which has to be accepted.
    pub(crate) async fn done(&self, name: &str, body: Value) -> Response {
        let response = self.ask(&Request::send(name, body)).await;
        assert_eq!(response.status, 200, "{}", response.text());
        response
    }

    pub(crate) async fn take(&self, seat: &str, by: &str) -> Response {
        self.done("take-seat", json!({ "seat": seat, "by": by })).await
    }

    pub(crate) async fn remark(&self, text: &str) -> Response {
        self.done("remark", json!({ "text": text })).await
    }

    pub(crate) fn head(&self) -> u64 {
        self.app.head().get()
    }

    /// Tells the server to stop.
    pub(crate) fn end(self) -> (App, JoinHandle<Result<(), ServeError>>) {
        drop(self.stop);
        (self.app, self.serving)
    }

    /// Stops the server, and waits for that.
    pub(crate) async fn stop(self) -> App {
        let (app, serving) = self.end();
        tokio::time::timeout(crate::client::LONG, serving).await.unwrap().unwrap().unwrap();
        app
    }
}
