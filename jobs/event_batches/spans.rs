//! The events of cost readings: a root per organization and source for ever, below it a span per
//! reading, or several where the cost is above Polar's cap.
//!
//! Polar drops an event whose id it knows, whatever is in it, so no two readings may share one. An id
//! is read from the left: source, a dot, context, a hyphen, the organization, then `-` and the usage
//! id, or `/`, the usage id and the number of the part. Dots in a source and hyphens in a context are
//! written as `%2E` and `%2D`. A root's id has no dot.

use std::collections::BTreeMap;

use polar::{Cost, IngestedEvent, LlmUsage};

use super::MAX_EVENTS;
use crate::mirror::costs::WaitingCost;
use crate::types::{CostUsd, CostUsdError};

/// Events that travel in one request, at most [`MAX_EVENTS`].
#[derive(Debug, Default)]
pub(crate) struct SpanBatch {
    /// Roots before their spans.
    pub(crate) events: Vec<IngestedEvent>,
    /// For each event the positions of the readings that need it.
    pub(crate) readings: Vec<Vec<usize>>,
    roots: BTreeMap<String, usize>,
}

/// Packs readings into as few requests as they need. A reading whose cost is in too many parts
/// for one request is spread over several.
///
/// # Errors
/// The position of a reading whose cost is none, which the table's checks exclude.
pub(crate) fn pack(readings: &[WaitingCost]) -> Result<Vec<SpanBatch>, (usize, CostUsdError)> {
    let mut full = Vec::new();
    let mut batch = SpanBatch::default();
    for (position, reading) in readings.iter().enumerate() {
        let cost = CostUsd::read(&reading.cost_usd).map_err(|error| (position, error))?;
        let root = root(reading);
        let spans = spans(reading, &root, &cost);
        let whole = spans.len() < MAX_EVENTS && spans.len() + 1 > MAX_EVENTS - batch.events.len();
        if whole {
            full.push(std::mem::take(&mut batch));
        }
        for span in spans {
            if batch.events.len() + 2 > MAX_EVENTS {
                full.push(std::mem::take(&mut batch));
            }
            batch.add(position, &root, span);
        }
    }
    full.push(batch);
    full.retain(|batch| !batch.events.is_empty());
    Ok(full)
}

impl SpanBatch {
    fn add(&mut self, position: usize, root: &IngestedEvent, span: IngestedEvent) {
        match self.roots.get(&root.external_id) {
            Some(&place) if self.readings[place].last() == Some(&position) => {}
            Some(&place) => self.readings[place].push(position),
            None => {
                self.roots
                    .insert(root.external_id.clone(), self.events.len());
                self.events.push(root.clone());
                self.readings.push(vec![position]);
            }
        }
        self.events.push(span);
        self.readings.push(vec![position]);
    }
}

/// One root per organization and source, for ever the same.
fn root(reading: &WaitingCost) -> IngestedEvent {
    let organization = reading.organization_id.to_string();
    let external_id = format!("{}-{organization}", escaped(&reading.source, '.'));
    IngestedEvent::root(reading.source.as_str(), organization, external_id)
}

fn spans(reading: &WaitingCost, root: &IngestedEvent, cost: &CostUsd) -> Vec<IngestedEvent> {
    let name = format!("{}.{}", reading.source, context(reading));
    let usage_id = reading
        .usage_id
        .clone()
        .unwrap_or_else(|| reading.reading_id.to_string());
    let place = format!(
        "{}.{}-{}",
        escaped(&reading.source, '.'),
        escaped(context(reading), '-'),
        reading.organization_id
    );
    let mut model = llm(reading);
    let amounts = cost.amounts();
    let several = amounts.len() > 1;
    amounts
        .into_iter()
        .zip(1u32..)
        .map(|(amount, part)| {
            let id = if several {
                format!("{place}/{usage_id}-{part}")
            } else {
                format!("{place}-{usage_id}")
            };
            // The tokens were used once: only the first part tells of them.
            IngestedEvent::span(
                root,
                name.as_str(),
                id,
                Cost::in_us_cents(amount),
                model.take(),
            )
        })
        .collect()
}

/// The text without `separator`: it and the sign of escaping are written as hexadecimal numbers.
fn escaped(text: &str, separator: char) -> String {
    let mut escaped = text.replace('%', "%25");
    if text.contains(separator) {
        escaped = escaped.replace(separator, &format!("%{:02X}", u32::from(separator)));
    }
    escaped
}

fn context(reading: &WaitingCost) -> &str {
    match &reading.context {
        Some(context) => context,
        None if reading.source == "compass_assistant" => "chat",
        None => "usage",
    }
}

