//! A service with its file, operators with certificates, and the command that asks.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use postern_certs::dev_ca::DevCa;
use postern_control::routing::store::Store;
use postern_control::routing::{Config, Service};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The name in the service's certificate.
pub const NAME: &str = "routing.internal.example";

/// What a command did.
#[derive(Debug, PartialEq, Eq)]
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// A file, and perhaps a service that has it open.
pub struct Scene {
    pub folder: TempDir,
    service: Option<Running>,
}

/// A service that answers.
struct Running {
    port: u16,
    store: std::sync::Arc<dyn Store>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    runtime: Runtime,
}

/// Where the books are that a command is to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    Service,
    File,
}

impl Scene {
    /// An empty file, and nobody who has it open.
    pub fn with_file() -> Self {
        let scene = Self {
            folder: tempfile::tempdir().unwrap(),
            service: None,
        };
        let empty = r#"{"format": 1, "accounts": []}"#;
        let path = scene.file().display().to_string();
        let made = scene.run(&["import", "-", "--create", "--file", &path], empty);
        assert_eq!(made.code, 0, "{made:?}");
        scene
    }

    /// A service with empty books.
    pub fn with_service() -> Self {
        Self::with_service_of("")
    }

    /// The same, with more of a configuration.
    pub fn with_service_of(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca = DevCa::new("Internal CA").unwrap();
        let issued = [
            ("server", ca.server(&[NAME])),
            ("operator", ca.client("operator.example")),
            ("reader", ca.client("reader.example")),
            ("stranger", ca.client("stranger.example")),
            (
                "foreign",
                DevCa::new("Foreign CA").unwrap().client("operator.example"),
            ),
        ];
        for (name, leaf) in issued {
            leaf.unwrap().write_to(&folder.path().join(name)).unwrap();
        }
        std::fs::write(folder.path().join("ca.pem"), ca.ca_pem()).unwrap();
        let path = folder.path().join("routing.toml");
        std::fs::write(&path, format!("{CONFIG}{more}")).unwrap();
        let mut config = Config::load(&path, std::iter::empty()).unwrap();
        // Any port, which an operator cannot want.
        let any = "127.0.0.1:0".parse().unwrap();
        (config.listen.address, config.admin.listen) = (any, any);
        Self {
            folder,
            service: Some(Running::start(&config)),
        }
    }

    /// Ends the service.
    pub fn end_service(&mut self) {
        let running = self.service.take().unwrap();
        running.stop.send_replace(true);
        running.runtime.block_on(running.task).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn file(&self) -> PathBuf {
        self.path("routing.sqlite")
    }

    /// The service's store, whose hand is another writer's.
    pub fn store(&self) -> &dyn Store {
        self.service.as_ref().unwrap().store.as_ref()
    }

    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.service.as_ref().unwrap().runtime.block_on(work)
    }

    /// The service's port.
    pub fn port(&self) -> u16 {
        self.service.as_ref().unwrap().port
    }

    /// Asks as the operator: `words` is split at blanks.
    pub fn ask(&self, at: At, words: &str) -> Done {
        self.ask_with(at, &words.split_whitespace().collect::<Vec<_>>(), "")
    }

    pub fn ask_with(&self, at: At, arguments: &[&str], stdin: &str) -> Done {
        let place = match at {
            At::Service => self.service_arguments("operator"),
            At::File => vec!["--file".to_owned(), text(&self.file())],
        };
        let place = place.iter().map(String::as_str);
        self.run(
            &arguments.iter().copied().chain(place).collect::<Vec<_>>(),
            stdin,
        )
    }

    /// How to ask the service as `who`.
    pub fn service_arguments(&self, who: &str) -> Vec<String> {
        let service = format!("https://127.0.0.1:{}", self.port());
        let (identity, trust) = (text(&self.path(who)), text(&self.path("ca.pem")));
        let arguments = [
            "--service",
            &service,
            "--name",
            NAME,
            "--identity",
            &identity,
        ];
        let arguments = arguments.into_iter().chain(["--trust", &trust]);
        arguments.map(str::to_owned).collect()
    }

    /// Starts the command with these arguments and no others.
    pub fn start(&self, arguments: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_postern-control"))
            .arg("routes")
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Runs the command with these arguments and no others.
    pub fn run(&self, arguments: &[&str], stdin: &str) -> Done {
        let mut child = self.start(arguments);
        let mut pipe = child.stdin.take().unwrap();
        // A command that does not read may have ended.
        let _ = pipe.write_all(stdin.as_bytes());
        drop(pipe);
        let Output {
            status,
            stdout,
            stderr,
        } = child.wait_with_output().unwrap();
        Done {
            code: status.code().unwrap(),
            out: String::from_utf8(stdout).unwrap(),
            err: String::from_utf8(stderr).unwrap(),
        }
    }
}

impl Running {
    fn start(config: &Config) -> Self {
        let runtime = Runtime::new().unwrap();
        let service = runtime.block_on(Service::new(config)).unwrap();
        let port = service.address().unwrap().port();
        let store = service.store();
        let (stop, stopped) = watch::channel(false);
        let task = runtime.spawn(service.run(stopped));
        Self {
            port,
            store,
            stop,
            task,
            runtime,
        }
    }
}

impl Done {
    /// Standard output of what must have gone well.
    pub fn ok(self) -> String {
        assert!(self.code == 0 && self.err.is_empty(), "{self:?}");
        self.out
    }

    /// The message of what must have failed so, with nothing on standard output.
    pub fn failed(self, code: i32) -> String {
        assert!(self.code == code && self.out.is_empty(), "{self:?}");
        self.err
    }

    /// Standard output as JSON.
    pub fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.ok()).unwrap()
    }
}

pub fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

const CONFIG: &str = r#"
[tls]
identity = "server"
trust = "ca.pem"
[clients.operators]
san = "operator.example"
roles = ["read", "write"]
[clients.readers]
san = "reader.example"
roles = ["read"]
[store]
path = "routing.sqlite"
"#;

/// Books of two accounts.
pub const BOOKS: &str = r#"{"format": 1, "accounts": [
  {"account": "clinic/images",
   "properties": {"kind": "dicom", "hosts": ["images.clinic.example"], "cluster": "dicom"},
   "connections": [
     {"name": "pe-1", "properties": {"linkId": "7", "state": "Pending", "requestMessage": "for ward 3"}},
     {"name": "pe-2", "properties": {"linkId": "8", "state": "Approved"}},
     {"name": "pe-3", "properties": {"linkId": "9", "state": "Disconnected", "description": "gone"}}]},
  {"account": "clinic/records",
   "properties": {"kind": "fhir", "hosts": ["records.clinic.example"], "cluster": "fhir",
     "customerKey": {"keyUrl": "https://v.vault.azure.net/keys/k", "state": "not_accessible"}},
   "connections": [{"name": "pe-1", "properties": {"linkId": "8", "state": "Pending"}}]}]}"#;
