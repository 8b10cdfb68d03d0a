//! Event Grid's deliveries, to a sidecar that runs.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::super::{NotificationOptions, SidecarError};
use super::scene::{Scene, manifest, server};

const TOKEN: &str = "a-token-that-nobody-guesses";

struct Running {
    scene: Scene,
    client: Client,
    events: String,
    admin: String,
    stop: watch::Sender<bool>,
    done: JoinHandle<Result<(), SidecarError>>,
}

async fn free_address() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

async fn running() -> Running {
    let mut scene = Scene::start().await;
    std::fs::write(scene.path("token"), format!("{TOKEN}\n")).unwrap();
    let (admin, listen) = (free_address().await, free_address().await);
    scene.config.admin.listen = admin;
    scene.config.rest.start_spread = Duration::ZERO;
    scene.config.notifications = Some(NotificationOptions {
        listen,
        token_file: scene.path("token"),
        spread: Duration::ZERO,
    });
    let (stop, stopped) = watch::channel(false);
    let done = tokio::spawn(scene.another().run(stopped));
    let running = Running {
        scene,
        client: Client::new(),
        events: format!("http://{listen}/events"),
        admin: format!("http://{admin}"),
        stop,
        done,
    };
    eventually("ready", async || {
        running.get("/readyz").await.0 == StatusCode::OK
    })
    .await;
    running
}

/// Waits for a condition. Nothing here takes as long.
async fn eventually(what: &str, is_so: impl AsyncFn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !is_so().await {
        assert!(Instant::now() < end, "not {what} in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl Running {
    async fn get(&self, path: &str) -> (StatusCode, String) {
        let answer = self
            .client
            .get(format!("{}{path}", self.admin))
            .send()
            .await;
        match answer {
            Ok(answer) => (answer.status(), answer.text().await.unwrap()),
            // Not listening yet.
            Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()),
        }
    }

    async fn deliver(&self, query: &str, body: String) -> (StatusCode, String) {
        let request = self
            .client
            .post(format!("{}{query}", self.events))
            .body(body);
        let answer = request.send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    }

    async fn notify(&self, event_type: &str, data: Value) -> (StatusCode, String) {
        let event = json!([{ "id": "1", "eventType": event_type, "data": data, "subject": "s" }]);
        self.deliver(&format!("?token={TOKEN}"), event.to_string())
            .await
    }

    async fn delivered(&self, outcome: &str) -> bool {
        let (_, text) = self.get("/metrics").await;
        let line = format!("postern_control_notifications_total{{outcome=\"{outcome}\"}} 1\n");
        text.contains(&line)
    }
}

#[tokio::test]
async fn a_notification_makes_the_next_look_earlier() {
    let running = running().await;
    let version = running.scene.vault.add("private", &server()).unwrap();
    let vault = running.scene.vault.address().ip().to_string();
    let created = "Microsoft.KeyVault.CertificateNewVersionCreated";
    let data = json!({ "VaultName": vault, "ObjectName": "other", "ObjectType": "Certificate" });
    assert_eq!(running.notify(created, data).await.0, StatusCode::OK);
    assert!(running.delivered("ignored").await);
    let data = json!({ "VaultName": vault, "ObjectName": "private", "ObjectType": "Certificate" });
    assert_eq!(running.notify(created, data).await.0, StatusCode::OK);
    assert!(running.delivered("woke").await);
    let store = running.scene.store("private");
    eventually("published", async || {
        manifest(&store).is_some_and(|manifest| manifest.label.ends_with(&version))
    })
    .await;
    running.stop.send_replace(true);
    running.done.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_subscription_is_confirmed_to_who_shows_the_token_and_nothing_else_is_answered() {
    let running = running().await;
    let data = json!({ "validationCode": "512d38b6" });
    let validation = "Microsoft.EventGrid.SubscriptionValidationEvent";
    let (status, answer) = running.notify(validation, data).await;
    assert_eq!(status, StatusCode::OK);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer, json!({ "validationResponse": "512d38b6" }));
    assert!(running.delivered("validated").await);
    for query in ["", "?token=", "?token=another-token-that-is-as-long"] {
        let (status, answer) = running.deliver(query, "[]".to_owned()).await;
        assert_eq!(
            (status, answer.as_str()),
            (StatusCode::UNAUTHORIZED, ""),
            "{query}"
        );
    }
    let query = format!("?token={TOKEN}");
    let (status, _) = running.deliver(&query, "{".to_owned()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(running.delivered("malformed").await);
    let (status, _) = running.deliver(&query, " ".repeat(64 * 1024 + 1)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    // The token is read anew: it can be changed while running.
    std::fs::write(running.scene.path("token"), "the-next-token-of-this-host").unwrap();
    let (status, _) = running.deliver(&query, "[]".to_owned()).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn the_admin_listener_tells_who_lives_and_what_is_published() {
    let running = running().await;
    assert_eq!(
        running.get("/livez").await,
        (StatusCode::OK, "ok\n".to_owned())
    );
    let (status, lines) = running.get("/readyz").await;
    let all = "trust: ok\nclient: ok\nprivate: ok\ntickets: ok\n";
    assert_eq!((status, lines.as_str()), (StatusCode::OK, all));
    let (_, text) = running.get("/metrics").await;
    assert!(text.contains("postern_control_ready 1\n"), "{text}");
    assert!(text.contains("process_resident_memory_bytes "), "{text}");
}
