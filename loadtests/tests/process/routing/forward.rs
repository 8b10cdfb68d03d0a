//! An ingress that decides by itself: mode `forward`, and nginx asks the service who may pass.

use postern_loadtests::proxy_v2::Header;
use postern_loadtests::stack::accounts::{
    CERTIFICATE_NAME, HOST_A, HOST_B, HOST_NOBODY, INGRESS_NAME, LINK_A, LINK_PENDING, LINK_UNKNOWN,
};
use postern_loadtests::stack::client::{Answer, Protocol, Tls, empty};
use postern_loadtests::stack::credentials::Credentials;
use postern_loadtests::stack::echo::Echo;
use postern_loadtests::stack::nginx::{Authority, Nginx, NginxOptions};
use postern_loadtests::stack::postern::{Postern, PosternOptions};
use postern_loadtests::stack::routing::{ROUTING_NAME, Routing, RoutingOptions};
use tempfile::TempDir;

use crate::scene::until;

struct Forward {
    postern: Postern,
    _nginx: Nginx,
    routing: Routing,
    echo: Echo,
    tls: Tls,
    _folder: TempDir,
}

impl Forward {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path();
        let certs = place.join("certs");
        let credentials = Credentials::create(&certs, &[CERTIFICATE_NAME], INGRESS_NAME).unwrap();
        let options = RoutingOptions::default();
        let routing = Routing::start(&place.join("routing"), &credentials, &options).await;
        let routing = routing.unwrap_or_else(|error| panic!("{error}"));
        routing.operator().unwrap().seed().await.unwrap();
        let echo = Echo::start(None).await.unwrap();
        let options = NginxOptions {
            backend: Some(echo.address()),
            authority: Some(Authority {
                address: routing.address(),
                name: ROUTING_NAME.to_owned(),
                ca: routing.ca(),
                identity: routing.asking_identity(),
            }),
            ..NginxOptions::default()
        };
        let nginx = Nginx::start(&place.join("nginx"), &credentials, &options).await;
        let nginx = nginx.unwrap_or_else(|error| panic!("{error}"));
        let options = PosternOptions {
            top_level: "mode = \"forward\"\nforward_cluster = \"dicom\"".to_owned(),
            ..PosternOptions::new(nginx.address())
        };
        let postern = Postern::start(&place.join("postern"), &credentials, &options).await;
        Self {
            postern: postern.unwrap_or_else(|error| panic!("{error}")),
            _nginx: nginx,
            routing,
            echo,
            tls: Tls::trusting(&credentials.public_ca).unwrap(),
            _folder: folder,
        }
    }

    /// What a client gets that claims to be another one.
    async fn get(&self, link_id: u32, host: &str, path: &str) -> Answer {
        let (data, header) = (self.postern.data(), Header::link(link_id));
        let protocol = Protocol::Http2;
        let connection = self.tls.connect(data, &header, host, protocol).await;
        let mut connection = connection.unwrap();
        let request = connection.request(http::Method::GET, path).unwrap();
        let request = request
            .header("x-ms-private-link-id", LINK_A.to_string())
            .header("x-original-host", HOST_A);
        connection
            .fetch(request.body(empty()).unwrap())
            .await
            .unwrap()
    }

    fn back_end_saw(&self, path: &str) -> bool {
        self.echo.seen().iter().any(|seen| seen.uri == path)
    }
}

#[tokio::test]
async fn nginx_asks_the_service_over_mutual_tls_and_does_as_it_says() {
    let mut forward = Forward::start().await;
    let answer = forward.get(LINK_A, HOST_A, "/allowed").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(forward.back_end_saw("/allowed"));
    for (link_id, host, path) in [
        (LINK_UNKNOWN, HOST_A, "/unknown"),
        (LINK_PENDING, HOST_A, "/pending"),
        (LINK_A, HOST_B, "/another"),
        (LINK_A, HOST_NOBODY, "/nobody"),
    ] {
        let answer = forward.get(link_id, host, path).await;
        assert_eq!(answer.status, 403, "{path}: {}", answer.text());
        assert!(!forward.back_end_saw(path), "{path}");
    }

    let operator = forward.routing.operator().unwrap();
    operator.approve("hospital-a", LINK_PENDING).await.unwrap();
    assert_eq!(
        forward.get(LINK_PENDING, HOST_A, "/approved").await.status,
        200
    );
    operator.reject("hospital-a", LINK_PENDING).await.unwrap();
    assert_eq!(
        forward.get(LINK_PENDING, HOST_A, "/rejected").await.status,
        403
    );

    forward.routing.kill();
    let answer = forward.get(LINK_A, HOST_A, "/down").await;
    assert_eq!(answer.status, 500, "{}", answer.text());
    assert!(!forward.back_end_saw("/down"));
    forward.routing.restart().await.unwrap();
    until("an answer", async || {
        forward.get(LINK_A, HOST_A, "/up").await.status == 200
    })
    .await;
}
