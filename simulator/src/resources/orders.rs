//! An invoice mail waits for an order to be paid and its invoice to exist; these answers drive it.

use serde_json::json;

use crate::resources::call::{Call, Outcome, Reply};
use crate::resources::errors::Refusal;
use crate::resources::paging::{Page, sort, sortable, sorting};
use crate::world::clock::text;
use crate::world::invoices::InvoiceFault;
use crate::world::model::Order;
use crate::world::outbox::Task;
use crate::world::store::Store;

/// The life of a signed invoice link.
const LINK_SECONDS: i64 = 600;
const PROPERTIES: [&str; 9] = [
    "created_at",
    "status",
    "invoice_number",
    "amount",
    "net_amount",
    "customer",
    "product",
    "discount",
    "subscription",
];

/// `GET /v1/orders/`
pub(crate) fn list(store: &mut Store, call: &Call) -> Outcome {
    let page = Page::of(call)?;
    let sortings = sorting(call, &PROPERTIES)?;
    let customers = store.wanted_customers(call)?;
    let subscriptions = call.ids("subscription_id")?;
    let statuses = call.all("status");
    let mut rows: Vec<&Order> = store.orders.iter().rev().collect();
    rows.retain(|row| {
        customers
            .as_ref()
            .is_none_or(|ids| ids.contains(&row.customer_id))
    });
    rows.retain(|row| {
        subscriptions.is_empty()
            || row
                .subscription_id
                .is_some_and(|id| subscriptions.contains(&id))
    });
    rows.retain(|row| statuses.is_empty() || statuses.contains(&row.status));
    sort(&mut rows, &sortings, |row, property| match property {
        "status" => row.status.to_owned(),
        "invoice_number" => row.invoice_number.clone().unwrap_or_default(),
        "amount" | "net_amount" => sortable(row.subtotal - row.discount),
        "customer" => row.customer_id.to_string(),
        _ => text(row.created_at),
    });
    page.show(&rows, |row| store.order_view(row))
}

/// `GET /v1/orders/{id}`
pub(crate) fn get(store: &mut Store, call: &Call) -> Outcome {
    let row = store
        .orders
        .get(call.id(0)?)
        .ok_or_else(|| Refusal::not_found("Not found"))?;
    Ok(Reply::ok(store.order_view(row)))
}

/// `POST /v1/orders/{id}/invoice`: 202 and `null`, also when there already is one.
pub(crate) fn create_invoice(store: &mut Store, call: &Call) -> Outcome {
    let id = call.id(0)?;
    let row = store
        .orders
        .get(id)
        .ok_or_else(|| Refusal::not_found("Not found"))?;
    if matches!(row.status, "draft" | "void") {
        let status = row.status;
        let detail = format!(
            "Order {id} is not eligible for invoice generation (current status: {status})."
        );
        return Err(Refusal::named(409, "OrderNotEligibleForInvoice", detail));
    }
    if store.invoice_fault == Some(InvoiceFault::Broken) {
        return Err(Refusal::internal());
    }
    let is_refused = store.invoice_fault == Some(InvoiceFault::Refused);
    if is_refused || row.billing_name.is_none() || row.billing_address.is_null() {
        let detail = "Billing name and address are required to generate an invoice for this order.";
        return Err(Refusal::named(422, "MissingInvoiceBillingDetails", detail));
    }
    if !row.invoice_generated {
        let due = store.clock.elapsed() + store.invoice_delay;
        store.outbox.schedule(due, Task::Invoice(id));
    }
    Ok(Reply::accepted())
}

/// `GET /v1/orders/{id}/invoice`: a link that lives for 600 s.
pub(crate) fn get_invoice(store: &mut Store, call: &Call) -> Outcome {
    let id = call.id(0)?;
    let row = store
        .orders
        .get(id)
        .ok_or_else(|| Refusal::not_found("Not found"))?;
    if store.invoice_fault == Some(InvoiceFault::Broken) {
        return Err(Refusal::internal());
    }
    if !row.invoice_generated || store.invoice_fault == Some(InvoiceFault::NoLink) {
        let detail = format!("No invoice exists for order {id}.");
        return Err(Refusal::named(404, "InvoiceDoesNotExist", detail));
    }
    let number = row.invoice_number.as_deref().unwrap_or("draft");
    let expires = (store.now() + chrono::TimeDelta::seconds(LINK_SECONDS)).timestamp();
    let disposition = format!("attachment%3B%20filename%3D%22Invoice-{number}.pdf%22");
    let mut base = call.base_url.clone();
    if store.invoice_fault == Some(InvoiceFault::Unencrypted) {
        // Another name of the same machine: who follows the link gets the document.
        base = base.replace("127.0.0.1", "localhost");
    }
    let url = format!(
        "{base}/simulator/invoices/{number}.pdf?response-content-disposition={disposition}\
         &X-Amz-Expires={LINK_SECONDS}&expires={expires}"
    );
    Ok(Reply::ok(json!({"url": url})))
}
