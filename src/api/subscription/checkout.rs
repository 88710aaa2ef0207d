//! Buying a plan: a page at Polar, for an organization without a paid subscription.

use std::net::IpAddr;

use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use polar::SubscriptionStatus;
use polar::{Customer, DiscountId, NewCheckout, Product, Subscription};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::change::{SubscriptionChange, under_lease};
use crate::api::access::{Access, Manages};
use crate::api::body::json;
use crate::api::error::{ApiError, Refusal};
use crate::api::mutation::{Input, Mutation};
use crate::api::plans;
use crate::api::reply::Reply;
use crate::api::startup_program;

/// Where a person is sent from the checkout.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(super) struct Urls {
    /// After buying: an address of the application, or a path there.
    success_url: Option<String>,
    /// Back without buying.
    return_url: Option<String>,
    /// The origin of the page that shows the checkout in a frame.
    embed_origin: Option<String>,
}

/// What to buy.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct NewSubscription {
    /// One of `GET /plans`.
    product_id: String,
    #[serde(flatten)]
    urls: Urls,
}

/// A page to buy on.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Checkout {
    checkout_id: Uuid,
    /// Whoever has it can buy.
    url: String,
    expires_at: DateTime<Utc>,
}

/// Opens a page on which a person buys a plan for the organization.
#[utoipa::path(
    post,
    path = "/v1/organizations/{organization_id}/subscription",
    tag = "Subscription",
    params(("organization_id" = Uuid, Path, description = "The application's id of the organization")),
    request_body = NewSubscription,
    responses((status = 201, description = "The page", body = Checkout)),
)]
pub(in crate::api) async fn create(access: Access<Manages>, mutation: Mutation) -> Response {
    let act = async |access: Access<Manages>, input: Input<NewSubscription>| {
        let opened = under_lease(&access, async |change| open_checkout(change, &input).await);
        Ok(Reply::new(StatusCode::CREATED, &opened.await?))
    };
    mutation
        .run_once(access, json::<NewSubscription>, act)
        .await
}

async fn open_checkout(
    change: &SubscriptionChange<'_>,
    input: &Input<NewSubscription>,
) -> Result<Checkout, ApiError> {
    let access = change.access;
    let (product, buyer) = futures::join!(
        plans::for_sale(change.polar, &input.body.product_id),
        Buyer::find(change)
    );
    let product = product?;
    access.require_approved()?;
    let Some(buyer) = buyer? else {
        access.enqueue_customer_sync().await;
        return Err(Refusal::CustomerNotReady.into());
    };
    if buyer.subscription.as_ref().is_some_and(|s| !is_free(s)) {
        return Err(Refusal::AlreadySubscribed.into());
    }
    buyer
        .checkout(change, &product, None, &input.body.urls, input.address)
        .await
}

/// Whether the subscription is to a free product and in force: only such a one can be replaced by buying
/// (docs/polar-facts.md#checkout-subscription).
pub(super) fn is_free(subscription: &Subscription) -> bool {
    let free = match &subscription.product {
        Some(product) => plans::fixed_price(product).is_some_and(|price| price.amount == 0),
        None => subscription.amount == 0 && subscription.discount_id.is_none(),
    };
    free && subscription.status != SubscriptionStatus::Paused
}

/// The customer, and its subscription.
pub(super) struct Buyer {
    pub(super) customer: Customer,
    pub(super) subscription: Option<Subscription>,
}

impl Buyer {
    /// `None` where Polar has no such customer, or none of the organization's present life.
    pub(super) async fn find(change: &SubscriptionChange<'_>) -> Result<Option<Self>, ApiError> {
        let (access, polar) = (change.access, change.polar);
        let (customer, subscription) =
            futures::try_join!(access.customer(polar), access.subscription(polar))?;
        Ok(customer.map(|customer| Self {
            customer,
            subscription,
        }))
    }

    /// Opens a page for the product.
    pub(super) async fn checkout(
        &self,
        change: &SubscriptionChange<'_>,
        product: &Product,
        discount: Option<DiscountId>,
        urls: &Urls,
        address: Option<IpAddr>,
    ) -> Result<Checkout, ApiError> {
        let (access, polar) = (change.access, change.polar);
        let allowed = &access.state.return_urls;
        let checkout = NewCheckout {
            products: vec![product.id],
            external_customer_id: access.external_id(),
            subscription_id: self.subscription.as_ref().map(|s| s.id),
            discount_id: discount,
            customer_ip_address: address,
            success_url: allowed.checked(urls.success_url.as_deref()),
            return_url: allowed.checked(urls.return_url.as_deref()),
            embed_origin: allowed.embedding(urls.embed_origin.as_deref()),
        };
        let opened = polar.checkouts().create(&checkout).await.map_err(refused)?;
        Ok(Checkout {
            checkout_id: opened.id.0,
            url: opened.url,
            expires_at: opened.expires_at,
        })
    }
}

/// The answer where Polar refuses because something has changed since it was asked.
fn refused(error: polar::Error) -> ApiError {
    if error.invalid().is_none() {
        return error.into();
    }
    let about = |fields: &[&str]| !error.faults_at(fields).is_empty();
    if about(&["subscription_id"]) {
        Refusal::AlreadySubscribed.into()
    } else if about(&["external_customer_id", "customer_id"]) {
        Refusal::CustomerNotReady.into()
    } else if about(&["discount_id"]) {
        startup_program::invitation_used_up()
    } else if error.to_string().contains("/products") {
        Refusal::PlanGone.into()
    } else {
        error.into()
    }
}
