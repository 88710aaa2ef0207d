//! The plans that an organization can choose from, made of the products of our own Polar organization.
//!
//! People write the catalogue at Polar, so a plan whose fee cannot be read is shown without one, and hides
//! no other.

use axum::Json;
use jobs::benefits::names;
use polar::{Metadata, MetadataValue, Product, ProductId};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::access::{Access, Manages};
use super::error::{ApiError, Refusal};
use super::state::ApiState;

/// A plan.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(super) struct Plan {
    /// What `POST` and `PATCH /subscription` take; null for the free plan.
    product_id: Option<Uuid>,
    /// What people call it.
    name: String,
    /// What it is for.
    description: Option<String>,
    /// `month` or `year`.
    recurring_interval: Option<String>,
    /// Null where it has no fixed price.
    price: Option<Price>,
    /// Null where the catalogue's cannot be read.
    transaction_fee: Option<TransactionFee>,
    /// Whether to point it out.
    highlight: bool,
    /// Whether it was made for somebody, and cannot be chosen.
    custom: bool,
    /// What it holds, each in a few words.
    features: Vec<String>,
}

/// A price per period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Price {
    /// In the smallest unit of the currency.
    pub(super) amount: i64,
    /// Three letters, lower case.
    currency: String,
}

/// What is charged for each transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct TransactionFee {
    /// In basis points, whatever its name says: 380 is 3.80 %. Divide by 100 before you show it.
    percent: i64,
    /// In cents.
    fixed: i64,
}

/// The free plan's, as people read them.
const FREE_FEATURES: [&str; 2] = ["Fees per transaction only", "Community support"];

impl Plan {
    /// The plan that a product is.
    pub(super) fn of(product: &Product) -> Self {
        let metadata = &product.metadata;
        Self {
            product_id: Some(product.id.0),
            name: product.name.clone(),
            description: metadata
                .text("description")
                .map(str::to_owned)
                .or_else(|| product.description.clone()),
            recurring_interval: product.recurring_interval.clone(),
            price: fixed_price(product),
            transaction_fee: fee(product),
            highlight: is_true(metadata, "highlight"),
            custom: is_custom(product),
            features: features(metadata),
        }
    }

    /// What an organization has that pays for no plan.
    pub(super) fn free(state: &ApiState) -> Self {
        let fees = state.platform_fees;
        Self::without_product("Free", fees.basis_points, fees.fixed)
    }

    /// The same for one that pays what early members pay.
    pub(super) fn of_early_member(state: &ApiState) -> Self {
        let fees = state.early_fees;
        Self::without_product("Early Member", fees.basis_points, fees.fixed)
    }

    fn without_product(name: &str, percent: i32, fixed: i32) -> Self {
        Self {
            product_id: None,
            name: name.to_owned(),
            description: None,
            recurring_interval: Some("month".to_owned()),
            price: Some(Price {
                amount: 0,
                currency: "usd".to_owned(),
            }),
            transaction_fee: Some(TransactionFee {
                percent: percent.into(),
                fixed: fixed.into(),
            }),
            highlight: false,
            custom: false,
            features: FREE_FEATURES.map(str::to_owned).into(),
        }
    }
}

/// What the organization has while it pays for no plan.
pub(super) fn unsubscribed<G>(access: &Access<G>) -> Plan {
    if access.found.fees == Some(access.state.early_fees) {
        Plan::of_early_member(&access.state)
    } else {
        Plan::free(&access.state)
    }
}

/// The plans that the organization can choose from: the free one first, then the others in the catalogue's order.
#[utoipa::path(
    get,
    path = "/v1/organizations/{organization_id}/plans",
    tag = "Subscription",
    params(("organization_id" = Uuid, Path, description = "The application's id of the organization")),
    responses((status = 200, description = "The plans", body = [Plan])),
)]
pub(super) async fn list(access: Access<Manages>) -> Result<Json<Vec<Plan>>, ApiError> {
    let polar = access.polar()?;
    let mut products = polar.products().for_sale().await?;
    products.retain(|product| !is_custom(product));
    // The sort is stable: plans without an order stay as Polar lists them.
    products.sort_by(|one, other| order(one).total_cmp(&order(other)));
    let mut plans = vec![free_or_early(&access, polar).await?];
    plans.extend(products.iter().map(Plan::of));
    Ok(Json(plans))
}

