//! The API and the deliveries show the same rows the same way, deprecated fields included.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::world::clock::text;
use crate::world::model::{Benefit, Customer, Grant, Member, Moment, Product, Subscription};
use crate::world::store::Store;

/// A moment, or null.
pub(crate) fn maybe(moment: Option<Moment>) -> Value {
    moment.map_or(Value::Null, |moment| text(moment).into())
}

fn avatar(address: Option<&str>) -> Value {
    let Some(address) = address else {
        return Value::Null;
    };
    let digest = Sha256::digest(address.to_lowercase().as_bytes());
    let hash: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("https://www.gravatar.com/avatar/{hash}?d=404").into()
}

impl Store {
    /// A customer. The owner's address stands in for the avatar of a customer without one.
    pub(crate) fn customer_view(&self, row: &Customer) -> Value {
        let owner = self
            .living_members(row.id)
            .find(|member| member.role == "owner");
        let address = row
            .email
            .as_deref()
            .or(owner.map(|member| member.email.as_str()));
        // A plain deletion hides the external id, an anonymizing one keeps showing it.
        let hidden = row.deleted_at.is_some() && !row.metadata.contains_key("__anonymized_at");
        let external_id = row.external_id.as_deref().filter(|_| !hidden);
        let billing_name = row.billing_name.as_ref().or(row.name.as_ref());
        json!({
            "id": row.id, "created_at": text(row.created_at), "modified_at": maybe(row.modified_at),
            "metadata": row.metadata, "external_id": external_id, "email": row.email, "email_verified": false,
            "type": if row.team { "team" } else { "individual" }, "name": row.name, "billing_name": billing_name,
            "billing_address": row.billing_address, "tax_id": row.tax_id, "locale": row.locale,
            "organization_id": self.organization_id, "default_payment_method_id": row.default_payment_method,
            "deleted_at": maybe(row.deleted_at), "first_user_event_at": null, "avatar_url": avatar(address),
        })
    }

    /// A customer with its running subscriptions and grants; a past due one is absent.
    pub(crate) fn customer_state_view(&self, row: &Customer) -> Value {
        let mut view = self.customer_view(row);
        let of_customer = self
            .subscriptions
            .iter()
            .filter(|subscription| subscription.customer_id == row.id);
        let running =
            of_customer.filter(|subscription| matches!(subscription.status, "active" | "trialing"));
        let subscriptions: Vec<Value> = running
            .map(|subscription| self.state_subscription(subscription))
            .collect();
        let held = self
            .grants_of_customer(row.id)
            .filter(|grant| grant.granted_at.is_some());
        let grants: Vec<Value> = held.map(|grant| self.state_grant(grant)).collect();
        view["active_subscriptions"] = subscriptions.into();
        view["granted_benefits"] = grants.into();
        view["active_meters"] = json!([]);
        view
    }

    fn state_subscription(&self, row: &Subscription) -> Value {
        json!({
            "id": row.id, "created_at": text(row.created_at), "modified_at": maybe(row.modified_at),
            "custom_field_data": {}, "metadata": {}, "status": row.status, "amount": row.amount, "currency": "usd",
            "recurring_interval": self.interval_of(row), "current_period_start": text(row.period_start),
            "current_period_end": text(row.period_end), "trial_start": maybe(row.trial.map(|trial| trial.0)),
            "trial_end": maybe(row.trial.map(|trial| trial.1)), "cancel_at_period_end": row.cancel_at_period_end, "canceled_at": maybe(row.canceled_at),
            "started_at": text(row.started_at), "ends_at": maybe(row.ends_at), "product_id": row.product_id,
            "discount_id": row.discount_id, "price_id": self.price_id_of(row), "meters": [],
        })
    }

    fn state_grant(&self, row: &Grant) -> Value {
        let benefit = self.benefits.get(row.benefit_id);
        json!({
            "id": row.id, "created_at": text(row.created_at), "modified_at": maybe(row.modified_at),
            "granted_at": maybe(row.granted_at), "benefit_id": row.benefit_id, "benefit_type": benefit.map(|benefit| benefit.kind),
            "benefit_metadata": benefit.map(|benefit| &benefit.metadata), "properties": row.properties,
        })
    }

    /// The customer behind a row, shown even after its deletion.
    pub(crate) fn customer_of(&self, id: uuid::Uuid) -> Value {
        self.customers
            .get(id)
            .map_or(Value::Null, |row| self.customer_view(row))
    }

    pub(crate) fn legacy_user(&self, id: uuid::Uuid) -> Value {
        let Some(row) = self.customers.get(id) else {
            return Value::Null;
        };
        let initial: String = row.name.as_deref().unwrap_or("?").chars().take(1).collect();
        let avatar = self.customer_view(row)["avatar_url"].clone();
        json!({"id": id, "email": row.email, "public_name": initial, "avatar_url": avatar, "github_username": null})
    }

