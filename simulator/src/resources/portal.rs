//! The customer portal is called as a member, with the token of a session: what a person may do there follows from the
//! role, and every refusal has a place of its own.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::resources::call::{Call, Outcome, Reply, parse_uuid};
use crate::resources::errors::{Fault, Refusal, at};
use crate::resources::paging::Page;
use crate::resources::tax_ids::tax_id_format;
use crate::world::clock::text;
use crate::world::model::{Customer, Member, PaymentMethod};
use crate::world::payment_methods::EXPIRY;
use crate::world::store::Store;
use crate::world::views::maybe;

/// `GET /v1/customer-portal/customers/me`
pub(crate) fn get_customer(store: &mut Store, call: &Call) -> Outcome {
    let customer = store.calling_member(call)?.customer_id;
    store.show_portal_customer(customer)
}

/// `PATCH /v1/customer-portal/customers/me`
pub(crate) fn patch_customer(store: &mut Store, call: &Call) -> Outcome {
    let id = store.billing_member(call)?.customer_id;
    let object = call.object()?;
    let default = default_method(object)?;
    let row = store.living_customer(id).ok_or_else(Refusal::internal)?;
    let (address, tax_id) = billing_changes(row, object)?;
    if let Some(method) = default.filter(|method| store.payment_method(id, *method).is_none()) {
        let loc = at(&["body", "default_payment_method_id"]);
        let fault = Fault::new("invalid", loc, "Payment method not found.", json!(method));
        return Err(Refusal::service(vec![fault]));
    }
    let (before, now) = (row.clone(), store.now());
    if let Some(row) = store.customers.get_mut(id) {
        if let Some(name) = object.get("billing_name").and_then(Value::as_str) {
            row.billing_name = Some(name.to_owned());
        }
        row.billing_address = address.unwrap_or_else(|| row.billing_address.clone());
        row.tax_id = tax_id.unwrap_or_else(|| row.tax_id.clone());
    }
    if let Some(method) = default {
        store.set_default_payment_method(id, method);
    }
    if store.customers.get(id) != Some(&before) {
        if let Some(row) = store.customers.get_mut(id) {
            row.modified_at = Some(now);
        }
        store.announce_customer(id);
    }
    store.show_portal_customer(id)
}

/// `GET /v1/customer-portal/customers/me/payment-methods`: newest first.
pub(crate) fn list_payment_methods(store: &mut Store, call: &Call) -> Outcome {
    let customer = store.billing_member(call)?.customer_id;
    let page = Page::of(call)?;
    page.show(&store.payment_methods_of(customer), |row| {
        payment_method_view(row)
    })
}

/// `DELETE /v1/customer-portal/customers/me/payment-methods/{id}`: what is charged to it moves to another one, if there is
/// another.
pub(crate) fn delete_payment_method(store: &mut Store, call: &Call) -> Outcome {
    let customer = store.billing_member(call)?.customer_id;
    let id = call.id(0)?;
    if store.payment_method(customer, id).is_none() {
        return Err(Refusal::not_found("Not found"));
    }
    let default = store.paying_with(customer).filter(|other| *other != id);
    let mut others = store.payment_methods_of(customer).into_iter();
    let other = default.or_else(|| others.find(|row| row.id != id).map(|row| row.id));
    if other.is_none() && !store.charged_to(id).is_empty() {
        let detail = "Cannot delete payment method. It is currently used by active subscription and no alternative \
                      payment methods ";
        return Err(Refusal::named(
            400,
            "PaymentMethodInUseByActiveSubscription",
            detail,
        ));
    }
    store.replace_payment_method(customer, id, other);
    store.announce_customer(customer);
    Ok(Reply::gone())
}

fn payment_method_view(row: &PaymentMethod) -> Value {
    let mut view = json!({
        "id": row.id, "created_at": text(row.created_at), "modified_at": null, "processor": "stripe",
        "customer_id": row.customer_id, "type": "link",
    });
    if let Some(card) = &row.card {
        view["type"] = "card".into();
        view["method_metadata"] = json!({
            "brand": card.brand, "last4": card.last4, "exp_month": EXPIRY.0, "exp_year": EXPIRY.1, "wallet": null,
        });
    }
    view
}

fn default_method(object: &Map<String, Value>) -> Result<Option<Uuid>, Refusal> {
    let loc = at(&["body", "default_payment_method_id"]);
    match object.get("default_payment_method_id") {
        None => Ok(None),
        Some(Value::Null) => {
            let message = "Default payment method cannot be reset to null.";
            let fault = Fault::new("missing", loc, message, Value::Null);
            Err(Refusal::service(vec![fault]))
        }
        Some(value) => parse_uuid(value.as_str().unwrap_or_default(), loc)
            .map(Some)
            .map_err(|fault| Refusal::schema(vec![fault])),
    }
}

