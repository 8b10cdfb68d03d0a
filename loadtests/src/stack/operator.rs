//! Who keeps the books of account routing: the requests of an operator, or of the resource provider, over HTTP/2.
//!
//! Invariant: what is not answered with success is an error, with what the service said.

use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use http::Method;
use http::header::{ACCEPT, CONTENT_TYPE};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::accounts::{ACCOUNTS, Account};
use super::client::{Answer, ClientError, Connection, Protocol, Tls, empty, full, open};
use super::events::Events;
use super::routing::ROUTING_NAME;
use crate::proxy_v2::Header;

/// The workspace that all accounts of the stack are in.
pub const WORKSPACE: &str = "stack";

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The service could not be asked. Whether it has done what it was asked is not known.
    #[error("account routing cannot be asked for {what}")]
    Client {
        /// Method and path.
        what: String,
        /// Why.
        source: ClientError,
    },
    /// It said something else than "done".
    #[error("account routing answers {what} with {answer}")]
    Answer {
        /// Method and path.
        what: String,
        /// Status and content.
        answer: String,
    },
}

/// A client of the service's API, over one HTTP/2 connection that is made anew when it has ended.
pub struct Operator {
    address: SocketAddr,
    tls: Tls,
    connection: Mutex<Option<Connection>>,
}

/// Where an account is.
pub fn account_path(account: &str) -> String {
    format!("/v1/workspaces/{WORKSPACE}/accounts/{account}")
}

/// Where a private endpoint connection of an account is.
pub fn connection_path(account: &str, connection: &str) -> String {
    let account = account_path(account);
    format!("{account}/privateEndpointConnections/{connection}")
}

/// What the connections of the stack are called.
pub fn connection_name(link_id: u32) -> String {
    format!("link-{link_id}")
}

/// A connection as it is put.
pub fn connection_body(link_id: u32, state: &str) -> Value {
    json!({ "properties": {
        "linkIdentifier": link_id.to_string(),
        "privateLinkServiceConnectionState": { "status": state },
    }})
}

/// An account as it is put.
pub fn account_body(account: &Account) -> Value {
    let state = if account.key_is_accessible {
        "accessible"
    } else {
        "not_accessible"
    };
    let mut body = json!({ "properties": {
        "kind": "dicom",
        "hosts": account.hosts,
        "cluster": "dicom",
        "customerKey": { "state": state },
    }});
    if let Some(limit) = account.requests_per_second {
        body["properties"]["requestsPerSecond"] = limit.into();
    }
    body
}

impl Operator {
    /// A client with the certificate in the folder `identity`.
    pub fn new(address: SocketAddr, ca: &Path, identity: &Path) -> Result<Self, ClientError> {
        Ok(Self {
            address,
            tls: Tls::with_identity(ca, identity)?,
            connection: Mutex::default(),
        })
    }

    /// An HTTP/2 connection of its own.
    pub async fn connect(&self) -> Result<Connection, ClientError> {
        let stream = open(self.address, None, &Header::Absent).await?;
        let protocol = Protocol::Http2;
        let stream = self.tls.handshake(stream, Some(ROUTING_NAME), protocol);
        Connection::new(stream.await?, protocol, ROUTING_NAME).await
    }

    /// A handle on the connection that is shared.
    async fn shared(&self) -> Result<Connection, ClientError> {
        let mut shared = self.connection.lock().await;
        let open = shared.take().filter(|connection| !connection.is_closed());
        let connection = match open {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let handle = connection.share();
        *shared = Some(connection);
        handle.ok_or(ClientError::Late("a stream"))
    }

    /// Sends a request; whatever comes back is the answer.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, ClientError> {
        let mut connection = self.shared().await?;
        let request = connection.request(method, path)?;
        let request = match body {
            None => request.body(empty())?,
            Some(body) => request
                .header(CONTENT_TYPE, "application/json")
                .body(full(Bytes::from(body.to_string())))?,
        };
        connection.fetch(request).await
    }

