//! Certificates and keys that change while traffic flows: what is proven is used at once, what is not is
//! refused with its reason, and no request fails for it.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use postern_certs::dev_ca::{DevCa, Issued, LeafOptions};
use postern_certs::{Purpose, Store};
use postern_loadtests::proxy_v2::Header;
use postern_loadtests::stack::accounts::{CERTIFICATE_NAME, HOST_A, INGRESS_NAME, LINK_A};
use postern_loadtests::stack::client::{Connection, Protocol, Tls, open};
use postern_loadtests::stack::credentials::Credentials;
use postern_loadtests::stack::echo::Echo;
use postern_loadtests::stack::ingress::{Ingress, IngressKind};
use postern_loadtests::stack::local::LocalStack;
use postern_loadtests::stack::postern::{Postern, PosternOptions};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::task::JoinHandle;

use crate::scene::{Scene, until, with};

const REFUSALS: &str = "postern_credential_refusals_total";

/// Requests over new and over kept connections, until told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<u32>>,
}

impl Load {
    fn begin(scene: &Scene) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let tls = scene.stack.tls().unwrap();
        let data = scene.stack.postern.data();
        let clients = [
            (Protocol::Http1, true),
            (Protocol::Http1, false),
            (Protocol::Http2, true),
            (Protocol::Http2, false),
        ]
        .map(|(protocol, keeps)| {
            let (tls, stop) = (tls.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let header = Header::link(LINK_A);
                let connect = || tls.connect(data, &header, HOST_A, protocol);
                let mut connection = connect().await.unwrap();
                let mut requests = 0;
                while !stop.load(Ordering::Relaxed) {
                    let answer = connection.get("/nonce/load").await.unwrap();
                    assert_eq!(
                        (answer.status.as_u16(), answer.text().as_str()),
                        (200, "load")
                    );
                    requests += 1;
                    if !keeps {
                        connection = connect().await.unwrap();
                    }
                }
                requests
            })
        });
        Self {
            stop,
            clients: clients.into(),
        }
    }

    /// Each client got an answer to each of its requests, of which there were some.
    async fn ends_without_a_failure(self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            assert!(client.await.unwrap() > 0);
        }
    }
}

fn first_certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

/// The certificate that a new handshake shows.
async fn shown(scene: &Scene) -> CertificateDer<'static> {
    let tls = Tls::trusting(&scene.stack.credentials.public_ca).unwrap();
    let stream = open(scene.stack.postern.data(), None, &Header::link(LINK_A))
        .await
        .unwrap();
    let stream = tls
        .handshake(stream, Some(HOST_A), Protocol::Http1)
        .await
        .unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0]
        .clone()
        .into_owned()
}

async fn is_shown(scene: &Scene, issued: &Issued) {
    let expected = first_certificate(&issued.chain_pem);
    until("the new certificate", async || {
        shown(scene).await == expected
    })
    .await;
}

fn server(scene: &Scene) -> Issued {
    scene
        .stack
        .credentials
        .public
        .server(&[CERTIFICATE_NAME])
        .unwrap()
}

/// A stack whose Postern reads its certificates from stores.
async fn with_stores() -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("certs");
    let mut credentials = Credentials::create(&place, &[CERTIFICATE_NAME], INGRESS_NAME).unwrap();
    credentials.private = place.join("private-store");
    credentials.client = place.join("client-store");
    credentials.trust = place.join("trust-store");
    let issued = credentials.public.server(&[CERTIFICATE_NAME]).unwrap();
    issued
        .publish(&Store::open(&credentials.private).unwrap(), "first")
        .unwrap();
    let issued = credentials
        .internal
        .client("postern-1.internal.example")
        .unwrap();
    issued
        .publish(&Store::open(&credentials.client).unwrap(), "first")
        .unwrap();
    let trust = Store::open(&credentials.trust).unwrap();
    credentials.internal.publish_trust(&trust, "first").unwrap();

    let echo = Echo::start(None).await.unwrap();
    let ingress = Ingress::start(
        IngressKind::Nginx,
        folder.path(),
        &credentials,
        true,
        echo.address(),
    )
    .await
    .unwrap();
    let options = PosternOptions {
        environment: with(&[]).environment,
        ..PosternOptions::new(ingress.address())
    };
    let postern = Postern::start(&folder.path().join("postern"), &credentials, &options)
        .await
        .unwrap();
    let stack = LocalStack {
        postern,
        routing: None,
        ingress,
        echo,
        credentials,
    };
    Scene { stack, folder }
}

