//! Which delivery starts which job, and so which types of event our endpoint must be subscribed to:
//! both are read off one exhaustive match. No wildcard but `Other`: a type that we learn must be
//! decided here before it compiles.

use std::collections::BTreeMap;

use jobs::{ApplyBenefits, NewJob, RestoreCustomer, SyncSubscription};
use polar::{EventType, Peek};

/// Makes the job that a delivery starts; `None` where the delivery lacks what the job is about.
type Start = fn(&Peek) -> Option<NewJob>;

/// The jobs that follow from a delivery; none for what changes nothing on our side.
pub(super) fn jobs(about: &Peek) -> Vec<NewJob> {
    let start = about.event_type.as_ref().and_then(start);
    start.and_then(|start| start(about)).into_iter().collect()
}

/// Returns the jobs that follow from the body of a delivery.
#[must_use]
pub fn jobs_of_delivery(body: &[u8]) -> Vec<NewJob> {
    jobs(&polar::peek(body))
}

/// The types of event that start a job, as Polar writes them, in alphabetical order.
#[must_use]
pub fn handled_events() -> Vec<&'static str> {
    let is_handled = |text: &&str| start(&EventType::parse(text)).is_some();
    let mut handled: Vec<&str> = EventType::KNOWN
        .iter()
        .copied()
        .filter(is_handled)
        .collect();
    handled.sort_unstable();
    handled
}

/// The same for people: where all types that Polar has of a family are handled, `family.*`.
#[must_use]
pub fn handled_event_families() -> Vec<String> {
    let handled = handled_events();
    let mut families: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for known in EventType::KNOWN {
        families.entry(family(known)).or_default().push(known);
    }
    let mut named = Vec::new();
    for (family, known) in families {
        if known.len() > 1 && known.iter().all(|known| handled.contains(known)) {
            named.push(format!("{family}.*"));
        } else {
            let of_family = handled.iter().filter(|handled| known.contains(handled));
            named.extend(of_family.map(|&handled| handled.to_owned()));
        }
    }
    named
}

fn family(event_type: &str) -> &str {
    event_type.split('.').next().unwrap_or(event_type)
}

fn start(event_type: &EventType) -> Option<Start> {
    match event_type {
        // Only a reason to ask Polar for the grants that are active now. A changed definition sends
        // no grant deliveries of its own.
        EventType::BenefitGrantCreated
        | EventType::BenefitGrantCycled
        | EventType::BenefitGrantUpdated
        | EventType::BenefitGrantRevoked
        | EventType::BenefitUpdated => {
            Some(|about| Some(NewJob::of(&ApplyBenefits::for_delivery(about))))
        }
        EventType::CustomerDeleted => Some(RestoreCustomer::for_delivery),
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
            Some(|about| Some(NewJob::of(&SyncSubscription::for_delivery(about))))
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
        | EventType::Other(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_names_exactly_the_events_that_are_handled() {
        let quoted: Vec<String> = handled_event_families()
            .into_iter()
            .map(|family| format!("`{family}`"))
            .collect();
        let (last, others) = quoted.split_last().expect("something is handled");
        let sentence = format!("with the events {} and {last};", others.join(", "));
        let readme = include_str!("../../README.md");
        let readme = readme.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(readme.contains(&sentence), "README must say: {sentence}");
    }

    #[test]
    fn every_family_of_the_summary_stands_for_handled_events_only() {
        let stands_for = |family: &String, event: &str| match family.strip_suffix('*') {
            Some(prefix) => event.starts_with(prefix),
            None => family == event,
        };
        let families = handled_event_families();
        let summarized: Vec<&str> = EventType::KNOWN
            .iter()
            .copied()
            .filter(|event| families.iter().any(|family| stands_for(family, event)))
            .collect();
        let mut handled = handled_events();
        handled.sort_by_key(|event| EventType::KNOWN.iter().position(|known| known == event));
        assert_eq!(summarized, handled);
    }

    /// Without mail and before it: what the jobs of today need, and nothing else.
    #[test]
    fn grants_subscriptions_states_and_deletions_are_handled() {
        let families = handled_event_families();
        let wanted = [
            "benefit.updated",
            "benefit_grant.*",
            "customer.deleted",
            "customer.state_changed",
            "subscription.*",
        ];
        assert_eq!(families, wanted);
    }
}
