//! One bad event refuses the whole request, and its place is named once per body variant; the
//! client drops exactly the named event and resends.

use chrono::{DateTime, NaiveDateTime, Utc};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::resources::decimal::decimal_fault;
use crate::resources::errors::{Fault, Refusal};
use crate::resources::validation::{self, join};
use crate::world::model::Moment;

const VARIANTS: [(&str, &str); 2] = [
    ("EventCreateCustomer", "customer_id"),
    ("EventCreateExternalCustomer", "external_customer_id"),
];
const NAME_LENGTH: usize = 128;

/// An event that passed the schema.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) name: String,
    pub(crate) external_id: Option<String>,
    pub(crate) external_customer_id: Option<String>,
    pub(crate) customer_id: Option<Uuid>,
    pub(crate) timestamp: Option<Moment>,
    pub(crate) parent: Option<String>,
    pub(crate) metadata: Value,
}

/// Checks all events of a request; `now` is Polar's clock, with zero tolerance.
pub(crate) fn check(items: &[Value], now: Moment) -> Result<Vec<Candidate>, Refusal> {
    let mut faults = Vec::new();
    let mut candidates = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        match check_one(index, item, now) {
            Ok(candidate) => candidates.push(candidate),
            Err(found) => faults.extend(found),
        }
    }
    if faults.is_empty() {
        Ok(candidates)
    } else {
        Err(Refusal::schema(faults))
    }
}

fn check_one(index: usize, item: &Value, now: Moment) -> Result<Candidate, Vec<Fault>> {
    let place = |variant: &str| vec!["body".into(), "events".into(), index.into(), variant.into()];
    let Some(object) = item.as_object() else {
        let message = "Input should be a valid dictionary or object to extract fields from";
        let fault = |(variant, _): &(&str, &str)| {
            Fault::new(
                "model_attributes_type",
                place(variant),
                message,
                item.clone(),
            )
        };
        return Err(VARIANTS.iter().map(fault).collect());
    };
    let mut all = Vec::new();
    for (variant, customer_key) in VARIANTS {
        let loc = place(variant);
        let mut faults = common_faults(object, &loc, now);
        match object.get(customer_key) {
            None => faults.push(Fault::missing(join(&loc, &[customer_key]), item.clone())),
            Some(value) => faults.extend(customer_fault(customer_key, value, &loc)),
        }
        if faults.is_empty() {
            return Ok(candidate(object));
        }
        all.extend(faults);
    }
    Err(all)
}

fn customer_fault(key: &str, value: &Value, loc: &[Value]) -> Option<Fault> {
    if key == "customer_id" {
        return crate::resources::call::parse_uuid(value.as_str().unwrap_or(""), join(loc, &[key]))
            .err();
    }
    validation::text(value, join(loc, &[key]), usize::MAX).err()
}

fn candidate(object: &Map<String, Value>) -> Candidate {
    let text = |key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned);
    let timestamp = text("timestamp").and_then(|text| DateTime::parse_from_rfc3339(&text).ok());
    Candidate {
        name: text("name").unwrap_or_default(),
        external_id: text("external_id"),
        external_customer_id: text("external_customer_id"),
        customer_id: text("customer_id").and_then(|text| Uuid::parse_str(&text).ok()),
        timestamp: timestamp.map(|moment| moment.with_timezone(&Utc)),
        parent: text("parent_id"),
        metadata: as_stored(object.get("metadata")),
    }
}

/// Amounts are kept as binary numbers.
fn as_stored(metadata: Option<&Value>) -> Value {
    let mut metadata = metadata.cloned().unwrap_or_else(|| json!({}));
    let amount = metadata
        .pointer("/_cost/amount")
        .and_then(Value::as_str)
        .and_then(|text| text.trim().parse().ok());
    if let (Some(amount), Some(slot)) = (
        amount.map(|amount: f64| json!(amount)),
        metadata.pointer_mut("/_cost/amount"),
    ) {
        *slot = amount;
    }
    metadata
}