/// Takes `publish` for a rotation of the server's certificate under load.
async fn rotates(scene: &Scene, publish: impl Fn(&Issued)) {
    let mut open = scene.connect(LINK_A, HOST_A, Protocol::Http2).await;
    assert_eq!(open.get("/nonce/before").await.unwrap().status, 200);
    let load = Load::begin(scene);
    let before = shown(scene).await;
    for _ in 0..3 {
        let issued = server(scene);
        assert_ne!(before, first_certificate(&issued.chain_pem));
        publish(&issued);
        is_shown(scene, &issued).await;
    }
    load.ends_without_a_failure().await;
    // What was open stays open, with the certificate of its handshake.
    assert_eq!(open.get("/nonce/after").await.unwrap().status, 200);
    let said = scene.stack.postern.operational_log().all();
    let taken = said
        .iter()
        .filter(|line| line["message"] == "credentials in use" && line["used_as"] == "server");
    assert_eq!(taken.count(), 4);
    assert!(
        scene
            .metric("postern_credential_not_after_seconds", &[("use", "server")])
            .await
            > 0.0
    );
}

#[tokio::test]
async fn a_server_certificate_published_in_a_store_is_used_and_no_request_fails() {
    let scene = with_stores().await;
    let store = Store::open(&scene.stack.credentials.private).unwrap();
    rotates(&scene, |issued| {
        issued.publish(&store, "next").unwrap();
    })
    .await;
    assert!(scene.metric_is(REFUSALS, &[], 0.0).await);
}

