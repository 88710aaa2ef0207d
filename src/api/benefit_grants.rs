//! Shared Slack channels that an organization's plan gives: who is invited, and whether they came. Other benefits
//! ask nothing of their holders, and are left out.

use axum::Json;
use axum::response::Response;
use polar::{BenefitGrantId, PortalGrant};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::access::{Access, ManagesAsPerson};
use super::billing_details;
use super::body::json;
use super::error::{ApiError, Refusal};
use super::mutation::{Input, Mutation};
use super::paging::Pagination;
use super::portal::Portal;
use super::reply::Reply;

/// A shared Slack channel.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GrantView {
    id: Uuid,
    benefit_description: String,
    is_granted: bool,
    /// Whether the invitation was taken.
    is_connected: bool,
    invited_email: Option<String>,
    /// Where the invitation is taken.
    invite_url: Option<String>,
    channel_name: Option<String>,
    /// Why there is no channel.
    error_message: Option<String>,
}

impl From<PortalGrant> for GrantView {
    fn from(grant: PortalGrant) -> Self {
        let slack = grant.properties;
        Self {
            id: grant.id.0,
            benefit_description: grant.benefit.description,
            is_granted: grant.is_granted,
            is_connected: slack.connected_team_id.is_some(),
            invited_email: slack.invited_email,
            invite_url: slack.invite_url,
            channel_name: slack.channel_name,
            error_message: grant.error.and_then(|error| error.message),
        }
    }
}

/// All shared Slack channels.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GrantList {
    items: Vec<GrantView>,
    #[schema(inline)]
    pagination: Pagination,
}

/// Whom to invite.
#[derive(Deserialize, ToSchema)]
pub(super) struct Invitation {
    /// A mail address.
    invited_email: String,
}

/// The organization's shared Slack channels, all on one page. Grants of other benefits are not shown.
#[utoipa::path(
    get,
    path = "/v1/organizations/{organization_id}/benefit-grants",
    tag = "Customer portal",
    params(("organization_id" = Uuid, Path, description = "The application's id of the organization")),
    responses((status = 200, description = "The channels", body = GrantList)),
)]
pub(super) async fn list(access: Access<ManagesAsPerson>) -> Result<Json<GrantList>, ApiError> {
    let portal = Portal::open(&access).await?;
    let grants = portal.calls().slack_grants().await?;
    let items: Vec<GrantView> = grants.into_iter().map(GrantView::from).collect();
    let pagination = Pagination::whole(items.len());
    Ok(Json(GrantList { items, pagination }))
}

/// Invites somebody into a channel.
#[utoipa::path(
    patch,
    path = "/v1/organizations/{organization_id}/benefit-grants/{grant_id}",
    tag = "Customer portal",
    params(
        ("organization_id" = Uuid, Path, description = "The application's id of the organization"),
        ("grant_id" = Uuid, Path, description = "A grant of `GET /benefit-grants`"),
    ),
    request_body = Invitation,
    responses((status = 200, description = "The channel as it is now", body = GrantView)),
)]
pub(super) async fn invite(access: Access<ManagesAsPerson>, mutation: Mutation) -> Response {
    let act = async |access: Access<ManagesAsPerson>, input: Input<Invitation>| {
        let id =
            super::ids::parse(access.path_parameter("grant_id")).ok_or(Refusal::GrantNotFound)?;
        let portal = Portal::open(&access).await?;
        let invited = invite_to(&portal, id, &input.body.invited_email).await?;
        Ok(Reply::ok(&GrantView::from(invited)))
    };
    mutation.run_once(access, json::<Invitation>, act).await
}

async fn invite_to(
    portal: &Portal,
    id: BenefitGrantId,
    email: &str,
) -> Result<PortalGrant, ApiError> {
    match portal.calls().invite_to_slack(id, email).await {
        Ok(grant) => Ok(grant),
        Err(error) if error.is_not_found() => Err(Refusal::GrantNotFound.into()),
        Err(error) => Err(billing_details::refused(error)),
    }
}
