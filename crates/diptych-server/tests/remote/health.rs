//! The health service of gRPC, asked by its generated client.

use std::sync::Arc;

use diptych::{
    LogOptions,
    store::{Append, RawEvent, Store},
};
use diptych_log::{
    Background, Log,
    disk::simulated::{Fault, Operation, SimulatedDisk},
};
use diptych_server::TokenScope;
use tonic::{Code, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::door_server::{DoorServer, in_time};

const SERVICES: [&str; 2] = ["", "diptych.v1.Log"];

async fn client(server: &DoorServer) -> HealthClient<Channel> {
    let endpoint = Channel::from_shared(format!("http://{}", server.address)).unwrap();
    HealthClient::new(in_time(endpoint.connect()).await.unwrap())
}

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[tokio::test]
async fn a_server_with_tokens_tells_its_health_without_one() {
    let server = DoorServer::start(|server| server.token("secret", [TokenScope::Read])).await;
    let mut health = client(&server).await;
    for service in SERVICES {
        let answer = in_time(health.check(of(service))).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service:?}");
    }
    let refused = in_time(health.check(of("orders"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    assert!(refused.message().contains("diptych.v1.Log"), "{refused}");
    let mut unknown = in_time(health.watch(of("orders"))).await.unwrap().into_inner();
    let status = in_time(unknown.message()).await.unwrap().unwrap().status();
    assert_eq!(status, ServingStatus::ServiceUnknown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_says_so_before_its_streams_end() {
    let server = DoorServer::start(|server| server).await;
    let mut health = client(&server).await;
    let mut watches = Vec::new();
    for service in SERVICES {
        let mut watch = in_time(health.watch(of(service))).await.unwrap().into_inner();
        let status = in_time(watch.message()).await.unwrap().unwrap().status();
        assert_eq!(status, ServingStatus::Serving);
        watches.push(watch);
    }
    let stopped = tokio::spawn(server.stop());
    for mut watch in watches {
        let status = in_time(watch.message()).await.unwrap().unwrap().status();
        assert_eq!(status, ServingStatus::NotServing);
        assert!(in_time(watch.message()).await.unwrap().is_none());
    }
    in_time(stopped).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_whose_disk_failed_is_not_serving() {
    let disk = SimulatedDisk::new(1);
    let options = LogOptions {
        background: Background::Threads,
        disk: Arc::new(disk.clone()),
        ..LogOptions::default()
    };
    let log = Log::open("/data/log", options).unwrap();
    let server = DoorServer::over(Store::new(log), |server| server).await;
    let mut health = client(&server).await;
    let mut watch = in_time(health.watch(of("diptych.v1.Log"))).await.unwrap().into_inner();
    let status = in_time(watch.message()).await.unwrap().unwrap().status();
    assert_eq!(status, ServingStatus::Serving);
    disk.fail_after(0, Fault::Io(Operation::Sync));
    let append = Append::event(RawEvent::new("t", "1"));
    let synced = async { server.store.append(append).await.unwrap().synced().await };
    in_time(synced).await.unwrap_err();
    let status = in_time(watch.message()).await.unwrap().unwrap().status();
    assert_eq!(status, ServingStatus::NotServing);
    for service in SERVICES {
        let answer = in_time(health.check(of(service))).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::NotServing, "{service:?}");
    }
}
