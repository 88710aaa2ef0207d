//! Orders, grants, discounts and endpoints as the API and the deliveries show them.

use crate::world::clock::text;
use crate::world::model::{Discount, Endpoint, Grant, Order, OrderItem};
use crate::world::store::Store;
use crate::world::views::{maybe, member_view};
use serde_json::{Value, json};

impl Store {
    /// An order with its customer, product and subscription.
    pub(crate) fn order_view(&self, row: &Order) -> Value {
        let net = row.subtotal - row.discount;
        let total = net + row.tax;
        let paid = row.status == "paid";
        let product = row.product_id.and_then(|id| self.products.get(id));
        let subscription = row
            .subscription_id
            .and_then(|id| self.subscriptions.get(id));
        let discount = row.discount_id.and_then(|id| self.discounts.get(id));
        let mut view = json!({
            "id": row.id, "created_at": text(row.created_at), "modified_at": maybe(row.modified_at),
            "status": row.status, "paid": paid, "subtotal_amount": row.subtotal,
            "discount_amount": row.discount, "net_amount": net, "tax_amount": row.tax, "total_amount": total,
            "applied_balance_amount": row.applied_balance, "due_amount": (total + row.applied_balance).max(0), "refunded_amount": 0, "refunded_tax_amount": 0,
            "currency": "usd", "billing_reason": row.billing_reason, "billing_name": row.billing_name,
            "billing_address": row.billing_address, "invoice_number": row.invoice_number,
            "is_invoice_generated": row.invoice_generated, "receipt_number": null, "seats": null, "units": null,
            "customer_id": row.customer_id, "product_id": row.product_id, "product_price_id": null,
            "discount_id": row.discount_id, "subscription_id": row.subscription_id, "checkout_id": row.checkout_id,
            "next_payment_attempt_at": null, "metadata": {}, "custom_field_data": {}, "platform_fee_amount": 0,
            "platform_fee_currency": null, "user_id": row.customer_id, "product_price": null,
            "description": row.description, "amount": net, "from_balance_amount": 0,
            "refundable_amount": net, "refundable_tax_amount": row.tax,
        });
        view["customer"] = self.customer_of(row.customer_id);
        view["user"] = self.legacy_user(row.customer_id);
        view["product"] = product.map_or(Value::Null, |product| self.bare_product_view(product));
        view["discount"] =
            discount.map_or(Value::Null, |discount| self.bare_discount_view(discount));
        view["subscription"] =
            subscription.map_or(Value::Null, |row| self.bare_subscription_view(row));
        let item = |item: &OrderItem| {
            json!({
                "created_at": text(row.created_at), "modified_at": null, "id": item.id, "label": item.label,
                "amount": item.amount, "tax_amount": item.tax, "proration": item.proration,
                "product_price_id": null,
            })
        };
        view["items"] = row.items.iter().map(item).collect();
        view
    }

    /// A grant as the list shows it.
    pub(crate) fn grant_view(&self, row: &Grant) -> Value {
        let member = row.member_id.and_then(|id| self.members.get(id));
        let benefit = self.benefits.get(row.benefit_id);
        json!({
            "created_at": text(row.created_at), "modified_at": maybe(row.modified_at), "id": row.id,
            "granted_at": maybe(row.granted_at), "is_granted": row.granted_at.is_some(),
            "revoked_at": maybe(row.revoked_at), "is_revoked": row.revoked_at.is_some(),
            "subscription_id": row.subscription_id, "order_id": null, "customer_id": row.customer_id,
            "member_id": row.member_id, "benefit_id": row.benefit_id, "error": null,
            "customer": self.customer_of(row.customer_id), "member": member.map(member_view),
            "benefit": benefit.map_or(Value::Null, |benefit| self.benefit_view(benefit)),
            "properties": row.properties,
            "user_id": row.customer_id,
        })
    }

    /// A grant as deliveries show it: with `previous_properties`.
    pub(crate) fn delivered_grant_view(&self, row: &Grant) -> Value {
        let mut view = self.grant_view(row);
        view["previous_properties"] = json!({});
        view
    }

    /// A discount with its products.
    pub(crate) fn discount_view(&self, row: &Discount) -> Value {
        let mut view = self.bare_discount_view(row);
        let products = row.products.iter().filter_map(|id| self.products.get(*id));
        view["products"] = products.map(|row| self.bare_product_view(row)).collect();
        view
    }

    pub(crate) fn bare_discount_view(&self, row: &Discount) -> Value {
        let mut view = json!({
            "created_at": text(row.created_at), "modified_at": null, "id": row.id, "metadata": {}, "code": null,
            "starts_at": null, "ends_at": null, "max_redemptions": null, "max_redemptions_per_customer": null,
            "redemptions_count": row.redemptions, "organization_id": self.organization_id,
        });
        for (key, value) in &row.request {
            if key != "products" {
                view[key] = value.clone();
            }
        }
        // One amount for one currency, given in both ways.
        if let (Some(amount), Some(currency)) = (view["amount"].as_i64(), view["currency"].as_str())
        {
            view["amounts"] = json!({ currency: amount });
        }
        view
    }

    /// An endpoint, secret included, as Polar shows it to its owner.
    pub(crate) fn endpoint_view(&self, row: &Endpoint) -> Value {
        json!({
            "created_at": text(row.created_at), "modified_at": maybe(row.modified_at), "id": row.id, "url": row.url,
            "name": null, "format": "raw", "secret": row.secret, "organization_id": self.organization_id,
            "events": row.events, "enabled": row.enabled,
        })
    }
}
