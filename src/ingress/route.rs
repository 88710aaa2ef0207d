//! Which delivery starts which job. No wildcard but `Other`: a type that we learn must be decided
//! here before it compiles.

use jobs::{ApplyBenefits, NewJob, RestoreCustomer, SyncSubscription};
use polar::{EventType, Peek};

/// The jobs that follow from a delivery; none for what changes nothing on our side (contract 5,
/// polar-domain (c.6)).
pub(super) fn jobs(event: i64, about: &Peek) -> Vec<NewJob> {
    let Some(event_type) = &about.event_type else {
        return Vec::new();
    };
    match event_type {
        // Only a reason to ask Polar for the grants that are active now (design 1). A changed
        // definition sends no grant deliveries of its own (polar-domain (d.2)).
        EventType::BenefitGrantCreated
        | EventType::BenefitGrantCycled
        | EventType::BenefitGrantUpdated
        | EventType::BenefitGrantRevoked
        | EventType::BenefitUpdated => vec![NewJob::of(&ApplyBenefits::for_delivery(event, about))],
        EventType::CustomerDeleted => RestoreCustomer::for_delivery(about).into_iter().collect(),
        EventType::CustomerStateChanged
        | EventType::SubscriptionActive
        | EventType::SubscriptionCanceled
        | EventType::SubscriptionCreated
        | EventType::SubscriptionCycled
        | EventType::SubscriptionPastDue
        | EventType::SubscriptionPaused
        | EventType::SubscriptionResumed
        | EventType::SubscriptionRevoked
        | EventType::SubscriptionUncanceled
        | EventType::SubscriptionUpdated => {
            vec![NewJob::of(&SyncSubscription::for_delivery(event, about))]
        }
        EventType::BenefitCreated
        | EventType::CheckoutCreated
        | EventType::CheckoutExpired
        | EventType::CheckoutUpdated
        | EventType::CustomerCreated
        | EventType::CustomerUpdated
        | EventType::CustomerSeatAssigned
        | EventType::CustomerSeatClaimed
        | EventType::CustomerSeatRevoked
        | EventType::DiscountCreated
        | EventType::DiscountDeleted
        | EventType::DiscountUpdated
        | EventType::MemberCreated
        | EventType::MemberDeleted
        | EventType::MemberUpdated
        | EventType::OrderCreated
        | EventType::OrderPaid
        | EventType::OrderRefunded
        | EventType::OrderUpdated
        | EventType::OrganizationUpdated
        | EventType::ProductCreated
        | EventType::ProductUpdated
        | EventType::RefundCreated
        | EventType::RefundUpdated
        | EventType::Other(_) => Vec::new(),
    }
}
