//! The other process.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use postern_api::{HostName, LinkId, LinkState, ServiceKind};
use postern_control::routing::model::{
    Account, Connection, ConnectionId, CustomerManagedKey, Description, PublicNetworkAccess,
    RequestMessage, Workspace,
};
use postern_control::routing::store::sqlite::{SqliteOptions, SqliteStore};
use postern_control::routing::store::{
    Condition, ConnectionEntry, Decision, Entry, Store as _, StoreError,
};

use super::state::Chance;

/// Writes as fast as it can, by the chance that a number begins, and says each change that was acknowledged.
pub const WRITE: &str = "write";
/// Gives the account [`ACCOUNT`] one host.
pub const PUT: &str = "put";
/// Takes versions and hosts from its input, and says whether it won.
pub const RACE: &str = "race";

/// What [`PUT`] and [`RACE`] write.
pub const ACCOUNT: &str = "clinic/images";

pub fn is_word(word: &str) -> bool {
    [WRITE, PUT, RACE].contains(&word)
}

/// Starts this program again as another process.
pub fn start(word: &str, path: &Path, argument: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(word).arg(path).arg(argument);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().unwrap()
}

pub fn run(word: &str, path: &str, argument: &str) {
    // One thread for all that may block, so that its system calls are in the same order each time.
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    runtime.block_on(async {
        let options = SqliteOptions::new(path);
        let store = match SqliteStore::open(&options).await {
            Ok(store) => store,
            Err(error) => return say(&format!("failed {error}")),
        };
        match word {
            WRITE => write(&store, argument.parse().unwrap()).await,
            PUT => put(&store, argument).await,
            _ => race(&store).await,
        }
    });
}

/// One line, at once.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Whoever reads may have gone.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

async fn put(store: &SqliteStore, host: &str) {
    let id = ACCOUNT.parse().unwrap();
    let done = async {
        let any = Condition::Any;
        store
            .put_workspace(&"clinic".parse().unwrap(), Workspace {}, any)
            .await?;
        store.put_account(&id, account(&[host]), any).await
    };
    match done.await {
        Ok(_) => say("done"),
        Err(error) => say(&format!("failed {error}")),
    }
}

async fn race(store: &SqliteStore) {
    let id = ACCOUNT.parse().unwrap();
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let (etag, host) = line.split_once(' ').unwrap();
        let condition = Condition::IfMatch(etag.parse().unwrap());
        match store.put_account(&id, account(&[host]), condition).await {
            Ok(put) => say(&format!("won {}", put.versioned.etag)),
            Err(StoreError::PreconditionFailed) => say("lost"),
            Err(error) => say(&format!("failed {error}")),
        }
    }
}

async fn write(store: &SqliteStore, seed: u64) {
    let mut chance = Chance(seed);
    for name in ["clinic", "lab"] {
        let name = name.parse().unwrap();
        store
            .put_workspace(&name, Workspace {}, Condition::Any)
            .await
            .unwrap();
    }
    loop {
        let before = store.head().borrow().sequence;
        match step(store, &mut chance).await {
            Ok(())
            | Err(
                StoreError::Conflict { .. } | StoreError::Invalid { .. } | StoreError::NotFound(_),
            ) => {}
            Err(error) => return say(&format!("failed {error}")),
        }
        // What has been acknowledged, word by word.
        for change in store.changes(before, 1000).await.unwrap().changes {
            say(&serde_json::to_string(&change).unwrap());
        }
    }
}

/// One change, or one that is refused.
async fn step(store: &SqliteStore, chance: &mut Chance) -> Result<(), StoreError> {
    let any = Condition::Any;
    let accounts = [
        "clinic/images",
        "clinic/records",
        "lab/images",
        "lab/records",
    ];
    let account_id = accounts[chance.below(accounts.len())].parse().unwrap();
    let id = ConnectionId {
        account: account_id,
        name: format!("pe-{}", chance.below(8)).parse().unwrap(),
    };
    let account_id = &id.account;
    let host = format!("h{}.example", chance.below(12));
    let states = [
        LinkState::Pending,
        LinkState::Approved,
        LinkState::Rejected,
        LinkState::Disconnected,
    ];
    let state = states[chance.below(4)];
    let link = u32::try_from(chance.below(16)).unwrap();
    match chance.below(20) {
        0 => store.delete_account(account_id, any).await.map(drop),
        1..4 => store
            .put_account(account_id, account(&[&host, "also.example"]), any)
            .await
            .map(drop),
        4..7 => store
            .put_account(account_id, account(&[&host]), any)
            .await
            .map(drop),
        7..12 => store
            .put_connection(&id, connection(link, state), any)
            .await
            .map(drop),
        12..17 => {
            let decision = Decision {
                state,
                description: None,
            };
            store.decide(&id, decision, any).await.map(drop)
        }
        17 => store.delete_connection(&id, any).await.map(drop),
        _ => {
            let entry = |id: &str, host: String, first: u32| Entry {
                account: id.parse().unwrap(),
                properties: account(&[&host]),
                connections: (first..first + 6)
                    .map(|link| ConnectionEntry {
                        name: format!("pe-{link}").parse().unwrap(),
                        properties: connection(link, LinkState::Approved),
                    })
                    .collect(),
            };
            let n = chance.below(6);
            let entries = vec![
                entry("clinic/images", format!("i{n}.example"), 0),
                entry(&format!("lab/new-{n}"), format!("j{n}.example"), link),
            ];
            store
                .import(entries)
                .await
                .map(drop)
                .map_err(|error| error.source)
        }
    }
}

fn account(hosts: &[&str]) -> Account {
    let hosts: Vec<_> = hosts
        .iter()
        .map(|name| HostName::parse(name).unwrap())
        .collect();
    Account {
        kind: ServiceKind::Dicom,
        hosts: hosts.try_into().unwrap(),
        cluster: "dicom".parse().unwrap(),
        public_network_access: PublicNetworkAccess::Disabled,
        customer_key: CustomerManagedKey::default(),
        requests_per_second: None,
        connections_max: None,
    }
}

fn connection(link: u32, state: LinkState) -> Connection {
    Connection {
        link_id: LinkId::new(link),
        state,
        description: Description::default(),
        request_message: RequestMessage::default(),
        requests_per_second: None,
    }
}
