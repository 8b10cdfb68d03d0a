//! Private endpoint connections.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, Uri};
use postern_api::LinkState;

use super::super::error::ApiError;
use super::super::gate::Caller;
use super::super::openapi::{Deleted, Failed, InAccount, InConnection, OfChanges, OfLists, OfPuts};
use super::super::request::{At, Content, MaybeContent, condition};
use super::super::resources::{
    ConnectionProperties, ConnectionResource, DecisionBody, ListOf, Resource,
};
use super::super::{Api, Operation};
use crate::routing::model::{AccountId, Connection, ConnectionId, Description};
use crate::routing::store::{Condition, Decision, Put, StoreError};

/// The connections of an account, by name.
#[utoipa::path(
    get,
    operation_id = "list_connections",
    path = "/v1/workspaces/{workspace}/accounts/{account}/privateEndpointConnections",
    tag = "books",
    params(InAccount, OfLists),
    responses(
        (status = 200, body = ListOf<Resource<ConnectionProperties>>, description = "Some of them, by name."),
        Failed
    )
)]
pub(in super::super) async fn list(
    State(api): State<Arc<Api>>,
    At(account): At<AccountId>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let page = super::page(&uri)?;
    let max = page.max;
    let list = api.kept(api.store.connections(&account, page).await)?;
    let show = |name: &_, connection: &_| {
        let id = ConnectionId {
            account: account.clone(),
            name: Clone::clone(name),
        };
        ConnectionResource::show(&id, connection)
    };
    Ok(super::listed(&uri, &headers, max, &list, show).into_response())
}

/// A connection.
#[utoipa::path(
    get,
    operation_id = "get_connection",
    path = "/v1/workspaces/{workspace}/accounts/{account}/privateEndpointConnections/{name}",
    tag = "books",
    params(InConnection),
    responses(
        (status = 200, body = Resource<ConnectionProperties>, description = "The resource as it is now."),
        (status = 304, description = "It is the version that is known."),
        Failed
    )
)]
pub(in super::super) async fn get(
    State(api): State<Arc<Api>>,
    At(id): At<ConnectionId>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let found = api.kept(api.store.connection(&id).await)?;
    let resource = ConnectionResource::show(&id, &found);
    Ok(super::shown(&headers, found.etag, resource))
}

/// Creates or replaces a connection.
///
/// Pending may become Approved, Rejected or Disconnected; Approved and Rejected may become each other or Disconnected;
/// nothing follows Disconnected. The link id never changes.
#[utoipa::path(
    put,
    operation_id = "put_connection",
    path = "/v1/workspaces/{workspace}/accounts/{account}/privateEndpointConnections/{name}",
    tag = "books",
    params(InConnection, OfPuts),
    request_body = Resource<ConnectionProperties>,
    responses(
        (status = 201, body = Resource<ConnectionProperties>, description = "It was not there before."),
        (status = 200, body = Resource<ConnectionProperties>, description = "The resource as it is now."),
        Failed
    )
)]
pub(in super::super) async fn put(
    State(api): State<Arc<Api>>,
    At(id): At<ConnectionId>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Content(mut body): Content<ConnectionResource>,
) -> Result<Response, ApiError> {
    let condition = condition(&headers)?;
    let state = body.properties.private_link_service_connection_state.take();
    let connection = body.take(&id)?;
    let put = match state {
        Some(it) => {
            let value = connection((it.status, it.description));
            api.store.put_connection(&id, value, condition).await
        }
        None => put_without_state(&api, &id, connection, condition).await,
    };
    let put = api.kept(put)?;
    api.record(&caller, Operation::PutConnection, &id, &put);
    let resource = ConnectionResource::show(&id, &put.versioned);
    Ok(super::put(&put, resource))
}

