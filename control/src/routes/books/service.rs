//! The books at the service, over its API.

use async_trait::async_trait;
use http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};
use http::{Method, StatusCode, Uri};
use postern_api::routing::{Answer, LookupAnswer};
use postern_api::{HostName, LinkId, LinkState};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::client::{self, Client, Question};
use super::wire::{
    self, AccountProperties, ConnectionProperties, Content, DecisionContent, ListOf, Resource,
    WorkspaceProperties,
};
use super::{Books, Expected, Kept, Version};
use crate::routes::error::Failure;
use crate::routes::options::ServicePlace;
use crate::routing::model::{
    Account, AccountId, AccountName, Connection, ConnectionId, ConnectionName, Workspace,
    WorkspaceName,
};
use crate::routing::store::{Decision, Entry};

// Limit: what the service gives at most.
const PAGE_MAX: usize = 1000;
// Limit: ten million items of a list; a service whose list has no end is broken.
const PAGES_MAX: usize = 10_000;

/// The books at a service.
pub(super) struct ServiceBooks(Client);

impl ServiceBooks {
    /// A client of it, which has asked nothing yet.
    pub(super) fn new(place: ServicePlace) -> Result<Self, Failure> {
        Ok(Self(Client::new(place)?))
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        condition: Option<(HeaderName, String)>,
        body: Option<Vec<u8>>,
    ) -> Result<client::Answer, Failure> {
        let question = Question {
            method,
            path,
            condition,
            body,
        };
        let answer = self.0.ask(&question).await?;
        if answer.status.is_success() {
            Ok(answer)
        } else {
            Err(wire::failure(&answer))
        }
    }

    async fn get<P: DeserializeOwned, T: From<P>>(&self, path: &str) -> Result<Kept<T>, Failure> {
        let answer = self.ask(Method::GET, path, None, None).await?;
        let resource: Resource<P> = wire::read(&answer)?;
        Ok(resource.kept())
    }

    /// All pages of a list.
    async fn list<P: DeserializeOwned, N: std::str::FromStr, T: From<P>>(
        &self,
        path: &str,
    ) -> Result<Vec<(N, Kept<T>)>, Failure> {
        let broken = |what: &str| Failure::NoAnswer(format!("{}: the list {path} {what}", self.0));
        let mut all = Vec::new();
        let mut page = format!("{path}?$top={PAGE_MAX}");
        for _ in 0..PAGES_MAX {
            let answer = self.ask(Method::GET, &page, None, None).await?;
            let list: ListOf<Resource<P>> = wire::read(&answer)?;
            for resource in list.value {
                let name = resource.name.parse();
                let name = name.map_err(|_| broken("has a name that is none"))?;
                all.push((name, resource.kept()));
            }
            let Some(next) = list.next_link else {
                return Ok(all);
            };
            // Wherever it says that the rest is, it is the same service that is asked.
            let next: Uri = next
                .parse()
                .map_err(|_| broken("has no readable nextLink"))?;
            if next.path() != path {
                return Err(broken("goes on elsewhere"));
            }
            page = next
                .path_and_query()
                .map_or_else(String::new, ToString::to_string);
        }
        Err(broken("has no end"))
    }

    async fn put<P: Serialize + DeserializeOwned>(
        &self,
        path: &str,
        properties: P,
        expected: Option<&Expected>,
    ) -> Result<Resource<P>, Failure> {
        let condition = expected.map(|expected| match expected {
            Expected::Absent => (IF_NONE_MATCH, "*".to_owned()),
            Expected::Version(version) => if_match(version),
        });
        let body = json(&Content { properties })?;
        let answer = self.ask(Method::PUT, path, condition, Some(body)).await?;
        wire::read(&answer)
    }

    async fn delete(&self, path: &str, version: &Version) -> Result<(), Failure> {
        let condition = Some(if_match(version));
        self.ask(Method::DELETE, path, condition, None).await?;
        Ok(())
    }
}

fn if_match(version: &Version) -> (HeaderName, String) {
    (IF_MATCH, version.0.clone())
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(value).map_err(|error| Failure::Output(error.into()))
}

// The names are of characters that a path has as they are.
fn workspace_path(name: &WorkspaceName) -> String {
    format!("/v1/workspaces/{name}")
}

fn account_path(id: &AccountId) -> String {
    format!("{}/accounts/{}", workspace_path(&id.workspace), id.name)
}

