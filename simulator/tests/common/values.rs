//! An answer of the right shape can still be a wrong answer. Every value of a recorded exchange that does not depend
//! on time or chance is held against ours: counts, totals, order, roles, states, texts.

use chrono::DateTime;
use serde_json::Value;
use uuid::Uuid;

use super::replay::Ids;

/// What may differ: recordings whose names start so (all with an empty start), the last key of the pointer, its
/// last keys or the whole pointer, and why.
const EXCUSED: [(&str, &str, &str); 25] = [
    ("", "secret", "chance"),
    ("", "token", "chance"),
    (
        "",
        "customer_portal_url",
        "chance; the page is another host's",
    ),
    ("orders-invoice-get", "url", "a link into another store"),
    ("customers-create-undeliverable", "email", DEAD_DOMAIN),
    ("customers-create-undeliverable", "reason", DEAD_DOMAIN),
    ("customers-create-undeliverable", "input", DEAD_DOMAIN),
    ("customers-create-undeliverable", "msg", DEAD_DOMAIN),
    ("", "checkout_id", WRITTEN),
    ("", "default_payment_method_id", WRITTEN),
    ("orders-", "modified_at", WRITTEN),
    ("orders-", "billing_name", WRITTEN),
    ("orders-", "billing_reason", WRITTEN),
    ("subscriptions-get", "/modified_at", WRITTEN),
    ("subscriptions-patch-empty", "/modified_at", WRITTEN),
    ("subscriptions-patch-next-period", "/modified_at", WRITTEN),
    ("subscriptions-patch-same-product", "/modified_at", WRITTEN),
    ("subscriptions-patch-to-free", "/modified_at", WRITTEN),
    (
        "subscriptions-paused-patch-product",
        "/modified_at",
        WRITTEN,
    ),
    ("subscriptions-paused", "paused_at", WRITTEN),
    ("subscriptions-unpaid", "past_due_at", WRITTEN),
    ("customers-state-past-due", "granted_benefits", WRITTEN),
    ("portal-benefit-grants", "organization/name", OWN),
    ("portal-benefit-grants", "organization/slug", OWN),
    ("portal-benefit-grants", "organization/avatar_url", OWN),
];
const DEAD_DOMAIN: &str = "recorded where no name could be looked up; here one domain cannot be";
const WRITTEN: &str = "the run wrote these rows into the database, the replay makes them by buying";
const OWN: &str = "the organization of the run had another name and picture";

/// One difference.
pub struct Difference {
    pointer: String,
    what: String,
}

impl Difference {
    fn new(pointer: &str, what: String) -> Self {
        let pointer = pointer.to_owned();
        Self { pointer, what }
    }

    /// Whether it is known why this differs.
    pub fn is_excused(&self, recording: &str) -> bool {
        let last = self.pointer.rsplit('/').next().unwrap_or_default();
        EXCUSED.iter().any(|(start, key, _why)| {
            let below = key.contains('/') && self.pointer.ends_with(&format!("/{key}"));
            recording.starts_with(start) && (last == *key || self.pointer == *key || below)
        })
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.pointer, self.what)
    }
}

/// Every difference in values. Moments need only be moments; an id that is known must be the row that it stands for, an
/// unknown one must be an id.
pub fn value_differences(recorded: &Value, ours: &Value, ids: &Ids, at: &str) -> Vec<Difference> {
    match (recorded, ours) {
        (Value::Object(theirs), Value::Object(own)) => {
            let missing = theirs.keys().filter(|key| !own.contains_key(*key));
            let missing =
                missing.map(|key| Difference::new(&format!("{at}/{key}"), "missing".into()));
            let extra = own.keys().filter(|key| !theirs.contains_key(*key));
            let extra = extra.map(|key| Difference::new(&format!("{at}/{key}"), "extra".into()));
            let inner = theirs
                .iter()
                .filter_map(|(key, value)| Some((key, value, own.get(key)?)));
            let inner = inner.flat_map(|(key, value, own)| {
                value_differences(value, own, ids, &format!("{at}/{key}"))
            });
            missing.chain(extra).chain(inner).collect()
        }
        (Value::Array(theirs), Value::Array(own)) if theirs.len() == own.len() => {
            let pairs = theirs.iter().zip(own).enumerate();
            let inner = pairs.flat_map(|(number, (theirs, own))| {
                value_differences(theirs, own, ids, &format!("{at}/{number}"))
            });
            inner.collect()
        }
        _ if same(recorded, ours, ids) => Vec::new(),
        _ => vec![Difference::new(
            at,
            format!("recorded {recorded}, ours {ours}"),
        )],
    }
}

fn same(recorded: &Value, ours: &Value, ids: &Ids) -> bool {
    match (recorded, ours) {
        (Value::String(recorded), Value::String(ours)) => same_text(recorded, ours, ids),
        // JSON writes 1.0 and 1 apart; both are the same number.
        (Value::Number(recorded), Value::Number(ours)) => recorded.as_f64() == ours.as_f64(),
        _ => recorded == ours,
    }
}

fn same_text(recorded: &str, ours: &str, ids: &Ids) -> bool {
    if Uuid::parse_str(recorded).is_ok() {
        let known = ids.known(recorded);
        return known.map_or(Uuid::parse_str(ours).is_ok(), |known| known == ours);
    }
    let moment = |text: &str| DateTime::parse_from_rfc3339(text).is_ok();
    if moment(recorded) {
        return moment(ours);
    }
    ids.ours(recorded) == ours
}
