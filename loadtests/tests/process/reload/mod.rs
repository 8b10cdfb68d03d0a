//! SIGHUP: another configuration while connections are open. All of it is taken up, or nothing.

mod names;
mod refused;

use bytes::Bytes;
use http::Method;
use http_body_util::channel::Channel;
use postern_certs::dev_ca::Issued;
use postern_loadtests::proxy_v2::Header;
use postern_loadtests::stack::accounts::{
    self, CERTIFICATE_NAME, HOST_A, HOST_B, LINK_A, LINK_B, LINK_PENDING,
};
use postern_loadtests::stack::client::{
    Answer, BodyError, ClientError, Connection, Protocol, open, streaming,
};
use postern_loadtests::stack::ingress::{Ingress, IngressKind};
use postern_loadtests::stack::postern::{Reloaded, UNTRUSTED_SOURCE};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::scene::{Scene, routes_and, until};

/// Puts each second text in place of the first one, in the file.
fn edit(scene: &Scene, edits: &[(&str, &str)]) {
    let mut text = scene.stack.postern.configuration().unwrap();
    for (from, to) in edits {
        assert!(text.contains(from), "no {from} in {text}");
        text = text.replacen(from, to, 1);
    }
    scene.stack.postern.configure(&text).unwrap();
}

async fn reload(scene: &mut Scene, edits: &[(&str, &str)]) -> Reloaded {
    edit(scene, edits);
    let reloaded = scene.stack.postern.reload().await;
    reloaded.unwrap_or_else(|error| panic!("{error}"))
}

/// Reloads, and expects these keys to be taken up.
async fn takes_up(scene: &mut Scene, edits: &[(&str, &str)], keys: &str) {
    assert_eq!(
        reload(scene, edits).await,
        Reloaded::Applied(keys.to_owned())
    );
}

async fn admin(scene: &Scene, path: &str) -> String {
    let admin = Connection::plain(scene.stack.postern.admin()).await;
    admin.unwrap().get(path).await.unwrap().text()
}

/// What `/config` says, without what is said about it.
async fn in_force(scene: &Scene) -> String {
    let text = admin(scene, "/config").await;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.collect::<Vec<_>>().join("\n")
}

async fn reloads(scene: &Scene, outcome: &str) -> f64 {
    let labels = [("outcome", outcome)];
    scene.metric("postern_reloads_total", &labels).await
}

