//! The scenarios' traffic: it finds nothing where nothing is wrong, and does find what is.

use postern_loadtests::prove::traffic::{Kind, Sort, Tally, Targets, Traffic};
use postern_loadtests::stack::Deadline;
use postern_loadtests::stack::client::Protocol;
use rustix::process::Signal;

use crate::scene::{SOON, Scene, until};

fn start(scene: &Scene) -> Traffic {
    let tls = scene.stack.tls().unwrap();
    Traffic::start(Targets::new(vec![scene.stack.postern.data()], tls))
}

fn all_kinds_are_under_way(tally: &Tally) -> bool {
    Kind::all().all(|kind| tally.of(kind).done > 1)
}

#[tokio::test]
async fn traffic_through_a_stack_in_order_is_of_every_kind_and_without_a_failure() {
    let scene = Scene::start(&[]).await;
    let traffic = start(&scene);
    until("traffic of all kinds", async || {
        all_kinds_are_under_way(&traffic.so_far())
    })
    .await;
    let tally = traffic.stop().await;
    assert_eq!(tally.broken(), [""; 0]);
    for protocol in Protocol::ALL {
        let of = |sort| tally.of(Kind { sort, protocol });
        assert_eq!(of(Sort::Handshakes).resumed, 0);
        // All but the first.
        let resumptions = of(Sort::Resumptions);
        assert_eq!(resumptions.resumed + 1, resumptions.done, "{protocol:?}");
    }
}

#[tokio::test]
async fn a_proxy_that_is_killed_cuts_what_was_open() {
    let scene = Scene::start(&[]).await;
    let traffic = start(&scene);
    until("traffic of all kinds", async || {
        all_kinds_are_under_way(&traffic.so_far())
    })
    .await;
    scene.stack.postern.signal(Signal::KILL).unwrap();
    // Of an HTTP/2 connection with nothing in flight, nobody can tell. Uploads always are, and so is a WebSocket.
    let noticed = |tally: &Tally| {
        let mut long = Kind::all().filter(|kind| match kind.sort {
            Sort::Uploads | Sort::Messages => true,
            Sort::Requests => kind.protocol == Protocol::Http1,
            Sort::Handshakes | Sort::Resumptions => false,
        });
        long.all(|kind| tally.of(kind).cut > 0)
    };
    let cuts = async || noticed(&traffic.so_far()).then_some(());
    let cuts = Deadline::after(SOON).poll(cuts).await;
    assert!(cuts.is_some(), "{:#?}", traffic.so_far());
    let refused = |tally: &Tally| tally.sum(|count| *count.failed.get("connect").unwrap_or(&0));
    until("refused connections", async || {
        refused(&traffic.so_far()) > 0
    })
    .await;
    assert!(traffic.stop().await.broken().len() > 1);
}
