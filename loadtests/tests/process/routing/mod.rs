//! Account routing as a service: what it says is what Postern decides, at once, on connections that are open, too.

mod changes;
mod decisions;
mod forward;
mod rotation;

use postern_loadtests::stack::client::{Connection, Protocol};
use postern_loadtests::stack::local::LocalOptions;
use postern_loadtests::stack::operator::Operator;
use postern_loadtests::stack::routing::{Routing, RoutingOptions};

use crate::scene::{Scene, until, with};

/// A stack whose Postern asks the service.
async fn routed(variables: &[(&str, &str)], more: &str) -> (Scene, Operator) {
    let scene = Scene::with(&LocalOptions {
        routing: Some(RoutingOptions::default()),
        more: more.to_owned(),
        ..with(variables)
    })
    .await;
    let operator = routing(&scene).operator().unwrap();
    (scene, operator)
}

fn routing(scene: &Scene) -> &Routing {
    scene.stack.routing.as_ref().expect("it was asked for")
}

/// Waits until a request on this connection gets this status.
async fn becomes(connection: &mut Connection, path: &str, status: u16) {
    until(&format!("{status} for {path}"), async || {
        let answer = connection.get(path).await;
        answer.is_ok_and(|answer| answer.status == status)
    })
    .await;
}

/// Waits until a request of this link over a new connection gets this status. A connection may be ended under its request
/// when the link is revoked at that moment.
async fn settles(scene: &Scene, link_id: u32, host: &str, path: &str, status: u16) {
    until(&format!("{status} for link {link_id}"), async || {
        let connection = scene.stack.connect(link_id, host, Protocol::Http1).await;
        match connection {
            Ok(mut connection) => connection
                .get(path)
                .await
                .is_ok_and(|answer| answer.status == status),
            Err(_) => false,
        }
    })
    .await;
}