/// Polar wants all of it, or nothing.
fn llm(reading: &WaitingCost) -> Option<LlmUsage> {
    let known = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
    let tokens = |count: Option<i64>| count.and_then(|count| u64::try_from(count).ok());
    let (input_tokens, output_tokens) = (
        tokens(reading.input_tokens)?,
        tokens(reading.output_tokens)?,
    );
    Some(LlmUsage {
        vendor: known(&reading.vendor)?,
        model: known(&reading.model)?,
        input_tokens,
        output_tokens,
        total_tokens: input_tokens + output_tokens,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is a failed test
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn reading(cost_usd: &str) -> WaitingCost {
        WaitingCost {
            id: 1,
            organization_id: Uuid::from_u128(7),
            source: "organization_review".into(),
            context: Some("submission".into()),
            vendor: Some("openai".into()),
            model: Some("gpt-4o-mini".into()),
            input_tokens: Some(100),
            output_tokens: Some(50),
            cost_usd: cost_usd.into(),
            usage_id: Some("run-1".into()),
            reading_id: Uuid::from_u128(9),
        }
    }

    #[test]
    fn a_review_is_a_root_and_a_span_with_exact_cents() {
        let batches = pack(&[reading("0.0123")]).unwrap();
        let organization = Uuid::from_u128(7);
        assert_eq!(
            serde_json::to_value(&batches[0].events).unwrap(),
            json!([
                { "name": "organization_review", "external_customer_id": organization,
                  "external_id": format!("organization_review-{organization}") },
                { "name": "organization_review.submission", "external_customer_id": organization,
                  "external_id": format!("organization_review.submission-{organization}-run-1"),
                  "parent_id": format!("organization_review-{organization}"),
                  "metadata": {
                      "_llm": { "vendor": "openai", "model": "gpt-4o-mini", "input_tokens": 100,
                                "output_tokens": 50, "total_tokens": 150 },
                      "_cost": { "amount": "1.230000", "currency": "usd" } } }
            ])
        );
    }

    #[test]
    fn contexts_default_by_source_and_a_missing_usage_id_by_row() {
        let bare = WaitingCost {
            context: None,
            usage_id: None,
            model: None,
            ..reading("1")
        };
        let assistant = WaitingCost {
            source: "compass_assistant".into(),
            ..bare.clone()
        };
        let events = &pack(&[bare, assistant]).unwrap()[0].events;
        let (organization, id) = (Uuid::from_u128(7), Uuid::from_u128(9));
        assert_eq!(
            events[1].external_id,
            format!("organization_review.usage-{organization}-{id}")
        );
        assert_eq!(
            events[3].external_id,
            format!("compass_assistant.chat-{organization}-{id}")
        );
        assert_eq!(events[1].metadata.llm, None);
    }

    #[test]
    fn a_cost_above_the_cap_is_split_and_its_tokens_are_told_once() {
        let events = &pack(&[reading("2500.5")]).unwrap()[0].events;
        let organization = Uuid::from_u128(7);
        let ids: Vec<&str> = events
            .iter()
            .map(|event| event.external_id.as_str())
            .skip(1)
            .collect();
        assert_eq!(
            ids,
            [1, 2, 3]
                .map(|part| format!("organization_review.submission-{organization}/run-1-{part}"))
        );
        assert_eq!(
            events
                .iter()
                .filter(|event| event.metadata.llm.is_some())
                .count(),
            1
        );
    }

    /// Every way to say the same letters in other fields.
    #[test]
    fn different_readings_never_share_an_id() {
        let organizations = [Uuid::from_u128(7), Uuid::from_u128(8)];
        let texts = |more: &[&str]| -> Vec<String> {
            let fixed = ["a", "a.b", "a-b", "b", "a%2Eb", "a%2Db", "a.b-c", "a-1"];
            let ids = organizations.map(|id| id.to_string());
            let long = [format!("a-{}", ids[0]), format!("a.b-{}", ids[0])];
            let more = more.iter().copied();
            fixed
                .into_iter()
                .chain(more)
                .map(str::to_owned)
                .chain(long)
                .collect()
        };
        let usage_ids = [
            texts(&["run", "run-1", "run-1-1", "/run-1", "-run", ""]),
            organizations.map(|id| id.to_string()).to_vec(),
            vec![format!("{}-run", organizations[1])],
        ]
        .concat();
        let mut seen = std::collections::HashMap::new();
        for organization_id in organizations {
            for source in texts(&[]) {
                for context in texts(&[]) {
                    for usage_id in &usage_ids {
                        for cost in ["1", "1500"] {
                            let reading = WaitingCost {
                                organization_id,
                                source: source.clone(),
                                context: Some(context.clone()),
                                usage_id: Some(usage_id.clone()),
                                ..reading(cost)
                            };
                            for event in &pack(std::slice::from_ref(&reading)).unwrap()[0].events {
                                let root = event.parent_id.is_none();
                                let owner = match root {
                                    true => (organization_id, source.clone(), None),
                                    false => (
                                        organization_id,
                                        source.clone(),
                                        Some((context.clone(), usage_id.clone())),
                                    ),
                                };
                                let before = seen.insert(event.external_id.clone(), owner.clone());
                                assert!(
                                    before.is_none_or(|before| before == owner),
                                    "{}",
                                    event.external_id
                                );
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn requests_stay_below_their_limit_and_carry_their_roots() {
        let mut readings = vec![reading("0.5"); 1200];
        readings.push(reading("10000000"));
        let batches = pack(&readings).unwrap();
        let spans: usize = batches.iter().map(|batch| batch.events.len() - 1).sum();
        assert_eq!(spans, 1200 + 10_001);
        for batch in batches {
            assert!(batch.events.len() <= MAX_EVENTS);
            assert_eq!(batch.events[0].parent_id, None);
            assert_eq!(batch.events.len(), batch.readings.len());
        }
    }
}