/// Another ingress in front of the same back end.
async fn other_ingress(scene: &Scene) -> Ingress {
    let folder = scene.folder.path().join("other");
    std::fs::create_dir(&folder).unwrap();
    let (kind, backend) = (IngressKind::Nginx, scene.stack.echo.address());
    Ingress::start(kind, &folder, &scene.stack.credentials, true, backend)
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Waits until the ingress has told of a request for `path`, which may be after its answer.
async fn comes_to(ingress: &Ingress, path: &str) {
    let came = ingress.saw(path, |line| line["uri"] == path).await;
    came.unwrap_or_else(|error| panic!("{error}"));
}

fn saw(ingress: &Ingress, path: &str) -> bool {
    ingress.seen().all().iter().any(|line| line["uri"] == path)
}

#[tokio::test]
async fn bounds_hold_for_connections_that_are_opened_from_then_on() {
    let mut scene = Scene::start(&[]).await;
    let before = scene.metric("postern_config_loaded_seconds", &[]).await;
    assert!(before > 0.0);
    for protocol in Protocol::ALL {
        let mut old = scene.connect(LINK_A, HOST_A, protocol).await;
        assert_eq!(old.get("/nonce/before").await.unwrap().status, 200);
        let edits = [
            ("[upstream]\n", "[upstream]\nresponse_timeout = \"500ms\"\n"),
            ("[routes]\n", "[http]\nidle_timeout = \"1s\"\n\n[routes]\n"),
        ];
        let keys = "http.idle_timeout, upstream.response_timeout";
        takes_up(&mut scene, &edits, keys).await;
        assert!(in_force(&scene).await.contains("idle_timeout = \"1s\""));

        let mut new = scene.connect(LINK_A, HOST_A, protocol).await;
        assert_eq!(new.get("/slow/3000").await.unwrap().status, 504);
        assert_eq!(old.get("/slow/1500").await.unwrap().status, 200);
        let idle = scene.connect(LINK_A, HOST_A, protocol).await;
        until("the end of the new ones", async || {
            new.is_closed() && idle.is_closed()
        })
        .await;
        assert!(!old.is_closed());
        let back = edits.map(|(from, to)| (to, from));
        takes_up(&mut scene, &back, keys).await;
    }
    scene
        .counted("postern_connections_total", &[("ending", "idle")], 4.0)
        .await;
    assert!((reloads(&scene, "applied").await - 4.0).abs() < 0.5);
    assert!(scene.metric("postern_config_loaded_seconds", &[]).await > before);
    assert_eq!(reload(&mut scene, &[]).await, Reloaded::Unchanged);
    assert!((reloads(&scene, "unchanged").await - 1.0).abs() < 0.5);
}

/// Whether a client from there gets an answer.
async fn is_served(scene: &Scene, from: std::net::IpAddr) -> Result<Connection, ClientError> {
    let data = scene.stack.postern.data();
    let stream = open(data, Some(from), &Header::link(LINK_A)).await?;
    let tls = scene.stack.tls()?;
    let stream = tls.handshake(stream, Some(HOST_A), Protocol::Http2).await?;
    let mut connection = Connection::new(stream, Protocol::Http2, HOST_A).await?;
    connection.get("/nonce/source").await?;
    Ok(connection)
}

#[tokio::test]
async fn sources_are_trusted_and_no_longer_trusted() {
    let mut scene = Scene::start(&[]).await;
    let refused = [("reason", "untrusted_source")];
    assert!(is_served(&scene, UNTRUSTED_SOURCE).await.is_err());
    scene.counted("postern_refusals_total", &refused, 1.0).await;
    let only = "trusted_sources = [\"127.0.0.1/32\"]";
    let both = "trusted_sources = [\"127.0.0.1/32\", \"127.0.0.3/32\"]";
    takes_up(&mut scene, &[(only, both)], "data.trusted_sources").await;
    let mut kept = is_served(&scene, UNTRUSTED_SOURCE).await.unwrap();
    takes_up(&mut scene, &[(both, only)], "data.trusted_sources").await;
    assert!(is_served(&scene, UNTRUSTED_SOURCE).await.is_err());
    scene.counted("postern_refusals_total", &refused, 2.0).await;
    assert_eq!(kept.get("/nonce/kept").await.unwrap().status, 200);
}

#[tokio::test]
async fn places_for_connections_and_requests_become_fewer_and_more() {
    let mut scene = Scene::start(&[]).await;
    let mut kept = scene.connect(LINK_A, HOST_A, Protocol::Http2).await;
    assert_eq!(kept.get("/nonce/first").await.unwrap().status, 200);
    let few = [
        ("[data]\n", "[data]\nconnections_max = 1\n"),
        ("[routes]\n", "[http]\nrequests_max = 1\n\n[routes]\n"),
    ];
    let keys = "data.connections_max, http.requests_max";
    takes_up(&mut scene, &few, keys).await;
    let refused = scene.stack.connect(LINK_B, HOST_B, Protocol::Http1).await;
    assert!(refused.is_err());
    let reason = [("reason", "connection_limit")];
    scene.counted("postern_refusals_total", &reason, 1.0).await;

    let mut busy = kept.share().unwrap();
    let slow = tokio::spawn(async move { busy.get("/slow/2000").await.unwrap() });
    scene.counted("postern_requests_in_flight", &[], 1.0).await;
    let answer = kept.get("/nonce/over").await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["code"]),
        (503, &"overloaded".into())
    );
    assert_eq!(slow.await.unwrap().status, 200);

    takes_up(&mut scene, &few.map(|(from, to)| (to, from)), keys).await;
    assert_eq!(scene.status(LINK_B, HOST_B, "/nonce/next").await, 200);
}

/// A request with a body that is sent until the channel is dropped.
async fn upload(
    mut connection: Connection,
    path: &str,
) -> (
    http_body_util::channel::Sender<Bytes, BodyError>,
    tokio::task::JoinHandle<Answer>,
) {
    let (mut sender, body) = Channel::<Bytes, BodyError>::new(1);
    let request = connection.request(Method::POST, path).unwrap();
    let request = request.body(streaming(body)).unwrap();
    let answer = tokio::spawn(async move { connection.fetch(request).await.unwrap() });
    sender
        .send_data(Bytes::from_static(b"first"))
        .await
        .unwrap();
    (sender, answer)
}

