//! Certificates between Postern and the service are replaced while the change stream is open.

use postern_loadtests::proxy_v2::Header;
use postern_loadtests::stack::accounts::{HOST_A, LINK_A, LINK_PENDING};
use postern_loadtests::stack::client::{Protocol, Tls, open};
use postern_loadtests::stack::credentials::CLIENT_NAME;
use postern_loadtests::stack::routing::ROUTING_NAME;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::{routed, routing, settles};
use crate::scene::{Scene, until};

const ACCOUNT: &str = "hospital-a";

/// What the service shows in a new handshake.
async fn shown(scene: &Scene) -> CertificateDer<'static> {
    let routing = routing(scene);
    let tls = Tls::with_identity(&routing.ca(), &routing.operator_identity()).unwrap();
    let stream = open(routing.address(), None, &Header::Absent)
        .await
        .unwrap();
    let stream = tls
        .handshake(stream, Some(ROUTING_NAME), Protocol::Http2)
        .await;
    let stream = stream.unwrap();
    let chain = stream.get_ref().1.peer_certificates().unwrap();
    chain[0].clone().into_owned()
}

/// What an operator decides is in force at once.
async fn decisions_arrive(scene: &Scene) {
    let operator = routing(scene).operator().unwrap();
    operator.approve(ACCOUNT, LINK_PENDING).await.unwrap();
    settles(scene, LINK_PENDING, HOST_A, "/nonce/approved", 200).await;
    operator.reject(ACCOUNT, LINK_PENDING).await.unwrap();
    settles(scene, LINK_PENDING, HOST_A, "/nonce/rejected", 403).await;
}

#[tokio::test]
async fn the_service_and_postern_renew_theirs_without_missing_a_change() {
    // Nothing but the change stream tells of a change within this test.
    let slow = [
        ("POSTERN_ROUTE_CACHE__TTL", "1h"),
        ("POSTERN_ROUTE_CACHE__NOT_FOUND_TTL", "1h"),
    ];
    let (scene, _) = routed(&slow, "").await;
    decisions_arrive(&scene).await;
    let internal = &scene.stack.credentials.internal;

    let renewed = internal.server(&[ROUTING_NAME, "localhost"]).unwrap();
    renewed.write_to(&routing(&scene).identity()).unwrap();
    let expected = CertificateDer::from_pem_slice(renewed.chain_pem.as_bytes()).unwrap();
    until("the service's new certificate", async || {
        shown(&scene).await == expected
    })
    .await;
    decisions_arrive(&scene).await;

    let renewed = internal.client(CLIENT_NAME).unwrap();
    renewed.write_to(&scene.stack.credentials.client).unwrap();
    scene
        .counted("postern_credential_generation", &[], 2.0)
        .await;
    decisions_arrive(&scene).await;
    assert_eq!(scene.status(LINK_A, HOST_A, "/nonce/after").await, 200);
    let ready = scene.stack.postern.probe_answer("/readyz").await.unwrap();
    assert_eq!(ready.status, 200);
}
