//! The body of a subscription PATCH is a union of variants that forbid each other's keys; one mistake is reported
//! once per variant, which a client must survive.

use serde_json::{Map, Value};

use crate::resources::errors::{Fault, Refusal, at};
use crate::resources::paging::one_of;

struct Variant {
    name: &'static str,
    required: Option<&'static str>,
    optional: &'static [&'static str],
}

const BASE: &[&str] = &[
    "metadata",
    "product_id",
    "proration_behavior",
    "discount_id",
    "trial_end",
];
const REASONS: &[&str] = &[
    "customer_cancellation_reason",
    "customer_cancellation_comment",
];
const BEHAVIORS: [&str; 4] = ["invoice", "prorate", "next_period", "reset"];

const VARIANTS: [Variant; 9] = [
    Variant {
        name: "SubscriptionUpdateBase",
        required: None,
        optional: BASE,
    },
    Variant {
        name: "SubscriptionUpdateSeats",
        required: Some("seats"),
        optional: &["proration_behavior"],
    },
    Variant {
        name: "SubscriptionUpdateUnits",
        required: Some("units"),
        optional: &["proration_behavior"],
    },
    Variant {
        name: "SubscriptionUpdateBillingPeriod",
        required: Some("current_billing_period_end"),
        optional: &[],
    },
    Variant {
        name: "SubscriptionCancel",
        required: Some("cancel_at_period_end"),
        optional: REASONS,
    },
    Variant {
        name: "SubscriptionRevoke",
        required: Some("revoke"),
        optional: REASONS,
    },
    Variant {
        name: "SubscriptionPause",
        required: Some("pause_at_period_end"),
        optional: &["resumes_at"],
    },
    Variant {
        name: "SubscriptionResume",
        required: Some("resume"),
        optional: &[],
    },
    Variant {
        name: "SubscriptionUpdateClear",
        required: Some("pending_update"),
        optional: &[],
    },
];

/// Passes if the body fits one variant, else refuses with the faults of all of them.
pub(crate) fn check_variants(object: &Map<String, Value>) -> Result<(), Refusal> {
    let mut faults = Vec::new();
    for variant in &VARIANTS {
        let found = variant.faults(object);
        if found.is_empty() {
            return Ok(());
        }
        faults.extend(found);
    }
    Err(Refusal::schema(faults))
}

impl Variant {
    fn faults(&self, object: &Map<String, Value>) -> Vec<Fault> {
        let loc = |key: &str| at(&["body", self.name, key]);
        let mut faults = Vec::new();
        if let Some(key) = self.required.filter(|key| !object.contains_key(*key)) {
            faults.push(Fault::missing(loc(key), Value::Object(object.clone())));
        }
        if self.optional.contains(&"proration_behavior") {
            faults.extend(behavior_fault(object, loc("proration_behavior")));
        }
        for (key, value) in object {
            if self.required != Some(key) && !self.optional.contains(&key.as_str()) {
                let message = "Extra inputs are not permitted";
                faults.push(Fault::new(
                    "extra_forbidden",
                    loc(key),
                    message,
                    value.clone(),
                ));
            }
        }
        faults
    }
}

fn behavior_fault(object: &Map<String, Value>, loc: Vec<Value>) -> Option<Fault> {
    let value = object
        .get("proration_behavior")
        .filter(|value| !value.is_null())?;
    let known = value.as_str().is_some_and(|text| BEHAVIORS.contains(&text));
    (!known).then(|| one_of(loc, &BEHAVIORS, value.clone()))
}
