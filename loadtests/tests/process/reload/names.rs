//! Endpoints that are names: resolved before a reload takes them up.

use postern_loadtests::stack::accounts::{HOST_A, LINK_A};
use postern_loadtests::stack::client::Protocol;
use postern_loadtests::stack::postern::Reloaded;

use super::{comes_to, in_force, other_ingress, reload, takes_up};
use crate::scene::Scene;

#[tokio::test]
async fn a_name_is_resolved_before_requests_go_there_and_one_that_is_not_changes_nothing() {
    let mut scene = Scene::start(&[]).await;
    let other = other_ingress(&scene).await;
    let first = format!("endpoints = [\"{}\"]", scene.stack.ingress.address());
    // Both are answered without a name server (RFC 6761 sections 6.3 and 6.4).
    let second = format!("endpoints = [\"localhost:{}\"]", other.address().port());
    let nowhere = "endpoints = [\"nowhere.invalid:443\"]";

    let before = in_force(&scene).await;
    let refused = reload(&mut scene, &[(&first, nowhere)]).await;
    let Reloaded::Refused(why) = refused else {
        panic!("{refused:?}");
    };
    let says = "upstream.clusters.dicom.endpoints: nowhere.invalid is not resolved";
    assert!(why.starts_with(says), "{why}");
    assert_eq!(in_force(&scene).await, before);

    // Requests one after the other, from before the reload until after it.
    let mut client = scene.connect(LINK_A, HOST_A, Protocol::Http2).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let requests = tokio::spawn(async move {
        let mut count = 0;
        while !*stopped.borrow() {
            let answer = client.get("/nonce/meanwhile").await.unwrap();
            assert_eq!(answer.status, 200);
            count += 1;
        }
        assert_eq!(client.get("/nonce/after").await.unwrap().status, 200);
        count
    });
    let keys = "upstream.clusters.dicom.endpoints";
    takes_up(&mut scene, &[(nowhere, &second)], keys).await;
    stop.send_replace(true);
    assert!(requests.await.unwrap() > 0);
    comes_to(&other, "/nonce/after").await;
}
