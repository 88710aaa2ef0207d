//! A plan is bought through a checkout, by a request of the application or by people themselves.

use chrono::TimeDelta;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::clock::text;
use crate::world::model::{Checkout, Moment, Product};
use crate::world::outbox::Payload;
use crate::world::store::Store;
use crate::world::views::price_view;

/// Who buys what, and where the buyer goes afterwards.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) products: Vec<Uuid>,
    pub(crate) customer_id: Option<Uuid>,
    pub(crate) external_customer_id: Option<String>,
    pub(crate) discount_id: Option<Uuid>,
    pub(crate) subscription_id: Option<Uuid>,
    pub(crate) success_url: Option<String>,
    pub(crate) return_url: Option<String>,
    pub(crate) embed_origin: Option<String>,
    pub(crate) customer_ip_address: Option<String>,
}

/// How long a checkout can be paid.
const LIFE: TimeDelta = TimeDelta::hours(1);

impl Checkout {
    /// What the link to its page ends in.
    pub(crate) fn secret(&self) -> String {
        format!("polar_c_{}", self.id.simple())
    }

    pub(crate) fn expires_at(&self) -> Moment {
        self.created_at + LIFE
    }
}

impl Store {
    /// Opens a checkout and announces it.
    pub(crate) fn open_checkout(&mut self, wanted: Wanted) -> Uuid {
        let (id, created_at) = (self.fresh_id(), self.now());
        self.checkouts.insert(Checkout {
            id,
            created_at,
            modified_at: None,
            status: "open",
            products: wanted.products,
            customer_id: wanted.customer_id,
            external_customer_id: wanted.external_customer_id,
            discount_id: wanted.discount_id,
            subscription_id: wanted.subscription_id,
            success_url: wanted.success_url,
            return_url: wanted.return_url,
            embed_origin: wanted.embed_origin,
            customer_ip_address: wanted.customer_ip_address,
        });
        self.announce_checkout(id, "checkout.created");
        id
    }

    /// Moves a checkout on.
    pub(crate) fn set_checkout_status(&mut self, id: Uuid, status: &'static str) {
        let now = self.now();
        if let Some(row) = self.checkouts.get_mut(id) {
            row.status = status;
            row.modified_at = Some(now);
        }
        self.announce_checkout(id, "checkout.updated");
    }

    fn announce_checkout(&mut self, id: Uuid, kind: &'static str) {
        let Some(view) = self
            .checkouts
            .get(id)
            .map(|row| view(self, row, "https://example.com"))
        else {
            return;
        };
        self.announce(kind, Payload::Ready(view));
    }
}

fn product_view(store: &Store, row: &Product) -> Value {
    let mut view = store.product_view(row);
    for key in ["metadata", "attached_custom_fields"] {
        if let Some(object) = view.as_object_mut() {
            object.remove(key);
        }
    }
    view
}

/// The shape of the API description.
pub(crate) fn view(store: &Store, row: &Checkout, base_url: &str) -> Value {
    let products: Vec<&Product> = row
        .products
        .iter()
        .filter_map(|id| store.products.get(*id))
        .collect();
    let first = products.first().copied();
    let amount = first.map_or(0, |product| product.price_amount);
    let net = first.map_or(0, |product| store.amount(product.id, row.discount_id));
    let prices: serde_json::Map<String, Value> = products
        .iter()
        .map(|product| (product.id.to_string(), json!([price_view(product)])))
        .collect();
    let products: Vec<Value> = products
        .into_iter()
        .map(|product| product_view(store, product))
        .collect();
    let customer = row.customer_id.and_then(|id| store.customers.get(id));
    let mut view = terms(store, row, base_url);
    merge(
        &mut view,
        json!({
            "amount": amount, "discount_amount": amount - net, "net_amount": net, "total_amount": net,
            "product_id": first.map(|product| product.id),
            "product_price_id": first.map(|product| product.price_id),
            "is_free_product_price": amount == 0, "is_payment_required": net > 0,
            "customer_name": customer.map(|customer| customer.name.clone()),
            "customer_email": customer.map(|customer| customer.email.clone()),
            "products": products, "product": products.first(), "prices": prices,
            "product_price": first.map(price_view),
        }),
    );
    view
}

fn merge(view: &mut Value, more: Value) {
    if let (Some(view), Value::Object(more)) = (view.as_object_mut(), more) {
        view.extend(more);
    }
}

/// What does not depend on the products.
fn terms(store: &Store, row: &Checkout, base_url: &str) -> Value {
    let secret = row.secret();
    let success = format!("{base_url}/checkout/{secret}/confirmation");
    let mut view = json!({
        "id": row.id, "created_at": text(row.created_at), "modified_at": row.modified_at.map(text),
        "custom_field_data": {}, "payment_processor": "stripe", "status": row.status, "client_secret": secret,
        "url": format!("{base_url}/checkout/{secret}"), "expires_at": text(row.expires_at()),
        "success_url": row.success_url.clone().unwrap_or(success), "return_url": row.return_url, "embed_origin": row.embed_origin,
        "seats": null, "min_seats": null, "max_seats": null, "units": null,
        "tax_amount": null, "tax_behavior": null,
        "currency": "usd", "allow_trial": true, "active_trial_interval": null,
        "active_trial_interval_count": null, "trial_end": null, "organization_id": store.organization_id,
    });
    let rest = json!({
        "discount_id": row.discount_id, "allow_discount_codes": true, "require_billing_address": false,
        "is_discount_applicable": true,
        "is_payment_setup_required": true, "is_payment_form_required": true, "customer_id": row.customer_id,
        "is_business_customer": false, "customer_ip_address": row.customer_ip_address,
        "customer_billing_name": null, "customer_billing_address": null, "customer_tax_id": null, "locale": null,
        "payment_method_type": null, "payment_processor_metadata": {}, "billing_address_fields": {
            "country": "required", "state": "optional", "city": "optional", "postal_code": "optional",
            "line1": "optional", "line2": "optional",
        },
        "trial_interval": null, "trial_interval_count": null, "metadata": {},
        "external_customer_id": row.external_customer_id, "customer_external_id": row.external_customer_id,
        "discount": null, "subscription_id": row.subscription_id,
        "attached_custom_fields": [], "customer_metadata": {},
    });
    merge(&mut view, rest);
    view
}