/// The new address and the new tax id. A tax id is checked against the country, also when only the country changes.
fn billing_changes(
    row: &Customer,
    object: &Map<String, Value>,
) -> Result<(Option<Value>, Option<Value>), Refusal> {
    let address = match object.get("billing_address") {
        None => None,
        Some(Value::Null) => {
            let message = "Customer billing address cannot be reset to null once set.";
            let loc = at(&["body", "billing_address"]);
            let fault = Fault::new("missing", loc, message, Value::Null);
            return Err(Refusal::service(vec![fault]));
        }
        Some(value) => Some(read_address(value)?),
    };
    let kept = row.tax_id.get(0).and_then(Value::as_str);
    let tax_id = match object.get("tax_id") {
        Some(Value::Null) => return Ok((address, Some(Value::Null))),
        Some(value) => value.as_str(),
        None => kept,
    };
    let Some(tax_id) = tax_id else {
        return Ok((address, None));
    };
    let country = address.as_ref().unwrap_or(&row.billing_address)["country"].as_str();
    let Some(country) = country else {
        let message = "Country is required to validate tax ID.";
        let fault = Fault::new(
            "missing",
            at(&["body", "billing_address"]),
            message,
            Value::Null,
        );
        return Err(Refusal::service(vec![fault]));
    };
    let Some(format) = tax_id_format(tax_id, country) else {
        let fault = Fault::new(
            "invalid",
            at(&["body", "tax_id"]),
            "Invalid tax ID.",
            json!(tax_id),
        );
        return Err(Refusal::service(vec![fault]));
    };
    Ok((address, Some(json!([tax_id, format]))))
}

/// An address as it is kept: every part there, the state with its country before it where there are states.
fn read_address(value: &Value) -> Result<Value, Refusal> {
    let loc = ["body", "billing_address", "country"];
    let Some(country) = value.get("country").filter(|value| !value.is_null()) else {
        let fault = Fault::missing(at(&loc), value.clone());
        return Err(Refusal::schema(vec![fault]));
    };
    let code = country.as_str().unwrap_or_default();
    if code.len() != 2 || !code.bytes().all(|letter| letter.is_ascii_uppercase()) {
        let message = "Input should be a country of ISO 3166-1 alpha-2";
        let fault = Fault::new("enum", at(&loc), message, country.clone());
        return Err(Refusal::schema(vec![fault]));
    }
    let part = |key: &str| value.get(key).cloned().unwrap_or(Value::Null);
    let state = part("state");
    let state = match state.as_str() {
        Some(text) if matches!(code, "US" | "CA") && !text.contains('-') => {
            json!(format!("{code}-{text}"))
        }
        _ => state,
    };
    Ok(json!({
        "line1": part("line1"), "line2": part("line2"), "postal_code": part("postal_code"), "city": part("city"),
        "state": state, "country": code,
    }))
}

impl Store {
    /// Who calls; the session of somebody who left since is worth nothing.
    pub(crate) fn calling_member(&self, call: &Call) -> Result<Member, Refusal> {
        let member = call.member.and_then(|id| self.members.get(id));
        member.cloned().ok_or_else(Refusal::invalid_token)
    }

    /// Who calls, where the role allows it to look after the bills.
    fn billing_member(&self, call: &Call) -> Result<Member, Refusal> {
        let member = self.calling_member(call)?;
        if matches!(member.role, "owner" | "billing_manager") {
            return Ok(member);
        }
        let detail = "Only owners and billing managers can access billing features.";
        Err(Refusal::named(403, "NotPermitted", detail))
    }

    fn show_portal_customer(&self, id: Uuid) -> Outcome {
        let row = self.living_customer(id).ok_or_else(Refusal::internal)?;
        Ok(Reply::ok(portal_customer_view(row)))
    }
}

/// A customer as its members see it.
pub(crate) fn portal_customer_view(row: &Customer) -> Value {
    let billing_name = row.billing_name.as_ref().or(row.name.as_ref());
    json!({
        "created_at": text(row.created_at), "modified_at": maybe(row.modified_at), "id": row.id, "email": row.email,
        "email_verified": false, "name": row.name, "billing_name": billing_name,
        "billing_address": row.billing_address, "tax_id": row.tax_id, "oauth_accounts": {},
        "default_payment_method_id": row.default_payment_method, "type": if row.team { "team" } else { "individual" },
        "locale": row.locale,
    })
}