#[tokio::test]
async fn a_server_certificate_written_to_plain_files_is_used_and_no_request_fails() {
    let scene = Scene::start(&[]).await;
    // One file after the other: in between, the key is not the certificate's, and the old ones stay in use.
    rotates(&scene, |issued| {
        issued.write_to(&scene.stack.credentials.private).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_server_certificate_behind_a_swapped_link_is_used_and_no_request_fails() {
    let scene = Scene::start(&[]).await;
    let place = scene.folder.path().join("mount");
    let private = scene.stack.credentials.private.clone();
    let number = std::cell::Cell::new(0);
    rotates(&scene, |issued| {
        let folder = place.join(number.replace(number.get() + 1).to_string());
        issued.write_to(&folder).unwrap();
        for name in ["tls.crt", "tls.key", "ca.crt"] {
            swap(&private.join(name), &Path::new("..data").join(name));
        }
        swap(&private.join("..data"), &folder);
    })
    .await;
}

/// Makes `link` point to `target` by one rename, as the kubelet does.
fn swap(link: &Path, target: &Path) {
    let mut new = link.as_os_str().to_owned();
    new.push(".swap");
    std::os::unix::fs::symlink(target, &new).unwrap();
    fs::rename(&new, link).unwrap();
}

async fn is_refused(scene: &Scene, used_as: &str, reason: &str) {
    scene
        .counted(REFUSALS, &[("use", used_as), ("reason", reason)], 1.0)
        .await;
    let refused = |line: &serde_json::Value| {
        line["message"] == "credentials refused" && line["reason"] == reason
    };
    let line = scene
        .stack
        .postern
        .operational_log()
        .wait_for(reason, refused)
        .await;
    let line = line.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        (&line["used_as"], &line["previous_kept"]),
        (&used_as.into(), &true.into()),
        "{line}"
    );
    assert!(!line.to_string().contains("-----BEGIN"), "{line}");
}

#[tokio::test]
async fn bad_files_are_refused_with_their_reason_and_the_last_good_ones_stay() {
    let scene = Scene::start(&[]).await;
    let good = shown(&scene).await;
    let public = &scene.stack.credentials.public;
    let made = |change: &dyn Fn(&mut LeafOptions)| {
        let mut options = LeafOptions::new(Purpose::Server, [CERTIFICATE_NAME]);
        change(&mut options);
        public.leaf(&options).unwrap()
    };
    let mut truncated = made(&|_| ());
    truncated.chain_pem.truncate(truncated.chain_pem.len() / 2);
    let mut foreign_key = made(&|_| ());
    foreign_key.key_pem = made(&|_| ()).key_pem;
    let cases = [
        (truncated, "truncated_pem"),
        (foreign_key, "key_mismatch"),
        (
            made(&|options| options.not_after = Some(1_600_000_000)),
            "expired",
        ),
        (
            made(&|options| options.not_before = Some(4_000_000_000)),
            "not_yet_valid",
        ),
        (
            made(&|options| options.purpose = Purpose::Client),
            "wrong_usage",
        ),
    ];
    for (issued, reason) in cases {
        issued.write_to(&scene.stack.credentials.private).unwrap();
        is_refused(&scene, "server", reason).await;
        assert_eq!(shown(&scene).await, good, "{reason}");
        assert_eq!(
            scene.status(LINK_A, HOST_A, "/nonce/kept").await,
            200,
            "{reason}"
        );
    }
    fs::remove_file(scene.stack.credentials.private.join("tls.key")).unwrap();
    is_refused(&scene, "server", "no_key").await;
    assert_eq!(shown(&scene).await, good);
    let next = server(&scene);
    next.write_to(&scene.stack.credentials.private).unwrap();
    is_shown(&scene, &next).await;
}

#[tokio::test]
async fn a_generation_that_is_not_whole_is_refused_and_the_last_good_one_stays() {
    let scene = with_stores().await;
    let good = shown(&scene).await;
    let private = scene.stack.credentials.private.clone();
    let (first, broken) = (private.join("g-0000000001"), private.join("g-0000000002"));
    fs::create_dir(&broken).unwrap();
    for name in ["chain.pem", "manifest.toml"] {
        fs::copy(first.join(name), broken.join(name)).unwrap();
    }
    fs::write(broken.join("key.pem"), "-----BEGIN PRIVATE KEY-----\n").unwrap();
    swap(&private.join("current"), Path::new("g-0000000002"));
    is_refused(&scene, "server", "damaged").await;
    assert_eq!(shown(&scene).await, good);
    let next = server(&scene);
    next.publish(&Store::open(&private).unwrap(), "next")
        .unwrap();
    is_shown(&scene, &next).await;
}

#[tokio::test]
async fn a_rotated_client_identity_is_shown_to_the_ingress_and_no_request_fails() {
    let scene = with_stores().await;
    let load = Load::begin(&scene);
    let store = Store::open(&scene.stack.credentials.client).unwrap();
    for number in 2..=3_u32 {
        let name = format!("postern-{number}.internal.example");
        scene
            .stack
            .credentials
            .internal
            .client(&name)
            .unwrap()
            .publish(&store, "next")
            .unwrap();
        let subject = format!("CN={name}");
        let seen = scene
            .stack
            .ingress
            .saw(&subject, |line| line["client_dn"] == subject)
            .await;
        assert_eq!(
            seen.unwrap_or_else(|error| panic!("{error}"))["client_verify"],
            "SUCCESS"
        );
        scene
            .counted("postern_credential_generation", &[], f64::from(number))
            .await;
    }
    load.ends_without_a_failure().await;
    // After the switch, nothing is sent by a former identity any more.
    assert_eq!(scene.status(LINK_A, HOST_A, "/nonce/last").await, 200);
    let seen = scene
        .stack
        .ingress
        .saw("the last", |line| line["uri"] == "/nonce/last")
        .await
        .unwrap();
    assert_eq!(seen["client_dn"], "CN=postern-3.internal.example");
}

#[tokio::test]
async fn operators_see_which_version_is_in_use_where_and_until_when() {
    let scene = with_stores().await;
    let store = Store::open(&scene.stack.credentials.private).unwrap();
    let issued = server(&scene);
    issued.publish(&store, "private/2").unwrap();
    is_shown(&scene, &issued).await;
    let admin = scene.stack.postern.admin();
    let mut connection = Connection::plain(admin).await.unwrap();
    let listing = connection.get("/certs").await.unwrap().json();
    let rows = listing["certificates"].as_array().unwrap();
    let told: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row["use"].as_str().unwrap(),
                row["version"].as_str().unwrap(),
            )
        })
        .collect();
    let expected = [
        ("server", "private/2"),
        ("client", "first"),
        ("trust", "first"),
    ];
    assert_eq!(told, expected, "{listing}");
    let bundle = issued.bundle().unwrap();
    assert_eq!(rows[0]["serial"], bundle.facts().serial);
    assert_eq!(
        rows[0]["fingerprint"],
        bundle.facts().fingerprint.to_string()
    );
    assert_eq!(rows[0]["names"], serde_json::json!([CERTIFICATE_NAME]));
    assert_eq!(
        (&rows[0]["generation"], &rows[1]["generation"]),
        (&2.into(), &1.into())
    );

    let info = "postern_credential_info";
    let of = |version| [("use", "server"), ("version", version)];
    assert!(scene.metric_is(info, &of("private/2"), 1.0).await);
    assert!(scene.metric_is(info, &of("first"), 0.0).await);
    let changes = "postern_credential_changes_total";
    assert!(scene.metric_is(changes, &[("use", "server")], 2.0).await);
    assert!(scene.metric_is(changes, &[("use", "trust")], 1.0).await);
}

