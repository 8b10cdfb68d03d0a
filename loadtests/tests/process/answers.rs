//! What an answer's line says when its last byte was sent, whoever ends the exchange.

use postern_loadtests::stack::accounts::{HOST_A, LINK_A};
use postern_loadtests::stack::client::Protocol;
use postern_loadtests::stack::ingress::IngressKind;
use postern_loadtests::stack::local::LocalOptions;

use crate::scene::{Scene, until, with};

/// An HTTP/1.1 answer with `Content-Length` is over with its last byte; the end of the ingress's HTTP/2 stream may
/// come later.
#[tokio::test]
async fn a_sized_answer_is_complete_over_every_pair_of_protocols() {
    for kind in [IngressKind::Nginx, IngressKind::Envoy] {
        for ingress_protocol in ["auto", "http1"] {
            let scene = Scene::with(&LocalOptions {
                ingress: kind,
                ingress_protocol,
                ..with(&[])
            })
            .await;
            for protocol in Protocol::ALL {
                let mut connection = scene.connect(LINK_A, HOST_A, protocol).await;
                let path = format!("/generate/1000?{}", protocol.label());
                for _ in 0..50 {
                    let answer = connection.get(&path).await.unwrap();
                    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 1000));
                }
            }
            let endings = || {
                let lines = scene.stack.postern.access_log().all().into_iter();
                let asked = lines.filter(|line| line["path"] == "/generate/1000");
                asked.map(|line| line["ending"].clone()).collect::<Vec<_>>()
            };
            until("all lines", async || endings().len() == 100).await;
            let others: Vec<_> = endings()
                .into_iter()
                .filter(|ending| ending != "complete")
                .collect();
            assert!(others.is_empty(), "{kind:?} {ingress_protocol}: {others:?}");
        }
    }
}