fn connections_path(account: &AccountId) -> String {
    format!("{}/privateEndpointConnections", account_path(account))
}

fn connection_path(id: &ConnectionId) -> String {
    format!("{}/{}", connections_path(&id.account), id.name)
}

#[async_trait]
impl Books for ServiceBooks {
    async fn workspaces(&self) -> Result<Vec<WorkspaceName>, Failure> {
        let all = self.list::<WorkspaceProperties, _, Workspace>("/v1/workspaces");
        Ok(all.await?.into_iter().map(|(name, _)| name).collect())
    }

    async fn put_workspace(&self, name: &WorkspaceName) -> Result<(), Failure> {
        let path = workspace_path(name);
        self.put(&path, WorkspaceProperties {}, None).await?;
        Ok(())
    }

    async fn delete_workspace(
        &self,
        name: &WorkspaceName,
        version: &Version,
    ) -> Result<(), Failure> {
        self.delete(&workspace_path(name), version).await
    }

    async fn workspace(&self, name: &WorkspaceName) -> Result<Kept<Workspace>, Failure> {
        self.get::<WorkspaceProperties, _>(&workspace_path(name))
            .await
    }

    async fn accounts(
        &self,
        workspace: &WorkspaceName,
    ) -> Result<Vec<(AccountName, Kept<Account>)>, Failure> {
        let path = format!("{}/accounts", workspace_path(workspace));
        self.list::<AccountProperties, _, _>(&path).await
    }

    async fn account(&self, id: &AccountId) -> Result<Kept<Account>, Failure> {
        self.get::<AccountProperties, _>(&account_path(id)).await
    }

    async fn put_account(
        &self,
        id: &AccountId,
        value: &Account,
        expected: &Expected,
    ) -> Result<(), Failure> {
        let properties = AccountProperties::from(value);
        self.put(&account_path(id), properties, Some(expected))
            .await?;
        Ok(())
    }

    async fn delete_account(&self, id: &AccountId, version: &Version) -> Result<(), Failure> {
        self.delete(&account_path(id), version).await
    }

    async fn connections(
        &self,
        account: &AccountId,
    ) -> Result<Vec<(ConnectionName, Kept<Connection>)>, Failure> {
        self.list::<ConnectionProperties, _, _>(&connections_path(account))
            .await
    }

    async fn connection(&self, id: &ConnectionId) -> Result<Kept<Connection>, Failure> {
        self.get::<ConnectionProperties, _>(&connection_path(id))
            .await
    }

    async fn put_connection(
        &self,
        id: &ConnectionId,
        value: &Connection,
        expected: &Expected,
    ) -> Result<Version, Failure> {
        let properties = ConnectionProperties::from(value);
        let put = self
            .put(&connection_path(id), properties, Some(expected))
            .await?;
        Ok(put.kept::<Connection>().version)
    }

    async fn decide(
        &self,
        id: &ConnectionId,
        decision: Decision,
        version: &Version,
    ) -> Result<Kept<Connection>, Failure> {
        let verb = match decision.state {
            LinkState::Approved => "approve",
            LinkState::Rejected => "reject",
            LinkState::Pending | LinkState::Disconnected => {
                let why = "a connection is approved or rejected by hand, nothing else";
                return Err(Failure::Wrong(why.to_owned()));
            }
        };
        let path = format!("{}/{verb}", connection_path(id));
        let description = decision.description;
        let body = json(&DecisionContent { description })?;
        let condition = Some(if_match(version));
        let answer = self.ask(Method::POST, &path, condition, Some(body)).await?;
        let decided: Resource<ConnectionProperties> = wire::read(&answer)?;
        Ok(decided.kept())
    }

    async fn delete_connection(&self, id: &ConnectionId, version: &Version) -> Result<(), Failure> {
        self.delete(&connection_path(id), version).await
    }

    async fn lookup(&self, link: LinkId, host: &HostName) -> Result<(u64, Answer), Failure> {
        let path = format!("/v1/lookup?linkId={link}&host={host}");
        let answer = self.ask(Method::GET, &path, None, None).await?;
        // Only this status is an answer.
        if answer.status != StatusCode::OK {
            return Err(wire::failure(&answer));
        }
        let LookupAnswer {
            sequence, answer, ..
        } = wire::read(&answer)?;
        Ok((sequence, answer))
    }

    async fn import(&self, _: Vec<Entry>) -> Option<Result<(), Failure>> {
        None
    }
}