#[tokio::test]
async fn the_internal_authority_is_replaced_by_an_overlap_and_no_request_fails() {
    let scene = Scene::start(&[]).await;
    let Credentials {
        trust,
        ingress,
        internal,
        ..
    } = &scene.stack.credentials;
    let load = Load::begin(&scene);
    let next = DevCa::new("next internal authority").unwrap();
    let both = format!("{}{}", internal.ca_pem(), next.ca_pem());
    // Everyone trusts the new one first, then its leaves come into use.
    fs::write(trust.join("ca.crt"), &both).unwrap();
    scene
        .counted("postern_credential_generation", &[], 2.0)
        .await;
    next.server(&[INGRESS_NAME])
        .unwrap()
        .write_to(ingress)
        .unwrap();
    fs::write(ingress.join("ca.crt"), &both).unwrap();
    scene
        .stack
        .ingress
        .reload(&scene.stack.credentials)
        .unwrap();
    // Until the last process with the old certificate is gone, nobody may stop trusting the old authority.
    let log = scene.folder.path().join("nginx/nginx.stderr");
    until("the end of the ingress's old worker", async || {
        fs::read_to_string(&log)
            .unwrap()
            .contains("exited with code 0")
    })
    .await;
    fs::write(trust.join("ca.crt"), next.ca_pem()).unwrap();
    scene
        .counted("postern_credential_generation", &[], 3.0)
        .await;
    let mut connection: Connection = scene.connect(LINK_A, HOST_A, Protocol::Http2).await;
    assert_eq!(connection.get("/nonce/after").await.unwrap().status, 200);
    load.ends_without_a_failure().await;
    assert!(
        scene
            .metric_is("postern_requests_total", &[("status", "5xx")], 0.0)
            .await
    );
}