    /// The same, and the answer has to be a success.
    async fn done(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, OperatorError> {
        let what = || format!("{method} {path}");
        match self.ask(method.clone(), path, body).await {
            Ok(answer) if answer.status.is_success() => Ok(answer),
            Ok(answer) => Err(OperatorError::Answer {
                what: what(),
                answer: format!("{} {}", answer.status, answer.text()),
            }),
            Err(source) => Err(OperatorError::Client {
                what: what(),
                source,
            }),
        }
    }

    /// GET, as JSON.
    pub async fn get(&self, path: &str) -> Result<Value, OperatorError> {
        Ok(self.done(Method::GET, path, None).await?.json())
    }

    /// GET, as bytes.
    pub async fn read(&self, path: &str) -> Result<Bytes, OperatorError> {
        Ok(self.done(Method::GET, path, None).await?.body)
    }

    /// All resources of a list, over all its pages.
    pub async fn list(&self, path: &str) -> Result<Vec<Value>, OperatorError> {
        let mut all = Vec::new();
        let mut next = Some(path.to_owned());
        while let Some(path) = next.take() {
            let page = self.get(&path).await?;
            all.extend(page["value"].as_array().into_iter().flatten().cloned());
            next = page["nextLink"].as_str().map(str::to_owned);
        }
        Ok(all)
    }

    /// PUT.
    pub async fn put(&self, path: &str, body: &Value) -> Result<Value, OperatorError> {
        Ok(self.done(Method::PUT, path, Some(body)).await?.json())
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Result<(), OperatorError> {
        self.done(Method::DELETE, path, None).await.map(drop)
    }

    /// Puts a connection in this state.
    pub async fn put_link(
        &self,
        account: &str,
        link_id: u32,
        state: &str,
    ) -> Result<(), OperatorError> {
        let path = connection_path(account, &connection_name(link_id));
        let body = connection_body(link_id, state);
        self.put(&path, &body).await.map(drop)
    }

    /// `approve` or `reject`.
    async fn decide(&self, account: &str, link_id: u32, word: &str) -> Result<(), OperatorError> {
        let path = connection_path(account, &connection_name(link_id));
        let path = format!("{path}/{word}");
        let body = json!({ "description": "by the stack" });
        let done = self.done(Method::POST, &path, Some(&body)).await;
        done.map(drop)
    }

    /// Approves a connection.
    pub async fn approve(&self, account: &str, link_id: u32) -> Result<(), OperatorError> {
        self.decide(account, link_id, "approve").await
    }

    /// Rejects a connection.
    pub async fn reject(&self, account: &str, link_id: u32) -> Result<(), OperatorError> {
        self.decide(account, link_id, "reject").await
    }

    /// Deletes a connection.
    pub async fn remove(&self, account: &str, link_id: u32) -> Result<(), OperatorError> {
        let path = connection_path(account, &connection_name(link_id));
        self.delete(&path).await
    }

    /// Puts the workspace and all accounts of the stack there.
    pub async fn seed(&self) -> Result<(), OperatorError> {
        let workspace = format!("/v1/workspaces/{WORKSPACE}");
        self.put(&workspace, &json!({ "properties": {} })).await?;
        for account in &ACCOUNTS {
            self.put(&account_path(account.name), &account_body(account))
                .await?;
            for &(link_id, state) in account.links {
                // A new one is undecided, or approved from the start.
                if !matches!(state, "Pending" | "Approved") {
                    self.put_link(account.name, link_id, "Pending").await?;
                }
                self.put_link(account.name, link_id, state).await?;
            }
        }
        Ok(())
    }

    /// The change stream after this sequence, over a connection of its own.
    pub async fn subscribe(&self, after: u64) -> Result<Events, ClientError> {
        let mut connection = self.connect().await?;
        let request = connection.request(Method::GET, &format!("/v1/changes?after={after}"))?;
        let request = request.header(ACCEPT, "text/event-stream");
        let answer = connection.send(request.body(empty())?).await?;
        Ok(Events::new(connection, answer))
    }

    /// The newest change.
    pub async fn head(&self) -> Result<u64, OperatorError> {
        let page = self.get("/v1/changes?after=0").await?;
        Ok(page["head"]["sequence"].as_u64().unwrap_or_default())
    }
}

impl std::fmt::Debug for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operator")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}