#[tokio::test]
async fn an_open_connection_goes_to_the_endpoints_that_are_configured_now() {
    let mut scene = Scene::start(&[]).await;
    let other = other_ingress(&scene).await;
    let [first, second] = [scene.stack.ingress.address(), other.address()]
        .map(|address| format!("endpoints = [\"{address}\"]"));
    let mut open = Vec::new();
    for protocol in Protocol::ALL {
        let mut connection = scene.connect(LINK_A, HOST_A, protocol).await;
        assert_eq!(connection.get("/nonce/before").await.unwrap().status, 200);
        open.push(connection);
    }
    let (sender, uploaded) = upload(open[1].share().unwrap(), "/sink").await;
    scene
        .stack
        .echo
        .saw("the upload", |seen| seen.uri == "/sink")
        .await
        .unwrap();
    let keys = "upstream.clusters.dicom.endpoints";
    takes_up(&mut scene, &[(&first, &second)], keys).await;
    for connection in &mut open {
        assert_eq!(connection.get("/nonce/after").await.unwrap().status, 200);
    }
    comes_to(&other, "/nonce/after").await;
    assert!(!scene.ingress_saw("/nonce/after"));
    // What has begun ends where it began.
    drop(sender);
    let uploaded = uploaded.await.unwrap();
    assert_eq!(
        (uploaded.status.as_u16(), &uploaded.json()["bytes"]),
        (200, &5.into())
    );
    comes_to(&scene.stack.ingress, "/sink").await;
    assert!(!saw(&other, "/sink"));
    let page = admin(&scene, "/").await;
    assert!(page.contains(&other.address().to_string()), "{page}");
    assert!(
        !page.contains(&scene.stack.ingress.address().to_string()),
        "{page}"
    );
}

#[tokio::test]
async fn a_cluster_comes_and_goes_and_never_while_a_route_leads_there() {
    let mut scene = Scene::start(&[]).await;
    let address = scene.stack.ingress.address();
    let name = accounts::INGRESS_NAME;
    let section = format!(
        "[upstream.clusters.fhir]\nname = \"{name}\"\nendpoints = [\"{address}\"]\n\n[access_log]"
    );
    let link = 7001;
    let host = "fhir.dicom.example";
    let route = routes_and(&format!(
        "\n[[accounts]]\nname = \"clinic\"\nkind = \"fhir\"\ncluster = \"fhir\"\nhosts = [\"{host}\"]\n\
         [[accounts.links]]\nlink_id = {link}\nstate = \"Approved\"\n"
    ));
    // Routes first: refused until the cluster is there, and taken without another change.
    scene.stack.postern.write_routes(&route).unwrap();
    scene.said("route file refused").await;
    assert_eq!(scene.status(link, host, "/nonce/early").await, 403);
    let reloaded = reload(&mut scene, &[("[access_log]", &section)]).await;
    assert_eq!(reloaded, Reloaded::Applied("upstream.clusters.fhir".into()));
    until("the route", async || {
        scene.status(link, host, "/nonce/fhir").await == 200
    })
    .await;
    let refused = reload(&mut scene, &[(&section, "[access_log]")]).await;
    let Reloaded::Refused(why) = refused else {
        panic!("{refused:?}");
    };
    assert!(why.contains("there is no cluster `fhir`"), "{why}");
    assert_eq!(scene.status(link, host, "/nonce/still").await, 200);

    scene
        .stack
        .postern
        .write_routes(&accounts::routes())
        .unwrap();
    until("no route", async || {
        scene.status(link, host, "/nonce/fhir").await == 403
    })
    .await;
    takes_up(&mut scene, &[], "upstream.clusters.fhir").await;
}

/// The certificate that a new handshake shows.
async fn shown(scene: &Scene) -> CertificateDer<'static> {
    let data = scene.stack.postern.data();
    let stream = open(data, None, &Header::link(LINK_A)).await.unwrap();
    let tls = scene.stack.tls().unwrap();
    let stream = tls.handshake(stream, Some(HOST_A), Protocol::Http1).await;
    let stream = stream.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0]
        .clone()
        .into_owned()
}