/// Puts a connection that keeps the state it is in. What is put holds for the version that the state is from, so that a
/// decision which comes between is never undone.
async fn put_without_state(
    api: &Api,
    id: &ConnectionId,
    connection: impl Fn((LinkState, Description)) -> Connection,
    condition: Condition,
) -> Result<Put<Connection>, StoreError> {
    let mut attempts = ATTEMPTS_MAX;
    loop {
        let (kept, of_version) = match api.store.connection(id).await {
            Ok(it) if condition.holds(Some(it.etag)) => (
                (it.value.state, it.value.description),
                Condition::IfMatch(it.etag),
            ),
            Err(StoreError::NotFound(_)) if condition.holds(None) => (
                (LinkState::Pending, Description::default()),
                Condition::IfNoneMatch,
            ),
            Ok(_) | Err(StoreError::NotFound(_)) => return Err(StoreError::PreconditionFailed),
            Err(error) => return Err(error),
        };
        let put = api.store.put_connection(id, connection(kept), of_version);
        match put.await {
            Err(StoreError::PreconditionFailed) if attempts > 1 => attempts -= 1,
            put => return put,
        }
    }
}

// Limit: each attempt loses to another writer of the same connection; three in a row is no chance.
const ATTEMPTS_MAX: u32 = 4;

/// Deletes a connection.
#[utoipa::path(
    delete,
    operation_id = "delete_connection",
    path = "/v1/workspaces/{workspace}/accounts/{account}/privateEndpointConnections/{name}",
    tag = "books",
    params(InConnection, OfChanges),
    responses(Deleted, Failed)
)]
pub(in super::super) async fn delete(
    State(api): State<Arc<Api>>,
    At(id): At<ConnectionId>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let was_there = api.store.delete_connection(&id, condition(&headers)?);
    let was_there = api.kept(was_there.await)?;
    api.record_deletion(&caller, Operation::DeleteConnection, &id, was_there);
    Ok(super::deleted(was_there))
}

/// Approves a connection: from the next connection on, the link reaches the account.
#[utoipa::path(
    post,
    operation_id = "approve_connection",
    path = "/v1/workspaces/{workspace}/accounts/{account}/privateEndpointConnections/{name}/approve",
    tag = "books",
    params(InConnection, OfChanges),
    request_body = Option<DecisionBody>,
    responses(
        (status = 200, body = Resource<ConnectionProperties>, description = "The resource as it is now."),
        Failed
    )
)]
pub(in super::super) async fn approve(
    State(api): State<Arc<Api>>,
    At(id): At<ConnectionId>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    MaybeContent(body): MaybeContent<DecisionBody>,
) -> Result<Response, ApiError> {
    let decision = Decision {
        state: LinkState::Approved,
        description: body.description,
    };
    let operation = Operation::ApproveConnection;
    decide(&api, &id, &caller, &headers, operation, decision).await
}

/// Rejects a connection: its requests are refused within a second, and its open connections end.
#[utoipa::path(
    post,
    operation_id = "reject_connection",
    path = "/v1/workspaces/{workspace}/accounts/{account}/privateEndpointConnections/{name}/reject",
    tag = "books",
    params(InConnection, OfChanges),
    request_body = Option<DecisionBody>,
    responses(
        (status = 200, body = Resource<ConnectionProperties>, description = "The resource as it is now."),
        Failed
    )
)]
pub(in super::super) async fn reject(
    State(api): State<Arc<Api>>,
    At(id): At<ConnectionId>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    MaybeContent(body): MaybeContent<DecisionBody>,
) -> Result<Response, ApiError> {
    let decision = Decision {
        state: LinkState::Rejected,
        description: body.description,
    };
    let operation = Operation::RejectConnection;
    decide(&api, &id, &caller, &headers, operation, decision).await
}

async fn decide(
    api: &Api,
    id: &ConnectionId,
    caller: &Caller,
    headers: &HeaderMap,
    operation: Operation,
    decision: Decision,
) -> Result<Response, ApiError> {
    let put = api.store.decide(id, decision, condition(headers)?).await;
    let put = api.kept(put)?;
    api.record(caller, operation, id, &put);
    let resource = ConnectionResource::show(id, &put.versioned);
    Ok(super::put(&put, resource))
}
