//! Whom an organization's invoices are made out to.

use axum::Json;
use axum::response::Response;
use polar::{BillingAddress, PortalCustomer};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::access::{Access, ManagesAsPerson};
use super::body::json;
use super::error::{ApiError, FieldError};
use super::mutation::{Input, Mutation};
use super::portal::Portal;
use super::reply::Reply;

/// Whom invoices are made out to.
#[derive(Serialize, ToSchema)]
pub(super) struct BillingDetails {
    billing_name: Option<String>,
    billing_address: Option<Address>,
    /// The number alone, without the name of its format.
    tax_id: Option<String>,
}

/// A postal address.
#[derive(Serialize, ToSchema)]
pub(super) struct Address {
    line1: Option<String>,
    line2: Option<String>,
    postal_code: Option<String>,
    city: Option<String>,
    /// Such as `US-CA`.
    state: Option<String>,
    /// Two letters.
    country: String,
}

impl From<BillingAddress> for Address {
    fn from(address: BillingAddress) -> Self {
        Self {
            line1: address.line1,
            line2: address.line2,
            postal_code: address.postal_code,
            city: address.city,
            state: address.state,
            country: address.country,
        }
    }
}

impl From<PortalCustomer> for BillingDetails {
    fn from(customer: PortalCustomer) -> Self {
        let tax_id = customer.tax_id.as_ref().and_then(|pair| pair.first());
        Self {
            tax_id: tax_id.and_then(Value::as_str).map(str::to_owned),
            billing_name: customer.billing_name,
            billing_address: customer.billing_address.map(Address::from),
        }
    }
}

/// What to change; what is left out stays, and null clears where Polar lets it.
#[derive(Deserialize, Serialize, ToSchema)]
pub(super) struct BillingDetailsUpdate {
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>)]
    billing_name: Option<Value>,
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<Address>)]
    billing_address: Option<Value>,
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>)]
    tax_id: Option<Value>,
}

/// Tells null from absence. What the value may be is Polar's to say.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// Whom invoices are made out to.
#[utoipa::path(
    get,
    path = "/v1/organizations/{organization_id}/billing-details",
    tag = "Customer portal",
    params(("organization_id" = Uuid, Path, description = "The application's id of the organization")),
    responses((status = 200, description = "The billing details", body = BillingDetails)),
)]
pub(super) async fn get(access: Access<ManagesAsPerson>) -> Result<Json<BillingDetails>, ApiError> {
    let portal = Portal::open(&access).await?;
    Ok(Json(portal.calls().customer().await?.into()))
}

/// Changes the details that are given.
#[utoipa::path(
    patch,
    path = "/v1/organizations/{organization_id}/billing-details",
    tag = "Customer portal",
    params(("organization_id" = Uuid, Path, description = "The application's id of the organization")),
    request_body = BillingDetailsUpdate,
    responses((status = 200, description = "The billing details as they are now", body = BillingDetails)),
)]
pub(super) async fn update(access: Access<ManagesAsPerson>, mutation: Mutation) -> Response {
    let act = async |access: Access<ManagesAsPerson>, input: Input<BillingDetailsUpdate>| {
        let portal = Portal::open(&access).await?;
        let updated = portal.calls().update_billing_details(&input.body).await;
        let details = BillingDetails::from(updated.map_err(refused)?);
        Ok(Reply::ok(&details))
    };
    mutation
        .run_once(access, json::<BillingDetailsUpdate>, act)
        .await
}

/// Polar's own words about each field.
pub(super) fn refused(error: polar::Error) -> ApiError {
    match error {
        polar::Error::Invalid(invalid) if !invalid.faults.is_empty() => {
            let faults = invalid.faults.into_iter().map(FieldError::from);
            ApiError::Invalid(faults.collect())
        }
        error => error.into(),
    }
}
