//! Accounts, and what a private endpoint can be made to.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use http::{HeaderMap, Uri};

use super::super::error::{ApiError, ErrorBody};
use super::super::gate::Caller;
use super::super::request::{At, Content, condition};
use super::super::resources::{
    AccountProperties, AccountResource, LinkResource, LinkResourceProperties, ListOf, Resource,
};
use super::super::{Api, Operation};
use crate::routing::model::{AccountId, WorkspaceName};

/// The accounts of a workspace, by name.
#[utoipa::path(
    get, operation_id = "list_accounts", path = "/v1/workspaces/{workspace}/accounts", tag = "books",
    params(("workspace" = String, Path, description = "The workspace."),
        ("$top" = Option<usize>, Query, description = "At most so many: 1 to 1000, otherwise 100."),
        ("$skipToken" = Option<String>, Query, description = "What follows this name.")),
    responses((status = 200, description = "Some of them, by name.", body = ListOf<Resource<AccountProperties>>),
        (status = "default", description = "What is wrong.", body = ErrorBody)))]
pub(in super::super) async fn list(
    State(api): State<Arc<Api>>,
    At(workspace): At<WorkspaceName>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let page = super::page(&uri)?;
    let max = page.max;
    let list = api.kept(api.store.accounts(&workspace, page).await)?;
    let show = |name: &_, account: &_| {
        let id = AccountId {
            workspace: workspace.clone(),
            name: Clone::clone(name),
        };
        AccountResource::show(&id, account)
    };
    Ok(super::listed(&uri, &headers, max, &list, show).into_response())
}

/// An account.
#[utoipa::path(
    get, operation_id = "get_account", path = "/v1/workspaces/{workspace}/accounts/{account}", tag = "books",
    params(("workspace" = String, Path, description = "The workspace."),
        ("account" = String, Path, description = "3 to 24 letters, digits and hyphens.")),
    responses((status = 200, description = "What it is now.", body = Resource<AccountProperties>),
        (status = 304, description = "It is in that version."),
        (status = "default", description = "What is wrong.", body = ErrorBody)))]
pub(in super::super) async fn get(
    State(api): State<Arc<Api>>,
    At(id): At<AccountId>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let found = api.kept(api.store.account(&id).await)?;
    let resource = AccountResource::show(&id, &found);
    Ok(super::shown(&headers, found.etag, resource))
}

/// Creates or replaces an account.
#[utoipa::path(
    put, operation_id = "put_account", path = "/v1/workspaces/{workspace}/accounts/{account}", tag = "books",
    params(("workspace" = String, Path, description = "The workspace, which must be there."),
        ("account" = String, Path, description = "3 to 24 letters, digits and hyphens."),
        ("If-Match" = Option<String>, Header, description = "The version that it must have, or *."),
        ("If-None-Match" = Option<String>, Header, description = "*: it must not be there.")),
    request_body = Resource<AccountProperties>,
    responses((status = 201, description = "It has been made.", body = Resource<AccountProperties>),
        (status = 200, description = "What it is now.", body = Resource<AccountProperties>),
        (status = "default", description = "What is wrong.", body = ErrorBody)))]
pub(in super::super) async fn put(
    State(api): State<Arc<Api>>,
    At(id): At<AccountId>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Content(body): Content<AccountResource>,
) -> Result<Response, ApiError> {
    let value = body.take(&id)?;
    let put = api.store.put_account(&id, value, condition(&headers)?);
    let put = api.kept(put.await)?;
    api.record(&caller, Operation::PutAccount, &id, &put);
    let resource = AccountResource::show(&id, &put.versioned);
    Ok(super::put(&put, resource))
}

/// Deletes an account and its connections.
#[utoipa::path(
    delete, operation_id = "delete_account", path = "/v1/workspaces/{workspace}/accounts/{account}", tag = "books",
    params(("workspace" = String, Path, description = "The workspace."),
        ("account" = String, Path, description = "The account."),
        ("If-Match" = Option<String>, Header, description = "The version that it must have, or *.")),
    responses((status = 200, description = "It is gone."), (status = 204, description = "It was not there."),
        (status = "default", description = "What is wrong.", body = ErrorBody)))]
pub(in super::super) async fn delete(
    State(api): State<Arc<Api>>,
    At(id): At<AccountId>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let was_there = api.store.delete_account(&id, condition(&headers)?);
    let was_there = api.kept(was_there.await)?;
    api.record_deletion(&caller, Operation::DeleteAccount, &id, was_there);
    Ok(super::deleted(was_there))
}

/// What a private endpoint to an account can be made to.
#[utoipa::path(
    get, operation_id = "list_link_resources", path = "/v1/workspaces/{workspace}/accounts/{account}/privateLinkResources", tag = "books",
    params(("workspace" = String, Path, description = "The workspace."),
        ("account" = String, Path, description = "The account.")),
    responses((status = 200, description = "Some of them, by name.", body = ListOf<Resource<LinkResourceProperties>>),
        (status = "default", description = "What is wrong.", body = ErrorBody)))]
pub(in super::super) async fn link_resources(
    State(api): State<Arc<Api>>,
    At(id): At<AccountId>,
) -> Result<Response, ApiError> {
    let found = api.kept(api.store.account(&id).await)?;
    let list = ListOf {
        value: vec![LinkResource::of_account(&id, &found)],
        next_link: None,
    };
    Ok(Json(list).into_response())
}
