//! The health service of gRPC (`grpc.health.v1`), for load balancers and orchestrators.

use diptych::store::{Position, Store};
use futures_util::stream;
use tokio::time::sleep;
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_server::Health,
};

use crate::{
    door::stop::Stop,
    hinge::{
        calls::{HEALTH_SERVICE, SERVICE},
        service::MessageStream,
        streams::ENDED_PAUSE,
    },
};

/// Answers whether the log can be used. It needs no token, as `/ready`.
pub(crate) struct HealthService {
    store: Store,
    stop: Stop,
}

impl HealthService {
    pub(crate) fn new(store: Store, stop: Stop) -> HealthService {
        HealthService { store, stop }
    }

    /// The status of a service, by its name in gRPC. The empty name is the whole server. `None` if
    /// there is no such service.
    fn status_of(&self, service: &str) -> Option<ServingStatus> {
        let is_known = service.is_empty() || [SERVICE, HEALTH_SERVICE].contains(&service);
        // A log that lacks space takes no commits, and is read as before.
        let is_serving = !self.stop.has_begun() && !self.store.head().is_ended();
        is_known.then_some(match is_serving {
            true => ServingStatus::Serving,
            false => ServingStatus::NotServing,
        })
    }
}

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        match self.status_of(&service) {
            Some(status) => Ok(Response::new(response(status))),
            None => Err(Status::not_found(format!(
                "the server has no service {service:?}: ask for \"\", or for {SERVICE:?}"
            ))),
        }
    }

    type WatchStream = MessageStream<HealthCheckResponse>;

    /// The status now, then each change. The stream ends after the server began to stop.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let watch = StatusWatch {
            health: HealthService::new(self.store.clone(), self.stop.clone()),
            service: request.into_inner().service,
            sent: None,
        };
        let statuses = stream::unfold(watch, async |mut watch| {
            let status = watch.next().await?;
            Some((Ok(response(status)), watch))
        });
        Ok(Response::new(Box::pin(statuses)))
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

/// The changes of one service's status.
struct StatusWatch {
    health: HealthService,
    service: String,
    /// The status that was sent last.
    sent: Option<ServingStatus>,
}

impl StatusWatch {
    /// The next status that differs from the last one; `None` once the client knows that the server
    /// stops.
    async fn next(&mut self) -> Option<ServingStatus> {
        loop {
            let status = self.health.status_of(&self.service);
            let status = status.unwrap_or(ServingStatus::ServiceUnknown);
            if self.sent.replace(status) != Some(status) {
                return Some(status);
            }
            if self.health.stop.has_begun() {
                return None;
            }
            tokio::select! {
                () = self.health.changed() => {}
                () = self.health.stop.begun() => {}
            }
        }
    }
}

impl HealthService {
    /// Waits until the log has ended, or is there again.
    async fn changed(&self) {
        match self.store.head().is_ended() {
            // No event has the last position, so the wait ends only with the log.
            false => drop(self.store.head().after(Position::MAX).await),
            true => sleep(ENDED_PAUSE).await,
        }
    }
}