fn certificate(issued: &Issued) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(issued.chain_pem.as_bytes()).unwrap()
}

#[tokio::test]
async fn certificates_are_taken_from_other_places() {
    let mut scene = Scene::start(&[]).await;
    let place = |name: &str| scene.folder.path().join("certs").join(name);
    let credentials = &scene.stack.credentials;
    let (server, client) = (place("server-2"), place("client-2"));
    let issued = credentials.public.server(&[CERTIFICATE_NAME]).unwrap();
    issued.write_to(&server).unwrap();
    let identity = credentials
        .internal
        .client("postern-2.internal.example")
        .unwrap();
    identity.write_to(&client).unwrap();
    let [server, client, server_before, client_before] =
        [&server, &client, &credentials.private, &credentials.client]
            .map(|path| path.display().to_string());

    let mut kept = scene.connect(LINK_A, HOST_A, Protocol::Http2).await;
    assert_eq!(kept.get("/nonce/before").await.unwrap().status, 200);
    assert_ne!(shown(&scene).await, certificate(&issued));
    let generation = scene.metric("postern_credential_generation", &[]).await;
    // Only the certificate for clients: the connections to the ingress stay as they are.
    takes_up(&mut scene, &[(&server_before, &server)], "tls.certificates").await;
    assert_eq!(shown(&scene).await, certificate(&issued));
    assert!(
        scene
            .metric_is("postern_credential_generation", &[], generation)
            .await
    );
    let path = |path| [("use", "server"), ("path", path)];
    assert!(
        scene
            .metric_is("postern_credential_info", &path(&*server), 1.0)
            .await
    );
    assert!(
        scene
            .metric_is("postern_credential_info", &path(&*server_before), 0.0)
            .await
    );

    takes_up(
        &mut scene,
        &[(&client_before, &client)],
        "upstream.identity",
    )
    .await;
    assert!(
        scene
            .metric_is("postern_credential_generation", &[], generation + 1.0)
            .await
    );
    assert_eq!(kept.get("/nonce/after").await.unwrap().status, 200);
    let line = scene
        .stack
        .ingress
        .saw("the new identity", |line| line["uri"] == "/nonce/after")
        .await
        .unwrap();
    assert_eq!(line["client_dn"], "CN=postern-2.internal.example", "{line}");
    let listed = admin(&scene, "/certs").await;
    assert!(
        listed.contains(&server) && listed.contains(&client),
        "{listed}"
    );
    assert!(!listed.contains(&server_before), "{listed}");
}

#[tokio::test]
async fn who_is_refused_is_told_in_another_way() {
    let mut scene = Scene::start(&[]).await;
    assert_eq!(
        scene.status(LINK_PENDING, HOST_A, "/nonce/pending").await,
        403
    );
    takes_up(
        &mut scene,
        &[("[tls]\n", "[tls]\nrefuse = \"alert\"\n")],
        "tls.refuse",
    )
    .await;
    let refused = scene
        .stack
        .connect(LINK_PENDING, HOST_A, Protocol::Http1)
        .await;
    let alert = refused.err().and_then(|error| error.alert());
    assert_eq!(alert, Some(rustls::AlertDescription::AccessDenied));
}

#[tokio::test]
async fn the_log_level_is_the_files_when_the_file_changes_it() {
    let mut scene = Scene::start(&[]).await;
    let debug = ("[access_log]", "[log]\nlevel = \"debug\"\n\n[access_log]");
    takes_up(&mut scene, &[debug], "log.level").await;
    assert_eq!(admin(&scene, "/log-level").await, "debug\n");
    let mut connection = Connection::plain(scene.stack.postern.admin())
        .await
        .unwrap();
    let request = connection.request(Method::PUT, "/log-level").unwrap();
    let request = request
        .body(postern_loadtests::stack::client::full("info"))
        .unwrap();
    assert_eq!(connection.fetch(request).await.unwrap().status, 200);
    let other = ("[tls]\n", "[tls]\ntimeout = \"9s\"\n");
    takes_up(&mut scene, &[other], "tls.timeout").await;
    assert_eq!(admin(&scene, "/log-level").await, "info\n");
}
