//! The identities as the SDK finds them: in the environment of a process. So this test starts itself again, in that
//! environment, and asks the process to look into the vault.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use postern_certs::dev_ca::DevCa;
use postern_control::testing::identity::{
    CLIENT_ID, Identity as Source, IdentityFaults, IdentityOptions as SourceOptions,
};
use postern_control::testing::key_vault::{KeyVault, KeyVaultOptions};
use postern_control::vault::{Identity, IdentityOptions, Vault, VaultOptions};
use tempfile::TempDir;

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, AS_A_CLIENT, kind, client_id, url, ca] => {
            runtime.block_on(client(kind, client_id, url, ca));
        }
        _ => runtime.block_on(tests()),
    }
}

async fn tests() {
    a_managed_identity_reads_and_its_refused_token_is_replaced().await;
    a_managed_identity_of_another_client_id_is_refused_with_a_sentence().await;
    several_identities_and_no_client_id_are_refused_with_a_sentence().await;
    a_token_is_replaced_before_it_ends().await;
    a_workload_identity_reads_and_its_refused_token_is_replaced().await;
}

async fn a_managed_identity_reads_and_its_refused_token_is_replaced() {
    let scene = Scene::start(SourceOptions::default()).await;
    let mut client = scene.client("managed", CLIENT_ID);
    assert_eq!(client.look(), "ok");
    assert_eq!(client.look(), "ok");
    assert_eq!(scene.source.requests(), 1);
    // The SDK's credential keeps a token of a day; only ours drops it.
    scene.source.tokens().revoke();
    assert_eq!(client.look(), "ok");
    assert_eq!(scene.source.requests(), 2);
}

async fn a_managed_identity_of_another_client_id_is_refused_with_a_sentence() {
    let scene = Scene::start(SourceOptions::default()).await;
    let mut client = scene.client("managed", "5a7d1e00-0000-4000-8000-00000000ffff");
    let refused = client.look();
    assert!(
        refused.starts_with("identity: there is no token for the vault"),
        "{refused}"
    );
    assert!(
        refused.contains("has not been assigned to this resource"),
        "{refused}"
    );
}

async fn several_identities_and_no_client_id_are_refused_with_a_sentence() {
    let client_ids = vec![CLIENT_ID.to_owned(), "another".to_owned()];
    let scene = Scene::start(SourceOptions {
        client_ids,
        ..SourceOptions::default()
    })
    .await;
    let refused = scene.client("managed", "").look();
    assert!(
        refused.starts_with("identity: there is no token for the vault"),
        "{refused}"
    );
}

async fn a_token_is_replaced_before_it_ends() {
    // Less than the five minutes before which the SDK asks again.
    let scene = Scene::start(SourceOptions {
        lifetime: 240,
        ..SourceOptions::default()
    })
    .await;
    let mut client = scene.client("managed", CLIENT_ID);
    assert_eq!(client.look(), "ok");
    assert_eq!(client.look(), "ok");
    assert_eq!(scene.source.requests(), 2);
    // Only the challenge; no request carried a token that had ended.
    assert_eq!(scene.vault.log().count_status(401), 1);
    // While there is no new one, the old one is good to its end.
    scene.source.set_faults(IdentityFaults {
        error: Some(500),
        ..IdentityFaults::default()
    });
    assert_eq!(client.look(), "ok");
    scene.source.tokens().revoke();
    let refused = client.look();
    assert!(
        refused.starts_with("identity: there is no token for the vault"),
        "{refused}"
    );
}

async fn a_workload_identity_reads_and_its_refused_token_is_replaced() {
    let scene = Scene::start(SourceOptions::default()).await;
    let mut client = scene.client("workload", "");
    assert_eq!(client.look(), "ok");
    scene.source.tokens().revoke();
    assert_eq!(client.look(), "ok");
    assert_eq!(scene.source.requests(), 2);
}

/// A vault with one certificate, and what gives tokens for it.
struct Scene {
    source: Arc<Source>,
    vault: KeyVault,
    folder: TempDir,
}

impl Scene {
    async fn start(options: SourceOptions) -> Self {
        let source = Arc::new(Source::start_with(options).await.unwrap());
        let vault = KeyVault::start_with(KeyVaultOptions::default(), Arc::clone(&source));
        let vault = vault.await.unwrap();
        vault
            .add_ca("internal-ca", DevCa::new("Internal CA").unwrap())
            .unwrap();
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("ca.pem"), vault.ca_pem()).unwrap();
        std::fs::write(folder.path().join("assertion"), source.assertion()).unwrap();
        Self {
            source,
            vault,
            folder,
        }
    }

    fn client(&self, kind: &str, client_id: &str) -> Client {
        let ca = self.folder.path().join("ca.pem");
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([AS_A_CLIENT, kind, client_id, &self.vault.url()])
            .arg(&ca)
            .envs(match kind {
                "managed" => self.source.environment(),
                _ => self.source.workload_environment(),
            })
            .env(
                "AZURE_FEDERATED_TOKEN_FILE",
                self.folder.path().join("assertion"),
            )
            // The token endpoint of the workload identity is of the same CA.
            .env("SSL_CERT_FILE", &ca)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Client {
            orders: child.stdin.take().unwrap(),
            answers: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }
}

/// A process that looks into the vault when told to.
struct Client {
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    child: Child,
}

impl Client {
    fn look(&mut self) -> String {
        self.orders.write_all(b"look\n").unwrap();
        let mut answer = String::new();
        // The test's runtime has other threads, on which the stand-ins run.
        tokio::task::block_in_place(|| self.answers.read_line(&mut answer)).unwrap();
        answer.trim_end().to_owned()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn client(kind: &str, client_id: &str, url: &str, ca: &str) {
    let client_id = Some(client_id)
        .filter(|id| !id.is_empty())
        .map(str::to_owned);
    let options = match kind {
        "managed" => IdentityOptions::Managed { client_id },
        _ => IdentityOptions::Workload {
            client_id,
            tenant_id: None,
        },
    };
    let identity = Identity::new(options).unwrap();
    let options = VaultOptions {
        ca: Some(ca.into()),
        verify_challenge: false,
        ..VaultOptions::new(url)
    };
    let vault = Vault::new(&options, &identity).unwrap();
    for order in std::io::stdin().lines() {
        assert_eq!(order.unwrap(), "look");
        let answer = match vault.newest("internal-ca").await {
            Ok(_) => "ok".to_owned(),
            Err(error) => format!("{}: {error}", error.label()),
        };
        let line = format!("{answer}\n");
        std::io::stdout().write_all(line.as_bytes()).unwrap();
    }
}

const AS_A_CLIENT: &str = "as-a-client";
