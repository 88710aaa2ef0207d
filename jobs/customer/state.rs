//! Whether deliveries of a customer's state say anything that is not held here already.
//!
//! Polar sends `customer.state_changed` after every change of a customer, its subscriptions and its
//! grants, so also after each of our own writes: a customer that we made has a state that we know.
//! Asking then costs two calls and tells nothing.
//!
//! Not asking is right although deliveries come late and out of order. It writes nothing, so it can
//! undo nothing. What changed at Polar before this state was sent is in it: had a delivery about that
//! been lost, the state would differ from what is held. What changes after it has a state of its own,
//! sent with a later delivery. Where an older state arrives after a newer one was applied, the two
//! differ, and Polar is asked once more. What the state does not tell (past due and paused
//! subscriptions, a pending change) has deliveries of its own, and where such a subscription is what
//! is held, the state is no proof and Polar is asked. An organization that is out of step, or a state
//! that cannot be read, is always a reason to ask.

use polar::{ActiveSubscription, Envelope, GrantedBenefit};
use serde::Deserialize;
use uuid::Uuid;

use crate::benefits::{self, Entitlements};
use crate::contract::{Context, Error};
use crate::mirror::subscriptions::Terms;
use crate::mirror::{self, events, subscriptions};
use crate::types::OrganizationId;

/// The parts of a state that are held here. A missing part must not read as an empty one.
#[derive(Deserialize)]
struct State {
    active_subscriptions: Vec<ActiveSubscription>,
    granted_benefits: Vec<GrantedBenefit>,
}

/// What is held here.
struct Held {
    subscription: Option<Terms>,
    entitlements: Entitlements,
    benefits: Vec<Uuid>,
}

/// Whether the newest state behind this job tells what is held here: it says all that earlier ones do. One
/// that cannot be read may be the newest.
pub(crate) async fn is_held(
    context: &Context,
    organization: OrganizationId,
) -> Result<bool, Error> {
    let bodies = events::deliveries(&context.pool, &context.job.events).await?;
    let Some((entitlements, benefits)) =
        mirror::benefits::read(&context.pool, organization).await?
    else {
        return Ok(false);
    };
    let held = Held {
        subscription: subscriptions::read(&context.pool, organization).await?,
        entitlements,
        benefits,
    };
    let states: Result<Vec<Envelope<State>>, _> =
        bodies.iter().map(|body| Envelope::parse(body)).collect();
    let newest = states
        .ok()
        .and_then(|states| states.into_iter().max_by_key(|state| state.timestamp));
    Ok(newest.is_some_and(|state| held.is_told_by(&state.data)))
}

impl Held {
    fn is_told_by(&self, state: &State) -> bool {
        self.subscription_is_told_by(state) && self.benefits_are_told_by(state)
    }

    fn subscription_is_told_by(&self, state: &State) -> bool {
        let newest = state
            .active_subscriptions
            .iter()
            .max_by_key(|active| (active.started_at.unwrap_or(active.created_at), active.id));
        match (&self.subscription, newest) {
            (None, None) => true,
            // It ended, and nothing is in force.
            (Some(held), None) => held.status == "canceled",
            (None, Some(_)) => false,
            (Some(held), Some(active)) => *held == terms(active),
        }
    }

    fn benefits_are_told_by(&self, state: &State) -> bool {
        let held = benefits::held(&state.granted_benefits);
        let (entitlements, faults) = benefits::read(&held);
        faults.is_empty()
            && entitlements == self.entitlements
            && held
                .iter()
                .map(|benefit| benefit.id.0)
                .eq(self.benefits.iter().copied())
    }
}

fn terms(active: &ActiveSubscription) -> Terms {
    Terms {
        subscription_id: active.id.0,
        product_id: active.product_id.0,
        status: active.status.as_str().to_owned(),
        amount: active.amount,
        currency: active.currency.clone(),
        recurring_interval: active.recurring_interval.clone(),
        current_period_start: active.current_period_start,
        current_period_end: active.current_period_end,
        cancel_at_period_end: active.cancel_at_period_end,
        canceled_at: active.canceled_at,
        started_at: active.started_at,
        ends_at: active.ends_at,
        discount_id: active.discount_id.map(|discount| discount.0),
    }
}