    /// A product with its price and benefits.
    pub(crate) fn product_view(&self, row: &Product) -> Value {
        let mut view = self.bare_product_view(row);
        let benefits = row.benefits.iter().filter_map(|id| self.benefits.get(*id));
        let benefits: Vec<Value> = benefits.map(|benefit| self.benefit_view(benefit)).collect();
        view["prices"] = json!([price_view(row)]);
        view["benefits"] = benefits.into();
        view["medias"] = json!([]);
        view["attached_custom_fields"] = json!([]);
        view
    }

    pub(crate) fn bare_product_view(&self, row: &Product) -> Value {
        json!({
            "id": row.id, "created_at": text(row.created_at), "modified_at": maybe(row.modified_at),
            "trial_interval": null, "trial_interval_count": null, "name": row.name, "description": row.description,
            "visibility": "public", "recurring_interval": row.interval, "recurring_interval_count": 1,
            "meter_interval": null, "meter_interval_count": null, "is_recurring": true, "is_archived": row.archived,
            "organization_id": self.organization_id, "metadata": row.metadata,
        })
    }

    /// A benefit.
    pub(crate) fn benefit_view(&self, row: &Benefit) -> Value {
        json!({
            "id": row.id, "created_at": text(row.created_at), "modified_at": maybe(row.modified_at), "type": row.kind,
            "description": row.description, "selectable": true, "deletable": true, "is_deleted": false,
            "organization_id": self.organization_id, "metadata": row.metadata, "visibility": "public",
            "properties": row.properties, "is_tax_applicable": true, "visibility_configurable": true,
        })
    }

    pub(crate) fn interval_of(&self, row: &Subscription) -> Value {
        self.products
            .get(row.product_id)
            .map_or(Value::Null, |product| product.interval.clone().into())
    }

    pub(crate) fn price_id_of(&self, row: &Subscription) -> Value {
        self.products
            .get(row.product_id)
            .map_or(Value::Null, |product| json!(product.price_id))
    }

    pub(crate) fn bare_subscription_view(&self, row: &Subscription) -> Value {
        json!({
            "created_at": text(row.created_at), "modified_at": maybe(row.modified_at), "id": row.id,
            "amount": row.amount, "currency": "usd", "recurring_interval": self.interval_of(row),
            "recurring_interval_count": 1, "status": row.status, "current_period_start": text(row.period_start),
            "current_period_end": text(row.period_end), "current_meter_period_start": null,
            "current_meter_period_end": null, "trial_start": maybe(row.trial.map(|trial| trial.0)),
            "trial_end": maybe(row.trial.map(|trial| trial.1)),
            "cancel_at_period_end": row.cancel_at_period_end, "canceled_at": maybe(row.canceled_at),
            "started_at": text(row.started_at), "ends_at": maybe(row.ends_at), "ended_at": maybe(row.ended_at),
            "past_due_at": maybe(row.past_due_at), "pause_at_period_end": row.pause_at_period_end,
            "paused_at": maybe(row.paused_at), "resumes_at": null, "customer_id": row.customer_id,
            "product_id": row.product_id, "discount_id": row.discount_id, "checkout_id": row.checkout_id,
            "seats": null, "units": null, "customer_cancellation_reason": null,
            "customer_cancellation_comment": null, "price_id": self.price_id_of(row), "metadata": {},
            "user_id": row.customer_id,
        })
    }

    /// A subscription with its customer, product and pending change.
    pub(crate) fn subscription_view(&self, row: &Subscription) -> Value {
        let mut view = self.bare_subscription_view(row);
        let product = self.products.get(row.product_id);
        let price = product.map_or(Value::Null, price_view);
        let discount = row.discount_id.and_then(|id| self.discounts.get(id));
        view["custom_field_data"] = json!({});
        view["customer"] = self.customer_of(row.customer_id);
        view["user"] = self.legacy_user(row.customer_id);
        view["product"] = product.map_or(Value::Null, |product| self.product_view(product));
        view["discount"] =
            discount.map_or(Value::Null, |discount| self.bare_discount_view(discount));
        view["price"] = price.clone();
        view["prices"] = json!([price]);
        view["meters"] = json!([]);
        view["pending_update"] = row.pending.as_ref().map_or(Value::Null, |pending| {
            json!({
                "created_at": text(pending.created_at), "modified_at": maybe(pending.modified_at), "id": pending.id,
                "applies_at": text(pending.applies_at), "product_id": pending.product_id, "seats": null,
                "units": null,
            })
        });
        view
    }
}

/// A member.
pub(crate) fn member_view(row: &Member) -> Value {
    json!({
        "id": row.id, "created_at": text(row.created_at), "modified_at": maybe(row.modified_at),
        "customer_id": row.customer_id, "email": row.email, "name": row.name, "external_id": row.external_id,
        "role": row.role,
    })
}

/// The one fixed price of a product.
pub(crate) fn price_view(row: &Product) -> Value {
    json!({
        "created_at": text(row.created_at), "modified_at": null, "id": row.price_id, "source": "catalog",
        "amount_type": "fixed", "price_currency": "usd", "tax_behavior": null, "is_archived": false,
        "product_id": row.id, "type": "recurring", "recurring_interval": row.interval,
        "price_amount": row.price_amount,
    })
}
