//! A token with which a person's own page talks to Polar.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use secrecy::ExposeSecret;
use serde::Serialize;
use utoipa::ToSchema;

use super::access::{Access, ManagesAsPerson};
use super::error::ApiError;
use super::portal::Portal;

/// A session at Polar.
#[derive(Serialize, ToSchema)]
pub(super) struct SessionToken {
    /// For Polar's customer portal, good for about an hour.
    token: String,
}

/// Begins a session of the calling person at Polar. Each call begins a new one.
#[utoipa::path(
    post,
    path = "/v1/organizations/{organization_id}/customer-session",
    tag = "Customer portal",
    params(("organization_id" = Uuid, Path, description = "The application's id of the organization")),
    responses((status = 201, description = "The session", body = SessionToken)),
)]
pub(super) async fn create(access: Access<ManagesAsPerson>) -> Result<Response, ApiError> {
    let portal = Portal::open(&access).await?;
    let token = SessionToken {
        token: portal.session.token.expose_secret().to_owned(),
    };
    let unkept = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((StatusCode::CREATED, unkept, Json(token)).into_response())
}
