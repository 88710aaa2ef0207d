//! What an organization was charged, and its invoices.

use axum::Json;
use chrono::{DateTime, Utc};
use polar::{CustomerRef, OrAbsent, Order, OrderId};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::access::{Access, Belongs};
use super::error::{ApiError, Refusal};
use super::paging::{Pagination, Paging};

/// An order.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OrderView {
    id: Uuid,
    created_at: DateTime<Utc>,
    invoice_number: Option<String>,
    /// `paid`, `pending`, `refunded`, ..
    status: String,
    paid: bool,
    /// With tax, in the smallest unit of the currency.
    total_amount: i64,
    refunded_amount: i64,
    /// Three letters, lower case.
    currency: String,
    billing_reason: String,
    product_name: String,
    /// Whether its invoice can be fetched.
    is_invoice_generated: bool,
}

impl From<Order> for OrderView {
    fn from(order: Order) -> Self {
        Self {
            id: order.id.0,
            created_at: order.created_at,
            invoice_number: order.invoice_number,
            status: order.status.as_str().to_owned(),
            paid: order.paid,
            total_amount: order.total_amount,
            refunded_amount: order.refunded_amount,
            currency: order.currency,
            billing_reason: order.billing_reason.as_str().to_owned(),
            product_name: order
                .product
                .map_or(order.description, |product| product.name),
            is_invoice_generated: order.is_invoice_generated,
        }
    }
}

/// One page of orders.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OrderPage {
    items: Vec<OrderView>,
    #[schema(inline)]
    pagination: Pagination,
}

/// Where an invoice is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct InvoiceView {
    /// Good for ten minutes; whoever has it can read the invoice.
    url: String,
}

/// The organization's orders, newest first.
#[utoipa::path(
    get,
    path = "/v1/organizations/{organization_id}/orders",
    tag = "Orders",
    params(("organization_id" = Uuid, Path, description = "The application's id of the organization"), Paging),
    responses((status = 200, description = "One page", body = OrderPage)),
)]
pub(super) async fn list(
    access: Access<Belongs>,
    paging: Paging,
) -> Result<Json<OrderPage>, ApiError> {
    let polar = access.polar()?;
    let Some(customer) = access.customer(polar).await? else {
        return Ok(Json(OrderPage {
            items: Vec::new(),
            pagination: Pagination::whole(0),
        }));
    };
    let customer = CustomerRef::Id(customer.id);
    let page = polar
        .orders()
        .page(customer, paging.page, paging.limit)
        .await?;
    let pagination = Pagination {
        total_count: page.total_count(),
        max_page: page.max_page(),
    };
    Ok(Json(OrderPage {
        items: page.items.into_iter().map(OrderView::from).collect(),
        pagination,
    }))
}

/// Where the invoice of an order can be fetched. It never has one made. Whatever is missing, the answer is the same, so
/// that nobody learns which orders exist.
#[utoipa::path(
    get,
    path = "/v1/organizations/{organization_id}/orders/{order_id}/invoice",
    tag = "Orders",
    params(
        ("organization_id" = Uuid, Path, description = "The application's id of the organization"),
        ("order_id" = Uuid, Path, description = "An order of the organization"),
    ),
    responses((status = 200, description = "The invoice", body = InvoiceView)),
)]
pub(super) async fn invoice(access: Access<Belongs>) -> Result<Json<InvoiceView>, ApiError> {
    let polar = access.polar()?;
    let id: OrderId =
        super::ids::parse(access.path_parameter("order_id")).ok_or(Refusal::OrderNotFound)?;
    let customer = access
        .customer(polar)
        .await?
        .ok_or(Refusal::OrderNotFound)?;
    let order = polar.orders().get(id).await.or_absent()?;
    let order = order
        .filter(|order| order.customer_id == customer.id && order.is_invoice_generated)
        .ok_or(Refusal::OrderNotFound)?;
    let invoice = polar.orders().invoice(order.id).await.or_absent()?;
    let invoice = invoice.ok_or(Refusal::OrderNotFound)?;
    Ok(Json(InvoiceView { url: invoice.url }))
}
