//! What happens in the world is sent to every endpoint that subscribes to it.

use serde_json::Value;
use uuid::Uuid;

use crate::world::clock::text;
use crate::world::model::Endpoint;
use crate::world::outbox::{Delivery, DeliveryState, Payload};
use crate::world::store::Store;

impl Store {
    /// Records an event for every enabled endpoint that wants its type; a disabled one never hears of it.
    pub(crate) fn announce(&mut self, kind: &'static str, payload: Payload) {
        let wants = |endpoint: &&Endpoint| {
            endpoint.enabled
                && !endpoint.deleted
                && endpoint.events.iter().any(|wanted| wanted == kind)
        };
        let endpoints: Vec<Uuid> = self
            .outbox
            .endpoints
            .iter()
            .filter(wants)
            .map(|endpoint| endpoint.id)
            .collect();
        for endpoint_id in endpoints {
            let (id, created_at, made) = (self.fresh_id(), self.now(), self.clock.elapsed());
            let number = self.outbox.deliveries.len();
            let mut delivery = Delivery::new(id, endpoint_id, kind, created_at, made);
            match &payload {
                Payload::Ready(data) => {
                    delivery.body = Some(envelope(kind, &text(created_at), data))
                }
                late => delivery.late = Some(late.clone()),
            }
            self.outbox.deliveries.push(delivery);
            self.outbox.enqueue(number);
        }
    }

    /// The body of a delivery; a late one is built now and stays as built.
    pub(crate) fn build_body(&mut self, number: usize) -> Option<String> {
        let delivery = self.outbox.deliveries.get(number)?;
        if let Some(body) = &delivery.body {
            return Some(body.clone());
        }
        let data = match delivery.late.as_ref()? {
            Payload::Ready(data) => data.clone(),
            Payload::Customer(id) => self.customer_view(self.customers.get(*id)?),
            Payload::CustomerState(id) => self.customer_state_view(self.customers.get(*id)?),
        };
        let body = envelope(delivery.kind, &text(self.now()), &data);
        let delivery = self.outbox.deliveries.get_mut(number)?;
        delivery.body = Some(body.clone());
        Some(body)
    }

    /// Whether every delivery was answered 2xx or finally failed.
    pub(crate) fn deliveries_finished(&self) -> bool {
        self.outbox.is_finished()
    }

    /// Sends an event once more, with the schedule started over.
    pub(crate) fn redeliver(&mut self, id: Uuid) -> bool {
        let found = self
            .outbox
            .deliveries
            .iter()
            .position(|delivery| delivery.id == id);
        let Some(number) = found else { return false };
        let delivery = &mut self.outbox.deliveries[number];
        delivery.round = 0;
        delivery.state = DeliveryState::Pending;
        self.outbox.enqueue(number);
        true
    }

    /// Marks what still waits for an endpoint as skipped, when it is disabled.
    pub(crate) fn skip_pending(&mut self, endpoint_id: Uuid) {
        for delivery in &mut self.outbox.deliveries {
            if delivery.endpoint_id == endpoint_id && delivery.state == DeliveryState::Pending {
                delivery.state = DeliveryState::Skipped;
            }
        }
    }
}

/// Compact JSON in Polar's order of keys: type, timestamp, data.
fn envelope(kind: &str, timestamp: &str, data: &Value) -> String {
    format!(r#"{{"type":"{kind}","timestamp":"{timestamp}","data":{data}}}"#)
}
