//! Accounts, and what a private endpoint can be made to.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use http::{HeaderMap, Uri};

use super::super::error::ApiError;
use super::super::gate::Caller;
use super::super::openapi::{Deleted, Failed, InAccount, InWorkspace, OfChanges, OfLists, OfPuts};
use super::super::request::{At, Content, condition};
use super::super::resources::{
    AccountProperties, AccountResource, LinkResource, LinkResourceProperties, ListOf, Resource,
};
use super::super::{Api, Operation};
use crate::routing::model::{AccountId, WorkspaceName};

/// The accounts of a workspace, by name.
#[utoipa::path(
    get,
    operation_id = "list_accounts",
    path = "/v1/workspaces/{workspace}/accounts",
    tag = "books",
    params(InWorkspace, OfLists),
    responses(
        (status = 200, body = ListOf<Resource<AccountProperties>>, description = "Some of them, by name."),
        Failed
    )
)]
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
    get,
    operation_id = "get_account",
    path = "/v1/workspaces/{workspace}/accounts/{account}",
    tag = "books",
    params(InAccount),
    responses(
        (status = 200, body = Resource<AccountProperties>, description = "The resource as it is now."),
        (status = 304, description = "It is the version that is known."),
        Failed
    )
)]
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
    put,
    operation_id = "put_account",
    path = "/v1/workspaces/{workspace}/accounts/{account}",
    tag = "books",
    params(InAccount, OfPuts),
    request_body = Resource<AccountProperties>,
    responses(
        (status = 201, body = Resource<AccountProperties>, description = "It was not there before."),
        (status = 200, body = Resource<AccountProperties>, description = "The resource as it is now."),
        Failed
    )
)]
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
    delete,
    operation_id = "delete_account",
    path = "/v1/workspaces/{workspace}/accounts/{account}",
    tag = "books",
    params(InAccount, OfChanges),
    responses(Deleted, Failed)
)]
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
    get,
    operation_id = "list_link_resources",
    path = "/v1/workspaces/{workspace}/accounts/{account}/privateLinkResources",
    tag = "books",
    params(InAccount),
    responses(
        (status = 200, body = ListOf<Resource<LinkResourceProperties>>, description = "Some of them, by name."),
        Failed
    )
)]
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
