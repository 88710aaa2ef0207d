//! All lists page alike: `limit` above 100 is cut to 100, zero is refused, a page beyond the end is empty with true
//! totals, and an unknown sorting is refused by name.

use serde_json::{Value, json};

use crate::resources::call::{Call, Outcome, Reply};
use crate::resources::errors::{Fault, Refusal, at};

const LARGEST_PAGE: usize = 100;

/// A window on a list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page {
    number: usize,
    limit: usize,
}

impl Page {
    /// Reads `page` and `limit`.
    pub(crate) fn of(call: &Call) -> Result<Self, Refusal> {
        let number = positive(call, "page", 1)?;
        let limit = positive(call, "limit", 10)?.min(LARGEST_PAGE);
        Ok(Self { number, limit })
    }

    /// Shows the rows of this page.
    pub(crate) fn show<T>(self, rows: &[T], view: impl Fn(&T) -> Value) -> Outcome {
        let total = rows.len();
        let skip = (self.number - 1).saturating_mul(self.limit);
        let items: Vec<Value> = rows.iter().skip(skip).take(self.limit).map(view).collect();
        let pagination = json!({"total_count": total, "max_page": total.div_ceil(self.limit)});
        Ok(Reply::ok(json!({"items": items, "pagination": pagination})))
    }
}

fn positive(call: &Call, key: &str, default: usize) -> Result<usize, Refusal> {
    let Some(text) = call.last(key) else {
        return Ok(default);
    };
    let loc = at(&["query", key]);
    let fault = match text.parse::<i64>() {
        Ok(number) if number > 0 => return Ok(usize::try_from(number).unwrap_or(usize::MAX)),
        Ok(_) => Fault::new(
            "greater_than",
            loc,
            "Input should be greater than 0",
            text.into(),
        )
        .context(json!({"gt": 0})),
        Err(_) => {
            let message = "Input should be a valid integer, unable to parse string as an integer";
            Fault::new("int_parsing", loc, message, text.into())
        }
    };
    Err(Refusal::schema(vec![fault]))
}

/// One criterion of the `sorting` parameter.
#[derive(Debug, Clone)]
pub(crate) struct Sorting {
    /// The property, without its sign.
    pub(crate) property: String,
    /// Largest first.
    pub(crate) descending: bool,
}

/// Reads `sorting`, repeatable; every value must be one of `properties`, with or without a minus.
pub(crate) fn sorting(call: &Call, properties: &[&str]) -> Result<Vec<Sorting>, Refusal> {
    let mut sortings = Vec::new();
    let mut faults = Vec::new();
    for (index, text) in call.all("sorting").into_iter().enumerate() {
        let (property, descending) = text
            .strip_prefix('-')
            .map_or((text, false), |property| (property, true));
        if properties.contains(&property) {
            sortings.push(Sorting {
                property: property.to_owned(),
                descending,
            });
        } else {
            let choices = properties
                .iter()
                .flat_map(|name| [(*name).to_owned(), format!("-{name}")]);
            let choices: Vec<String> = choices.collect();
            let loc = vec!["query".into(), "sorting".into(), index.into()];
            faults.push(one_of(
                loc,
                &choices.iter().map(String::as_str).collect::<Vec<_>>(),
                text.into(),
            ));
        }
    }
    if faults.is_empty() {
        Ok(sortings)
    } else {
        Err(Refusal::schema(faults))
    }
}

/// "Input should be 'a', 'b' or 'c'".
pub(crate) fn one_of(loc: Vec<Value>, choices: &[&str], input: Value) -> Fault {
    let quoted: Vec<String> = choices.iter().map(|choice| format!("'{choice}'")).collect();
    let expected = match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    };
    Fault::new("enum", loc, format!("Input should be {expected}"), input)
        .context(json!({"expected": expected}))
}

/// Sorts by the criteria, the first one first; `key` gives the text of a property. Ties keep the order they come in.
pub(crate) fn sort<T>(rows: &mut [T], sortings: &[Sorting], key: impl Fn(&T, &str) -> String) {
    rows.sort_by(|left, right| {
        for sorting in sortings {
            let order = key(left, &sorting.property).cmp(&key(right, &sorting.property));
            let order = if sorting.descending {
                order.reverse()
            } else {
                order
            };
            if order.is_ne() {
                return order;
            }
        }
        std::cmp::Ordering::Equal
    });
}

/// A number as text that sorts like the number.
pub(crate) fn sortable(number: i64) -> String {
    format!("{:020}", i128::from(number) + i128::from(i64::MAX))
}
