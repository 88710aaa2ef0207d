//! A person sees what was granted through them, and says where the invitation to a shared Slack channel goes.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::resources::call::{Call, Outcome, Reply};
use crate::resources::errors::{Fault, Refusal, at};
use crate::resources::paging::{Page, one_of, sort, sorting};
use crate::resources::portal::portal_customer_view;
use crate::resources::validation;
use crate::world::clock::text;
use crate::world::model::{Benefit, Grant};
use crate::world::outbox::Task;
use crate::world::store::Store;
use crate::world::views::maybe;

const KINDS: [&str; 8] = [
    "custom",
    "discord",
    "github_repository",
    "downloadables",
    "license_keys",
    "meter_credit",
    "feature_flag",
    "slack_shared_channel",
];
const SLACK: &str = "slack_shared_channel";

/// `GET /v1/customer-portal/benefit-grants/`: the member's own, without what was withdrawn.
pub(crate) fn list(store: &mut Store, call: &Call) -> Outcome {
    let member = store.calling_member(call)?;
    let page = Page::of(call)?;
    let sortings = sorting(
        call,
        &["granted_at", "type", "organization", "product_benefit"],
    )?;
    let kinds = call.all("type");
    if let Some(unknown) = kinds.iter().find(|kind| !KINDS.contains(kind)) {
        let fault = one_of(at(&["query", "type"]), &KINDS, json!(unknown));
        return Err(Refusal::schema(vec![fault]));
    }
    let subscriptions = call.ids("subscription_id")?;
    let benefits = call.ids("benefit_id")?;
    let mut rows: Vec<&Grant> = store.grants_of_customer(member.customer_id).collect();
    rows.reverse();
    rows.retain(|row| row.member_id == Some(member.id) && row.revoked_at.is_none());
    rows.retain(|row| kinds.is_empty() || kinds.contains(&store.kind_of(row.benefit_id)));
    rows.retain(|row| subscriptions.is_empty() || subscriptions.contains(&row.subscription_id));
    rows.retain(|row| benefits.is_empty() || benefits.contains(&row.benefit_id));
    sort(&mut rows, &sortings, |row, property| match property {
        "type" => store.kind_of(row.benefit_id).to_owned(),
        _ => row.granted_at.map(text).unwrap_or_default(),
    });
    page.show(&rows, |row| store.portal_grant_view(row))
}

/// `PATCH /v1/customer-portal/benefit-grants/{id}`: a new address takes the old invitation back; the new one is sent later.
pub(crate) fn patch(store: &mut Store, call: &Call) -> Outcome {
    let member = store.calling_member(call)?;
    let id = call.id(0)?;
    let row = store.grants.get(id).filter(|row| {
        row.customer_id == member.customer_id
            && row.member_id == Some(member.id)
            && row.revoked_at.is_none()
    });
    let benefit = row
        .map(|row| row.benefit_id)
        .ok_or_else(|| Refusal::not_found("Not found"))?;
    let wanted = Update::parse(call)?;
    if wanted.kind != store.kind_of(benefit) {
        let message = "Benefit type must match the existing granted benefit type.";
        return Err(Refusal::about("benefit_type", message, json!(wanted.kind)));
    }
    if let Some(address) = wanted.invited_email {
        store.invite_to_channel(id, &address);
    }
    let row = store.grants.get(id).ok_or_else(Refusal::internal)?;
    Ok(Reply::ok(store.portal_grant_view(row)))
}

struct Update {
    kind: String,
    invited_email: Option<String>,
}

impl Update {
    fn parse(call: &Call) -> Result<Self, Refusal> {
        let object = call.object()?;
        let Some(kind) = object.get("benefit_type").and_then(Value::as_str) else {
            let message = "Unable to extract tag using discriminator 'benefit_type'";
            let fault = Fault::new(
                "union_tag_not_found",
                at(&["body"]),
                message,
                call.body.clone(),
            );
            let context = json!({"discriminator": "'benefit_type'"});
            return Err(Refusal::schema(vec![fault.context(context)]));
        };
        let kind = kind.to_owned();
        if kind != SLACK {
            let invited_email = None;
            return Ok(Self {
                kind,
                invited_email,
            });
        }
        let loc = ["body", SLACK, "properties", "invited_email"];
        let address = object
            .get("properties")
            .map(|value| &value["invited_email"]);
        let address = match address {
            None => Err(Fault::missing(at(&loc[..3]), call.body.clone())),
            Some(Value::Null) => Err(Fault::missing(at(&loc), object["properties"].clone())),
            Some(value) => validation::email(value, at(&loc)),
        };
        let invited_email = address.map_err(|fault| Refusal::schema(vec![fault]))?;
        Ok(Self {
            kind,
            invited_email: Some(invited_email),
        })
    }
}

impl Store {
    fn kind_of(&self, benefit: Uuid) -> &'static str {
        self.benefits.get(benefit).map_or("custom", |row| row.kind)
    }

    fn invite_to_channel(&mut self, id: Uuid, address: &str) {
        let now = self.now();
        let Some(row) = self.grants.get_mut(id) else {
            return;
        };
        if row.properties.get("invited_email") != Some(&json!(address)) {
            row.properties.remove("invite_id");
            row.properties.remove("invite_url");
        }
        row.properties
            .insert("invited_email".into(), address.into());
        row.modified_at = Some(now);
        let due = self.clock.elapsed() + self.invoice_delay;
        self.outbox.schedule(due, Task::SlackInvite(id));
    }

    /// The shape of the portal: the customer as its members see it, the benefit with its organization.
    fn portal_grant_view(&self, row: &Grant) -> Value {
        let customer = self.customers.get(row.customer_id);
        let benefit = self.benefits.get(row.benefit_id);
        json!({
            "created_at": text(row.created_at), "modified_at": maybe(row.modified_at), "id": row.id,
            "granted_at": maybe(row.granted_at), "revoked_at": maybe(row.revoked_at), "customer_id": row.customer_id,
            "member_id": row.member_id, "benefit_id": row.benefit_id, "subscription_id": row.subscription_id,
            "order_id": null, "is_granted": row.granted_at.is_some(), "is_revoked": row.revoked_at.is_some(),
            "error": null, "customer": customer.map(portal_customer_view),
            "benefit": benefit.map(|row| self.portal_benefit_view(row)), "properties": row.properties,
        })
    }

    fn portal_benefit_view(&self, row: &Benefit) -> Value {
        let properties = if row.kind == SLACK {
            json!({})
        } else {
            row.properties.clone()
        };
        json!({
            "id": row.id, "created_at": text(row.created_at), "modified_at": maybe(row.modified_at),
            "type": row.kind, "description": row.description, "selectable": true, "deletable": true,
            "is_deleted": false, "organization_id": self.organization_id, "properties": properties,
            "organization": self.portal_organization_view(),
        })
    }
}