/// Whoever has a subscription sees the standard free plan. Polar is asked for one only about early members.
async fn free_or_early(access: &Access<Manages>, polar: &polar::Client) -> Result<Plan, ApiError> {
    let plan = unsubscribed(access);
    if plan == Plan::free(&access.state) {
        return Ok(plan);
    }
    Ok(match access.subscription(polar).await? {
        None => plan,
        Some(_) => Plan::free(&access.state),
    })
}

/// The product that somebody wants to choose.
///
/// # Errors
/// `PlanNotFound` for one that does not exist, is not sold, or was made for somebody.
pub(super) async fn for_sale(polar: &polar::Client, id: &str) -> Result<Product, ApiError> {
    let id: ProductId = super::ids::parse(id).ok_or(Refusal::PlanNotFound)?;
    match polar.products().get(id).await {
        Ok(product) if product.is_for_sale() && !is_custom(&product) => Ok(product),
        Ok(_) => Err(Refusal::PlanNotFound.into()),
        Err(error) if error.is_not_found() || error.invalid().is_some() => {
            Err(Refusal::PlanNotFound.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// What a product costs per period; `None` where that depends. Of several currencies the first.
pub(super) fn fixed_price(product: &Product) -> Option<Price> {
    fixed_prices(product).next()
}

/// The same in one currency.
pub(super) fn fixed_price_in(product: &Product, currency: &str) -> Option<Price> {
    fixed_prices(product).find(|price| price.currency.eq_ignore_ascii_case(currency))
}

fn fixed_prices(product: &Product) -> impl Iterator<Item = Price> {
    let offered = product.prices.iter().filter(|price| !price.is_archived);
    offered.filter_map(|price| {
        let amount = match price.amount_type.as_str() {
            "free" => 0,
            "fixed" => price.price_amount?,
            _ => return None,
        };
        let currency = match price.price_currency.as_str() {
            "" => "usd",
            named => named,
        };
        Some(Price {
            amount,
            currency: currency.to_owned(),
        })
    })
}

fn fee(product: &Product) -> Option<TransactionFee> {
    let benefit = product
        .benefits
        .iter()
        .find(|benefit| benefit.metadata.text(names::TYPE) == Some(names::TRANSACTION_FEE))?;
    Some(TransactionFee {
        percent: whole(benefit.metadata.get(names::FEE_PERCENT)?)?,
        fixed: whole(benefit.metadata.get(names::FEE_FIXED)?)?,
    })
}

/// A whole number that is no less than zero, however it is written.
fn whole(value: &MetadataValue) -> Option<i64> {
    let number = match value {
        MetadataValue::Integer(number) => *number,
        MetadataValue::Float(number) => format!("{number}").parse().ok()?,
        MetadataValue::Text(text) => text.trim().parse().ok()?,
        MetadataValue::Boolean(_) | MetadataValue::Other(_) => return None,
    };
    (number >= 0).then_some(number)
}

/// The product's place in the list: lower comes first, and one without a place last.
fn order(product: &Product) -> f64 {
    let order = match product.metadata.get(names::ORDER) {
        Some(MetadataValue::Integer(number)) => format!("{number}").parse().ok(),
        Some(MetadataValue::Float(number)) => Some(*number),
        Some(MetadataValue::Text(text)) => text.trim().parse().ok(),
        _ => None,
    };
    order
        .filter(|order: &f64| !order.is_nan())
        .unwrap_or(f64::INFINITY)
}

fn is_custom(product: &Product) -> bool {
    is_true(&product.metadata, "custom")
}

fn is_true(metadata: &Metadata, key: &str) -> bool {
    match metadata.get(key) {
        Some(MetadataValue::Boolean(flag)) => *flag,
        Some(MetadataValue::Integer(number)) => *number != 0,
        Some(MetadataValue::Text(text)) => !matches!(
            text.trim().to_ascii_lowercase().as_str(),
            "" | "false" | "0" | "no"
        ),
        Some(MetadataValue::Float(number)) => number.abs() > 0.0,
        Some(MetadataValue::Other(_)) | None => false,
    }
}

fn features(metadata: &Metadata) -> Vec<String> {
    let text = metadata.text(names::FEATURES).unwrap_or_default();
    let features = text.split(',').map(str::trim);
    features
        .filter(|f| !f.is_empty())
        .map(str::to_owned)
        .collect()
}
