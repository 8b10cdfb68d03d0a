//! A service in this process, with certificates of its own and three kinds of clients.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use postern_certs::dev_ca::DevCa;
use postern_control::routing::store::{Page, Store};
use postern_control::routing::{ClientOptions, Config, Role, Service};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::client::{Answer, Client, Connector, tls};

/// What there is.
pub struct Scene {
    pub ca: DevCa,
    pub folder: TempDir,
    pub store: Arc<dyn Store>,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    stop: watch::Sender<bool>,
    running: JoinHandle<()>,
}

pub const WORKSPACE: &str = "/v1/workspaces/clinic";
pub const ACCOUNT: &str = "/v1/workspaces/clinic/accounts/images";
pub const CONNECTION: &str =
    "/v1/workspaces/clinic/accounts/images/privateEndpointConnections/pe-1";

impl Scene {
    pub async fn start() -> Self {
        Self::with(|_| ()).await
    }

    /// With other options.
    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let ca = DevCa::new("Test CA").unwrap();
        let folder = TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name);
        let server = ca.server(&["routing.example"]).unwrap();
        server.write_to(&path("server")).unwrap();
        std::fs::create_dir(path("trust")).unwrap();
        std::fs::write(path("trust/ca.crt"), ca.ca_pem()).unwrap();
        let mut config = Config::default();
        config.listen.address = SocketAddr::from(([127, 0, 0, 1], 0));
        config.admin.listen = config.listen.address;
        config.tls.identity = path("server");
        config.tls.trust = path("trust");
        config.store.path = path("routing.sqlite");
        for (name, role) in [
            ("proxy", Role::Read),
            ("ingress", Role::Authorize),
            ("people", Role::Write),
        ] {
            let client = ClientOptions {
                san: Some(format!("{name}.example").parse().unwrap()),
                roles: vec![role],
            };
            config.clients.insert(name.into(), client);
        }
        change(&mut config);
        let service = Service::new(&config).await.unwrap();
        let (stop, stopped) = watch::channel(false);
        Self {
            ca,
            folder,
            store: service.store(),
            address: service.address().unwrap(),
            admin: service.admin_address().unwrap(),
            stop,
            running: tokio::spawn(service.run(stopped)),
        }
    }

    /// How a client with this name connects over HTTP/2.
    pub fn connector(&self, name: &str) -> Connector {
        self.connector_with(name, b"h2")
    }

    pub fn connector_with(&self, name: &str, alpn: &[u8]) -> Connector {
        let identity = self.ca.client(name).unwrap();
        Connector {
            address: self.address,
            tls: tls(self.ca.ca_pem(), Some(&identity), alpn),
            window: 1 << 20,
        }
    }

    /// Who may look up.
    pub async fn proxy(&self) -> Client {
        self.connector("proxy.example").connect().await.unwrap()
    }

    /// Who keeps the books.
    pub async fn people(&self) -> Client {
        self.connector("people.example").connect().await.unwrap()
    }

    /// A workspace with an account with a connection that is pending, of link 7.
    pub async fn filled(&self) -> Client {
        let mut people = self.people().await;
        for (path, body) in [
            (WORKSPACE, json!({"properties": {}})),
            (ACCOUNT, account(&["images.example"])),
            (CONNECTION, connection(7)),
        ] {
            let answer = people.put(path, &body).await;
            assert_eq!(answer.status, 201, "{answer:?}");
        }
        people
    }

    /// Everything that is kept, and every change.
    pub async fn dump(&self) -> String {
        let mut dump = String::new();
        let workspaces = self.store.workspaces(all()).await.unwrap();
        for (workspace, _) in &workspaces.items {
            let accounts = self.store.accounts(workspace, all()).await.unwrap();
            for (name, account) in &accounts.items {
                let id = format!("{workspace}/{name}").parse().unwrap();
                let connections = self.store.connections(&id, all()).await.unwrap();
                writeln!(dump, "{id} {account:?} {connections:?}").unwrap();
            }
        }
        let changes = self.store.changes(0, 1000).await.unwrap();
        format!("{workspaces:?}\n{dump}{changes:?}")
    }

    /// Tells it to stop and waits until it has.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        let ended = tokio::time::timeout(super::client::PATIENCE, self.running);
        ended.await.unwrap().unwrap();
    }

    /// Tells it to stop.
    pub fn tell_to_stop(&self) {
        self.stop.send_replace(true);
    }

    /// What its admin listener answers.
    pub async fn admin(&self, path: &str) -> (u16, String) {
        let url = format!("http://{}{path}", self.admin);
        let answer = reqwest::get(url).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}

fn all<N>() -> Page<N> {
    Page {
        after: None,
        max: 1000,
    }
}

pub fn account(hosts: &[&str]) -> Value {
    json!({"properties": {"kind": "dicom", "hosts": hosts, "cluster": "dicom"}})
}

pub fn connection(link: u32) -> Value {
    json!({"properties": {"linkIdentifier": link}})
}

pub async fn approve(people: &mut Client) -> Answer {
    people.post(&format!("{CONNECTION}/approve"), "").await
}