fn common_faults(object: &Map<String, Value>, loc: &[Value], now: Moment) -> Vec<Fault> {
    let mut faults = Vec::new();
    if let Some(value) = object.get("timestamp") {
        faults.extend(timestamp_fault(value, join(loc, &["timestamp"]), now));
    }
    match object.get("name") {
        None => faults.push(Fault::missing(
            join(loc, &["name"]),
            Value::Object(object.clone()),
        )),
        Some(value) => {
            faults.extend(validation::text(value, join(loc, &["name"]), NAME_LENGTH).err())
        }
    }
    for key in ["external_id", "parent_id"] {
        let value = object.get(key).filter(|value| !value.is_null());
        faults.extend(
            value.and_then(|value| validation::text(value, join(loc, &[key]), usize::MAX).err()),
        );
    }
    if let Some(metadata) = object.get("metadata") {
        faults.extend(metadata_faults(metadata, &join(loc, &["metadata"])));
    }
    faults
}

fn timestamp_fault(value: &Value, loc: Vec<Value>, now: Moment) -> Option<Fault> {
    let text = value.as_str().unwrap_or("");
    if let Ok(moment) = DateTime::parse_from_rfc3339(text) {
        let future = moment.with_timezone(&Utc) > now;
        return future
            .then(|| Fault::validator(loc, "Timestamp must be in the past.", value.clone()));
    }
    if NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").is_ok() {
        return Some(Fault::new(
            "timezone_aware",
            loc,
            "Input should have timezone info",
            value.clone(),
        ));
    }
    let message = "Input should be a valid datetime or date";
    Some(Fault::new(
        "datetime_from_date_parsing",
        loc,
        message,
        value.clone(),
    ))
}

/// No limit on keys; `_cost` and `_llm` are structured.
fn metadata_faults(metadata: &Value, loc: &[Value]) -> Vec<Fault> {
    let Some(object) = metadata.as_object() else {
        return vec![Fault::new(
            "dict_type",
            loc.to_vec(),
            "Input should be a valid dictionary",
            metadata.clone(),
        )];
    };
    let faults = object
        .iter()
        .flat_map(|(key, value)| match (key.as_str(), value) {
            ("_cost", Value::Object(cost)) => cost_faults(cost, &join(loc, &["_cost"])),
            ("_llm", Value::Object(llm)) => llm_faults(llm, &join(loc, &["_llm"])),
            _ => validation::metadata_value(value, &join(loc, &[key])),
        });
    faults.collect()
}

fn cost_faults(cost: &Map<String, Value>, loc: &[Value]) -> Vec<Fault> {
    let mut faults = missing_keys(cost, &["amount", "currency"], loc);
    faults.extend(
        cost.get("amount")
            .and_then(|amount| decimal_fault(amount, join(loc, &["amount"]))),
    );
    if let Some(currency) = cost.get("currency").filter(|currency| *currency != "usd") {
        let message = "String should match pattern 'usd'";
        let fault = Fault::new(
            "string_pattern_mismatch",
            join(loc, &["currency"]),
            message,
            currency.clone(),
        );
        faults.push(fault.context(json!({"pattern": "usd"})));
    }
    faults
}

fn llm_faults(llm: &Map<String, Value>, loc: &[Value]) -> Vec<Fault> {
    let mut faults = missing_keys(
        llm,
        &[
            "vendor",
            "model",
            "input_tokens",
            "output_tokens",
            "total_tokens",
        ],
        loc,
    );
    for key in ["vendor", "model"] {
        faults.extend(
            llm.get(key)
                .and_then(|value| validation::text(value, join(loc, &[key]), usize::MAX).err()),
        );
    }
    for key in ["input_tokens", "output_tokens", "total_tokens"] {
        let Some(value) = llm
            .get(key)
            .filter(|value| !value.is_i64() && !value.is_u64())
        else {
            continue;
        };
        let message = "Input should be a valid integer";
        faults.push(Fault::new(
            "int_type",
            join(loc, &[key]),
            message,
            value.clone(),
        ));
    }
    faults
}

fn missing_keys(object: &Map<String, Value>, keys: &[&str], loc: &[Value]) -> Vec<Fault> {
    let absent = keys.iter().filter(|key| !object.contains_key(**key));
    absent
        .map(|key| Fault::missing(join(loc, &[key]), Value::Object(object.clone())))
        .collect()
}
