//! A deletion is where Polar surprises most: what later deliveries show depends on how it was asked for.

use crate::resources::call::{Call, Outcome, Reply};
use crate::resources::errors::Refusal;
use crate::world::model::Customer;
use crate::world::outbox::{Payload, Task};
use crate::world::store::Store;
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Hashes name and address and keeps the external id in the metadata.
fn anonymize_row(row: &mut Customer, now: crate::world::model::Moment) {
    if row.tax_id.is_null() {
        row.name = row.name.as_deref().map(hash);
    }
    row.billing_name = row.billing_name.as_deref().map(hash);
    row.email = row
        .email
        .as_deref()
        .map(|email| format!("{}@anonymized.polar.sh", hash(email)));
    row.billing_address = Value::Null;
    if let Some(external_id) = &row.external_id {
        row.metadata
            .insert("__external_id".into(), external_id.clone().into());
    }
    let moment = now.to_rfc3339_opts(chrono::SecondsFormat::Micros, false);
    row.metadata.insert("__anonymized_at".into(), moment.into());
}

impl Store {
    pub(crate) fn delete_customer(&mut self, id: Option<Uuid>, call: &Call) -> Outcome {
        let row = id
            .and_then(|id| self.customers.get(id))
            .ok_or_else(|| Refusal::not_found("Not found"))?;
        let id = row.id;
        if row.deleted_at.is_some() {
            if row.deleted_revision <= call.arrival {
                return Err(Refusal::not_found("Not found"));
            }
            self.announce("customer.deleted", Payload::Customer(id));
            self.announce("customer.state_changed", Payload::CustomerState(id));
            return Ok(Reply::gone());
        }
        self.mark_deleted(id, call.flag("anonymize") == Some(true));
        self.delete_all_members(id);
        self.announce("customer.deleted", Payload::Customer(id));
        self.announce("customer.state_changed", Payload::CustomerState(id));
        let due = self.clock.elapsed() + self.deletion_delay;
        self.outbox.schedule(due, Task::EndGrants(id));
        Ok(Reply::gone())
    }

    pub(crate) fn mark_deleted(&mut self, id: Uuid, anonymize: bool) {
        let now = self.now();
        let revision = self.next_revision();
        let Some(row) = self.customers.get_mut(id) else {
            return;
        };
        row.deleted_at = Some(now);
        row.modified_at = Some(now);
        row.deleted_revision = revision;
        let external_id = row.external_id.clone();
        let email = row.email.clone();
        if anonymize {
            anonymize_row(row, now);
        }
        if let Some(external_id) = external_id {
            self.customers_by_external_id.remove(&external_id);
        }
        if let Some(email) = email {
            self.customers_by_email.remove(&email.to_lowercase());
        }
    }
}
