//! What an organization pays with.

use axum::Json;
use axum::response::Response;
use polar::{Card, PaymentMethod, PaymentMethodId};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::access::{Access, ManagesAsPerson};
use super::body::no_body;
use super::error::{ApiError, Refusal};
use super::mutation::{Input, Mutation};
use super::paging::Pagination;
use super::portal::Portal;
use super::reply::Reply;

/// A means of payment.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PaymentMethodView {
    id: Uuid,
    /// `card`, or another kind.
    #[serde(rename = "type")]
    kind: String,
    /// Whether renewals are paid with it.
    default: bool,
    /// What is known of a card; other kinds have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    method_metadata: Option<CardView>,
}

/// What people know a card by.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CardView {
    brand: String,
    last4: String,
    exp_month: i32,
    exp_year: i32,
}

impl From<Card> for CardView {
    fn from(card: Card) -> Self {
        Self {
            brand: card.brand,
            last4: card.last4,
            exp_month: card.exp_month,
            exp_year: card.exp_year,
        }
    }
}

impl PaymentMethodView {
    fn of(method: PaymentMethod, default: Option<PaymentMethodId>) -> Self {
        let is_card = method.kind == "card";
        Self {
            id: method.id.0,
            default: default == Some(method.id),
            method_metadata: method
                .method_metadata
                .filter(|_| is_card)
                .map(CardView::from),
            kind: method.kind,
        }
    }
}

/// All means of payment.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PaymentMethodList {
    items: Vec<PaymentMethodView>,
    #[schema(inline)]
    pagination: Pagination,
}

/// What the organization can pay with, all on one page.
#[utoipa::path(
    get,
    path = "/v1/organizations/{organization_id}/payment-methods",
    tag = "Customer portal",
    params(("organization_id" = Uuid, Path, description = "The application's id of the organization")),
    responses((status = 200, description = "The means of payment", body = PaymentMethodList)),
)]
pub(super) async fn list(
    access: Access<ManagesAsPerson>,
) -> Result<Json<PaymentMethodList>, ApiError> {
    let portal = Portal::open(&access).await?;
    let calls = portal.calls();
    let (methods, customer) = futures::try_join!(calls.payment_methods(), calls.customer())?;
    let default = customer.default_payment_method_id;
    let items: Vec<PaymentMethodView> = methods
        .into_iter()
        .map(|method| PaymentMethodView::of(method, default))
        .collect();
    let pagination = Pagination::whole(items.len());
    Ok(Json(PaymentMethodList { items, pagination }))
}

/// Removes a means of payment.
#[utoipa::path(
    delete,
    path = "/v1/organizations/{organization_id}/payment-methods/{payment_method_id}",
    tag = "Customer portal",
    params(
        ("organization_id" = Uuid, Path, description = "The application's id of the organization"),
        ("payment_method_id" = Uuid, Path, description = "A means of payment of the organization"),
    ),
    responses((status = 204, description = "It is gone")),
)]
pub(super) async fn delete(access: Access<ManagesAsPerson>, mutation: Mutation) -> Response {
    let act = async |access: Access<ManagesAsPerson>, input: Input<()>| {
        let id = id(&access)?;
        let portal = Portal::open(&access).await?;
        match portal.calls().delete_payment_method(id).await {
            Ok(()) => Ok(Reply::no_content()),
            // This very request removed it, and its answer was lost.
            Err(error) if error.is_not_found() && input.resumed => Ok(Reply::no_content()),
            Err(error) => Err(refused(error)),
        }
    };
    mutation.run_once(access, no_body, act).await
}

/// Chooses what renewals are paid with.
#[utoipa::path(
    post,
    path = "/v1/organizations/{organization_id}/payment-methods/{payment_method_id}/default",
    tag = "Customer portal",
    params(
        ("organization_id" = Uuid, Path, description = "The application's id of the organization"),
        ("payment_method_id" = Uuid, Path, description = "A means of payment of the organization"),
    ),
    responses((status = 204, description = "It is chosen")),
)]
pub(super) async fn set_default(access: Access<ManagesAsPerson>, mutation: Mutation) -> Response {
    let act = async |access: Access<ManagesAsPerson>, _: Input<()>| {
        let id = id(&access)?;
        let portal = Portal::open(&access).await?;
        let chosen = portal.calls().set_default_payment_method(id).await;
        chosen.map_err(refused)?;
        Ok(Reply::no_content())
    };
    mutation.run_once(access, no_body, act).await
}

fn id(access: &Access<ManagesAsPerson>) -> Result<PaymentMethodId, Refusal> {
    super::ids::parse(access.path_parameter("payment_method_id"))
        .ok_or(Refusal::PaymentMethodNotFound)
}

/// Polar answers an unknown one with 404 or 422, by the route (docs/polar-facts.md#default-payment-method).
fn refused(error: polar::Error) -> ApiError {
    match error {
        polar::Error::NotFound { .. } | polar::Error::Invalid(_) => {
            Refusal::PaymentMethodNotFound.into()
        }
        polar::Error::Unexpected {
            status: 400, error, ..
        } if error == "PaymentMethodInUseByActiveSubscription" => {
            Refusal::PaymentMethodInUse.into()
        }
        error => error.into(),
    }
}
