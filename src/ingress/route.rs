//! Which delivery starts which job, and so which types of event our endpoint must be subscribed to:
//! both are read off one exhaustive match. No wildcard but `Other`: a type that we learn must be
//! decided here before it compiles.

use std::collections::BTreeMap;

use jobs::{
    ApplyBenefits, NewJob, RestoreCustomer, SendOrderEmail, SendSubscriptionEmail, SyncSubscription,
};
use polar::{EventType, Peek};

/// Makes the jobs that a delivery starts; none where the delivery lacks what a job is about.
type Start = fn(&Peek) -> Vec<NewJob>;

/// The jobs that follow from a delivery; none for what changes nothing on our side.
pub(super) fn jobs(about: &Peek) -> Vec<NewJob> {
    let start = about.event_type.as_ref().and_then(start);
    start.map_or_else(Vec::new, |start| start(about))
}

/// Those of the handled events without which mail does not work, and nothing else suffers.
const MAIL_ONLY: [EventType; 3] = [
    EventType::OrderCreated,
    EventType::OrderPaid,
    EventType::OrderUpdated,
];

/// The types of event that an endpoint must be subscribed to; those about orders only where mail is sent.
#[must_use]
pub fn required_events(with_mail: bool) -> Vec<&'static str> {
    let is_required = |event: &&str| with_mail || !MAIL_ONLY.contains(&EventType::parse(event));
    handled_events().into_iter().filter(is_required).collect()
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
            Some(|about| vec![NewJob::of(&ApplyBenefits::for_delivery(about))])
        }
        EventType::CustomerDeleted => {
            Some(|about| RestoreCustomer::for_delivery(about).into_iter().collect())
        }
        EventType::OrderCreated | EventType::OrderPaid | EventType::OrderUpdated => {
            Some(|about| SendOrderEmail::for_delivery(about).into_iter().collect())
        }
        EventType::SubscriptionCanceled
        | EventType::SubscriptionPastDue
        | EventType::SubscriptionRevoked => Some(|about| {
            let synced = NewJob::of(&SyncSubscription::for_delivery(about));
            let mailed = SendSubscriptionEmail::for_delivery(about);
            std::iter::once(synced).chain(mailed).collect()
        }),
        EventType::CustomerStateChanged
        | EventType::SubscriptionActive
        | EventType::SubscriptionCreated
        | EventType::SubscriptionCycled
        | EventType::SubscriptionPaused
        | EventType::SubscriptionResumed
        | EventType::SubscriptionUncanceled
        | EventType::SubscriptionUpdated => {
            Some(|about| vec![NewJob::of(&SyncSubscription::for_delivery(about))])
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
        | EventType::OrderRefunded
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
        let sentence = format!(
            "the events {} and {last} (`family.*`: all events of that family)",
            others.join(", ")
        );
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

    #[test]
    fn events_about_orders_are_required_only_where_mail_is_sent() {
        let (with, without) = (required_events(true), required_events(false));
        assert_eq!(with, handled_events());
        let only_with: Vec<&str> = with
            .into_iter()
            .filter(|event| !without.contains(event))
            .collect();
        assert_eq!(only_with, ["order.created", "order.paid", "order.updated"]);
    }

    #[test]
    fn grants_subscriptions_states_deletions_and_orders_are_handled() {
        let families = handled_event_families();
        let wanted = [
            "benefit.updated",
            "benefit_grant.*",
            "customer.deleted",
            "customer.state_changed",
            "order.created",
            "order.paid",
            "order.updated",
            "subscription.*",
        ];
        assert_eq!(families, wanted);
    }
}
