//! The world as the records of [`crate::records`].

use uuid::Uuid;

use serde_json::{Map, Value};

use crate::records::{
    AttemptRecord, CustomerRecord, DeliveryRecord, EventRecord, GrantRecord, MemberRecord,
    OrderRecord, SubscriptionRecord,
};
use crate::world::catalogue::Product;
use crate::world::model::{Customer, UsageEvent};
use crate::world::outbox::{Delivery, DeliveryState};
use crate::world::steps::WorldError;
use crate::world::store::Store;

impl From<&Customer> for CustomerRecord {
    fn from(row: &Customer) -> Self {
        Self {
            id: row.id,
            external_id: row.external_id.clone(),
            email: row.email.clone(),
            name: row.name.clone(),
            team: row.team,
            metadata: row.metadata.clone(),
            deleted_at: row.deleted_at,
        }
    }
}

impl From<&Delivery> for DeliveryRecord {
    fn from(row: &Delivery) -> Self {
        let attempts = row.attempts.iter().map(|attempt| AttemptRecord {
            at: attempt.at,
            status: attempt.status,
            response: attempt.response.clone(),
        });
        let state = match row.state {
            DeliveryState::Pending => "pending",
            DeliveryState::Succeeded => "succeeded",
            DeliveryState::Failed => "failed",
            DeliveryState::Skipped => "skipped",
        };
        Self {
            id: row.id,
            event_type: row.kind.to_owned(),
            state: state.to_owned(),
            body: row.body.clone(),
            attempts: attempts.collect(),
        }
    }
}

impl Store {
    /// Every customer that has or had this external id.
    fn ever_with(&self, external_id: &str) -> Vec<Uuid> {
        let rows = self
            .customers
            .iter()
            .filter(|row| row.external_id.as_deref() == Some(external_id));
        rows.map(|row| row.id).collect()
    }

    /// Living members of a living customer.
    pub(crate) fn member_records(&self, external_id: &str) -> Vec<MemberRecord> {
        let Some(customer) = self.customer_by_external_id(external_id) else {
            return Vec::new();
        };
        let rows = self.living_members(customer.id).map(|row| MemberRecord {
            id: row.id,
            external_id: row.external_id.clone(),
            email: row.email.clone(),
            name: row.name.clone(),
            role: row.role.to_owned(),
        });
        rows.collect()
    }

    /// All grants of a customer.
    pub(crate) fn grant_records(&self, external_id: &str) -> Vec<GrantRecord> {
        let customers = self.ever_with(external_id);
        let rows = customers.iter().flat_map(|id| self.grants_of_customer(*id));
        let records = rows.map(|row| {
            let metadata = self
                .benefits
                .get(row.benefit_id)
                .map(|benefit| benefit.metadata.clone());
            let metadata = metadata.unwrap_or_default();
            GrantRecord {
                id: row.id,
                benefit_id: row.benefit_id,
                benefit_type: metadata
                    .get("type")
                    .and_then(Value::as_str)
                    .map(str::to_owned),
                metadata,
                subscription_id: row.subscription_id,
                is_granted: row.granted_at.is_some(),
            }
        });
        records.collect()
    }

    /// All subscriptions of a customer.
    pub(crate) fn subscription_records(&self, external_id: &str) -> Vec<SubscriptionRecord> {
        let customers = self.ever_with(external_id);
        let rows = self
            .subscriptions
            .iter()
            .filter(|row| customers.contains(&row.customer_id));
        let records = rows.map(|row| SubscriptionRecord {
            id: row.id,
            product_id: row.product_id,
            product: self
                .products
                .get(row.product_id)
                .map_or(String::new(), |product| product.name.clone()),
            status: row.status.to_owned(),
            amount: row.amount,
            current_period_start: row.period_start,
            current_period_end: row.period_end,
            cancel_at_period_end: row.cancel_at_period_end,
            ended_at: row.ended_at,
        });
        records.collect()
    }

    /// All orders of a customer.
    pub(crate) fn order_records(&self, external_id: &str) -> Vec<OrderRecord> {
        let customers = self.ever_with(external_id);
        let rows = self
            .orders
            .iter()
            .filter(|row| customers.contains(&row.customer_id));
        let records = rows.map(|row| OrderRecord {
            id: row.id,
            status: row.status.to_owned(),
            billing_reason: row.billing_reason.to_owned(),
            net_amount: row.subtotal - row.discount,
            invoice_number: row.invoice_number.clone(),
            is_invoice_generated: row.invoice_generated,
        });
        records.collect()
    }

    /// The parent, once it arrived: by external id or by id.
    pub(crate) fn parent_of(&self, row: &UsageEvent) -> Option<&UsageEvent> {
        let parent = row.parent.as_deref()?;
        let by_external_id = self
            .events_by_external_id
            .get(parent)
            .and_then(|position| self.events.get(*position));
        by_external_id.or_else(|| {
            let id = Uuid::parse_str(parent).ok()?;
            self.events.iter().find(|event| event.id == id)
        })
    }

    /// All ingested events.
    pub(crate) fn event_records(&self) -> Vec<EventRecord> {
        let record = |row: &UsageEvent| EventRecord {
            id: row.id,
            name: row.name.clone(),
            external_id: row.external_id.clone(),
            external_customer_id: row.external_customer_id.clone(),
            customer_id: row.customer_id,
            timestamp: row.timestamp,
            ingested_at: row.ingested_at,
            parent_id: row.parent.clone(),
            parent_known: self.parent_of(row).is_some(),
            metadata: row.metadata.clone(),
        };
        self.events.iter().map(record).collect()
    }

    /// The sum of `metadata.count`.
    pub(crate) fn event_sum(&self, name: &str, external_id: &str) -> i64 {
        let ours = |row: &&UsageEvent| {
            row.name == name && row.external_customer_id.as_deref() == Some(external_id)
        };
        let counts = self
            .events
            .iter()
            .filter(ours)
            .filter_map(|row| row.metadata.get("count")?.as_i64());
        counts.sum()
    }

    /// The sum of `metadata.count` over one customer's life.
    pub(crate) fn event_sum_of(&self, name: &str, customer_id: Uuid) -> i64 {
        let theirs = |row: &&UsageEvent| row.name == name && row.customer_id == Some(customer_id);
        let events = self.events.iter().filter(theirs);
        events
            .filter_map(|row| row.metadata.get("count")?.as_i64())
            .sum()
    }

    /// Replaces a plan's benefit by a fresh one of the same type; subscribers get the new one before losing the old.
    pub(crate) fn replace_benefit(
        &mut self,
        product: Product,
        kind: &str,
        metadata: Map<String, Value>,
    ) -> Result<Uuid, WorldError> {
        let old = self.plan_benefit(product, kind)?;
        let plan = self
            .plan(product)
            .ok_or_else(|| WorldError::UnknownProduct(product.name().into()))?;
        let new = self.insert_benefit(
            &format!("{} {kind}", product.name()),
            metadata,
            serde_json::json!({"note": "Comes with the plan."}),
        );
        let kept = self
            .products
            .get(plan)
            .map_or(Vec::new(), |row| row.benefits.clone());
        let benefits = kept
            .into_iter()
            .map(|id| if id == old { new } else { id })
            .collect();
        self.put_benefits(plan, benefits);
        Ok(new)
    }
}
