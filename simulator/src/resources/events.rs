//! Usage and cost are counted once only if ingestion is idempotent and atomic; these are its real rules
//!.

use std::collections::HashMap;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::resources::call::{Call, Outcome, Reply};
use crate::resources::errors::{Fault, Refusal};
use crate::resources::event_rules::{self, Candidate};
use crate::resources::paging::{Page, sort, sorting};
use crate::world::clock::text;
use crate::world::model::UsageEvent;
use crate::world::store::Store;

/// `POST /v1/events/ingest`: all or nothing; the first writer of an `external_id` wins for ever.
pub(crate) fn ingest(store: &mut Store, call: &Call) -> Outcome {
    let object = call.object()?;
    let Some(items) = object.get("events").and_then(Value::as_array) else {
        let loc = vec!["body".into(), "events".into()];
        return Err(Refusal::schema(vec![Fault::missing(
            loc,
            call.body.clone(),
        )]));
    };
    let candidates = event_rules::check(items, store.now())?;
    store.check_customers(items, &candidates)?;
    if store.would_deadlock(&candidates, call.arrival) {
        return Err(Refusal::internal());
    }
    store.requests_begun += 1;
    let request = store.requests_begun;
    let revision = store.next_revision();
    let (mut inserted, mut duplicates) = (0_u64, 0_u64);
    for (position, candidate) in candidates.into_iter().enumerate() {
        if store.insert_event(candidate, request, position, revision) {
            inserted += 1;
        } else {
            duplicates += 1;
        }
    }
    Ok(Reply::ok(
        json!({"inserted": inserted, "duplicates": duplicates}),
    ))
}

/// `GET /v1/events/`: what was ingested, newest first.
pub(crate) fn list(store: &mut Store, call: &Call) -> Outcome {
    let page = Page::of(call)?;
    let sortings = sorting(call, &["timestamp", "occurred_at"])?;
    let names = call.all("name");
    let customers = store.wanted_customers(call)?;
    let externals = call.all("external_customer_id");
    let mut rows: Vec<&UsageEvent> = store.events.iter().rev().collect();
    rows.retain(|row| names.is_empty() || names.contains(&row.name.as_str()));
    let wanted = |row: &&UsageEvent, ids: &Vec<Uuid>| match row.customer_id {
        Some(id) => ids.contains(&id),
        None => row
            .external_customer_id
            .as_deref()
            .is_some_and(|id| externals.contains(&id)),
    };
    rows.retain(|row| customers.as_ref().is_none_or(|ids| wanted(row, ids)));
    sort(&mut rows, &sortings, |row, _| text(row.timestamp));
    page.show(&rows, |row| store.event_view(row))
}

impl Store {
    fn event_view(&self, row: &UsageEvent) -> Value {
        json!({
            "id": row.id, "timestamp": text(row.timestamp), "organization_id": self.organization_id,
            "customer_id": row.customer_id, "external_customer_id": row.external_customer_id,
            "external_id": row.external_id, "member_id": null, "external_member_id": null, "customer": null,
            "child_count": 0, "parent_id": self.parent_of(row).map(|parent| parent.id), "label": row.name,
            "source": "user", "name": row.name, "metadata": row.metadata,
        })
    }

    /// What only the database knows: the organization's token, and customers by internal id.
    fn check_customers(&self, items: &[Value], candidates: &[Candidate]) -> Result<(), Refusal> {
        let mut faults = Vec::new();
        for (index, (item, candidate)) in items.iter().zip(candidates).enumerate() {
            let loc = |key: &str| vec!["body".into(), "events".into(), index.into(), key.into()];
            if let Some(input) = item.get("organization_id").filter(|value| !value.is_null()) {
                return Err(Refusal::organization_token(
                    loc("organization_id"),
                    input.clone(),
                ));
            }
            // With both keys the external one counts and the other is not looked at.
            let Some(id) = candidate
                .customer_id
                .filter(|_| candidate.external_customer_id.is_none())
            else {
                continue;
            };
            if self.customers.get(id).is_none() {
                faults.push(Fault::new(
                    "customer_id",
                    loc("customer_id"),
                    "Customer not found.",
                    json!(id),
                ));
            }
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Refusal::service(faults))
        }
    }

    /// Two requests that raced with the same ids in different order lock each other out; one of them fails.
    fn would_deadlock(&self, candidates: &[Candidate], arrival: u64) -> bool {
        let mut last_position: HashMap<u64, usize> = HashMap::new();
        for candidate in candidates {
            let position = candidate
                .external_id
                .as_ref()
                .and_then(|id| self.events_by_external_id.get(id));
            let Some(row) = position.and_then(|position| self.events.get(*position)) else {
                continue;
            };
            if row.revision <= arrival {
                continue;
            }
            let before = last_position.insert(row.request, row.position);
            if before.is_some_and(|before| before > row.position) {
                return true;
            }
        }
        false
    }

    /// The customer that has this external id now. Without one the event waits for the next that gets it.
    fn owner_of_event(&mut self, external_id: &str) -> Option<Uuid> {
        let owner = self.customer_by_external_id(external_id).map(|row| row.id);
        if owner.is_none() {
            let waiting = self.ownerless_events.entry(external_id.to_owned());
            waiting.or_default().push(self.events.len());
        }
        owner
    }

    /// Gives a customer the events that were sent for its external id before anybody had it. Those of an earlier customer
    /// with that id stay with the earlier one.
    pub(crate) fn adopt_events(&mut self, external_id: &str, customer_id: Uuid) {
        for position in self
            .ownerless_events
            .remove(external_id)
            .unwrap_or_default()
        {
            if let Some(event) = self.events.get_mut(position) {
                event.customer_id = Some(customer_id);
            }
        }
    }

    fn insert_event(
        &mut self,
        candidate: Candidate,
        request: u64,
        position: usize,
        revision: u64,
    ) -> bool {
        if let Some(external_id) = &candidate.external_id {
            if self.events_by_external_id.contains_key(external_id) {
                return false;
            }
            self.events_by_external_id
                .insert(external_id.clone(), self.events.len());
        }
        let customer_id = match &candidate.external_customer_id {
            Some(external_id) => self.owner_of_event(external_id),
            None => candidate.customer_id,
        };
        let (id, now) = (self.fresh_id(), self.now());
        self.events.push(UsageEvent {
            id,
            name: candidate.name,
            external_id: candidate.external_id,
            external_customer_id: candidate.external_customer_id,
            customer_id,
            timestamp: candidate.timestamp.unwrap_or(now),
            ingested_at: now,
            parent: candidate.parent,
            metadata: candidate.metadata,
            request,
            position,
            revision,
        });
        true
    }
}
