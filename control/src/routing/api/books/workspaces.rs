//! Workspaces.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use http::{HeaderMap, Uri};

use super::super::error::ApiError;
use super::super::gate::Caller;
use super::super::openapi::{Deleted, Failed, InWorkspace, OfChanges, OfLists, OfPuts};
use super::super::request::{At, Content, condition};
use super::super::resources::{ListOf, Resource, WorkspaceProperties, WorkspaceResource};
use super::super::{Api, Operation};
use crate::routing::model::WorkspaceName;

/// Every workspace, by name.
#[utoipa::path(
    get,
    operation_id = "list_workspaces",
    path = "/v1/workspaces",
    tag = "books",
    params(OfLists),
    responses(
        (status = 200, body = ListOf<Resource<WorkspaceProperties>>, description = "Some of them, by name."),
        Failed
    )
)]
pub(in super::super) async fn list(
    State(api): State<Arc<Api>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let page = super::page(&uri)?;
    let max = page.max;
    let list = api.kept(api.store.workspaces(page).await)?;
    let list: Json<ListOf<_>> = super::listed(&uri, &headers, max, &list, WorkspaceResource::show);
    Ok(list.into_response())
}

/// A workspace.
#[utoipa::path(
    get,
    operation_id = "get_workspace",
    path = "/v1/workspaces/{workspace}",
    tag = "books",
    params(InWorkspace),
    responses(
        (status = 200, body = Resource<WorkspaceProperties>, description = "The resource as it is now."),
        (status = 304, description = "It is the version that is known."),
        Failed
    )
)]
pub(in super::super) async fn get(
    State(api): State<Arc<Api>>,
    At(name): At<WorkspaceName>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let found = api.kept(api.store.workspace(&name).await)?;
    let resource = WorkspaceResource::show(&name, &found);
    Ok(super::shown(&headers, found.etag, resource))
}

/// Creates a workspace.
#[utoipa::path(
    put,
    operation_id = "put_workspace",
    path = "/v1/workspaces/{workspace}",
    tag = "books",
    params(InWorkspace, OfPuts),
    request_body = Resource<WorkspaceProperties>,
    responses(
        (status = 201, body = Resource<WorkspaceProperties>, description = "It was not there before."),
        (status = 200, body = Resource<WorkspaceProperties>, description = "The resource as it is now."),
        Failed
    )
)]
pub(in super::super) async fn put(
    State(api): State<Arc<Api>>,
    At(name): At<WorkspaceName>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Content(body): Content<WorkspaceResource>,
) -> Result<Response, ApiError> {
    let value = body.take(&name)?;
    let put = api.store.put_workspace(&name, value, condition(&headers)?);
    let put = api.kept(put.await)?;
    api.record(&caller, Operation::PutWorkspace, &name, &put);
    let resource = WorkspaceResource::show(&name, &put.versioned);
    Ok(super::put(&put, resource))
}

/// Deletes a workspace, which must have no accounts.
#[utoipa::path(
    delete,
    operation_id = "delete_workspace",
    path = "/v1/workspaces/{workspace}",
    tag = "books",
    params(InWorkspace, OfChanges),
    responses(Deleted, Failed)
)]
pub(in super::super) async fn delete(
    State(api): State<Arc<Api>>,
    At(name): At<WorkspaceName>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let was_there = api.store.delete_workspace(&name, condition(&headers)?);
    let was_there = api.kept(was_there.await)?;
    api.record_deletion(&caller, Operation::DeleteWorkspace, &name, was_there);
    Ok(super::deleted(was_there))
}
