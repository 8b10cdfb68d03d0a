//! Over TCP: what depends on sockets and on the clock of the machine.

use postern_certs::dev_ca::DevCa;
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::super::client::Tcp;
use super::scene::*;

/// A scene whose only endpoint is a socket of the service.
async fn listening() -> Scene {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let scene = Scene::by(folder, Some(Arc::new(Tcp)), |options| {
        options.client.endpoints = vec![("localhost".into(), port)];
        options.client.connect_timeout = 10 * SECOND;
        options.hedge_after = 10 * SECOND;
    });
    let service = Arc::clone(&scene.service);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            service.accept("localhost", stream, false);
        }
    });
    scene
}

/// Waits for a condition that holds soon.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let waited = timeout(10 * SECOND, async {
        while !holds() {
            sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what}");
}

#[tokio::test]
async fn lookups_snapshot_and_changes_share_one_connection() {
    let mut scene = listening().await;
    let _stream = scene.followed().await;
    let contact = scene.routes.contact();
    until("contact", || contact.age().is_some()).await;
    let links = (100..200).map(|number| {
        let routes = Arc::clone(&scene.routes);
        tokio::spawn(async move { routes.lookup(LinkId::new(number), &host()).await })
    });
    scene
        .service
        .answers(|link| Reply::json(found(LinkId::new(link.unwrap()))));
    for answer in links.collect::<Vec<_>>() {
        assert!(matches!(
            answer.await.unwrap().unwrap().lookup,
            Lookup::Found(_)
        ));
    }
    assert_eq!(scene.service.hosts_connected().len(), 1);
}

#[tokio::test]
async fn a_renewed_certificate_takes_over_while_the_stream_is_open_and_nothing_is_missed() {
    let mut scene = listening().await;
    let stream = scene.followed().await;
    until("in use", || scene.metric("postern_route_stream_up") == 1).await;
    // Another connection, which nothing is on.
    let idle = scene.routes.attempt(1, Some(LINK), &host()).await;
    assert!(idle.is_ok());
    let renewed = scene.issue("postern.example");
    renewed
        .write_to(&scene.folder.path().join("client"))
        .unwrap();
    let now = postern_certs::UnixTime::now();
    assert!(scene.credentials.refresh(now).is_empty());
    // The old stream goes on until it has nothing more to say.
    stream.change(&change(2, postern_api::LinkState::Rejected));
    until("the old one is heard", || {
        scene.routes.sequence() == Some(2)
    })
    .await;
    stream.head(2);
    timeout(10 * SECOND, stream.closed()).await.unwrap();
    let stream = scene.stream().await;
    assert_eq!(stream.after, 2);
    stream.head(2);
    let certificates: Vec<_> = scene.service.connections.lock().unwrap().clone();
    assert_eq!(certificates.len(), 3);
    assert_eq!(certificates[0].1, certificates[1].1);
    assert_ne!(certificates[1].1, certificates[2].1);
    until("both old ones are closed", || {
        let serving = scene.service.serving.lock().unwrap();
        serving.iter().filter(|one| one.is_finished()).count() == 2
    })
    .await;
    assert_eq!(scene.metric("postern_route_gaps_total"), 0);
}

#[tokio::test]
async fn a_server_of_another_name_is_not_asked() {
    let scene = Scene::with(|options| options.client.name = "other.example".try_into().unwrap());
    let error = scene.routes.lookup(LINK, &host()).await.unwrap_err();
    let text = postern_chassis::whole(&error);
    assert!(text.contains("not valid for name"), "{text}");
    assert_eq!(scene.service.lookups(), 0);
}

#[tokio::test]
async fn a_service_that_refuses_our_certificate_gives_no_answer() {
    let scene = listening().await;
    let other = DevCa::new("Another CA").unwrap();
    let stranger = other.client("postern.example").unwrap();
    let folder = scene.folder.path().join("client");
    stranger.write_to(&folder).unwrap();
    let now = postern_certs::UnixTime::now();
    assert!(scene.credentials.refresh(now).is_empty());
    let error = scene.routes.lookup(LINK, &host()).await.unwrap_err();
    let text = postern_chassis::whole(&error);
    // And then its alert, or that the connection broke, whichever is noticed first.
    assert!(text.contains("localhost:"), "{text}");
    assert_eq!(scene.service.lookups(), 0);
}
