//! A client gets from a GraphQL server exactly what it selects, and an error where it selects what is not there. So
//! the selection of a request is read, as far as requests of one field need it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Fields by name, each with its own selection; empty for a plain value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::plain) struct Selection(BTreeMap<String, Selection>);

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::plain) struct Document {
    pub(in crate::plain) mutation: bool,
    pub(in crate::plain) field: String,
    pub(in crate::plain) selection: Selection,
}

/// Reads a document with one operation that has one field.
pub(in crate::plain) fn parse(text: &str) -> Option<Document> {
    let tokens = tokens(text);
    let open = tokens.iter().position(|token| *token == "{")?;
    let head = outside_parentheses(&tokens[..open]);
    let mutation = match head.first() {
        None | Some(&"query") => false,
        Some(&"mutation") => true,
        Some(_) => return None,
    };
    let body = outside_parentheses(&tokens[open..]);
    let (Selection(fields), rest) = selection(&body)?;
    if !rest.is_empty() || fields.len() != 1 {
        return None;
    }
    let (field, selection) = fields.into_iter().next()?;
    Some(Document {
        mutation,
        field,
        selection,
    })
}

fn tokens(text: &str) -> Vec<&str> {
    let is_mark = |character: char| "{}()[]:!$,=\"".contains(character);
    text.split_whitespace()
        .flat_map(|word| word.split_inclusive(is_mark))
        .flat_map(|part| match part.char_indices().last() {
            Some((at, last)) if is_mark(last) && at > 0 => vec![&part[..at], &part[at..]],
            _ => vec![part],
        })
        .filter(|token| *token != ",")
        .collect()
}

/// Arguments and variables say nothing about the shape of the answer.
fn outside_parentheses<'a>(tokens: &[&'a str]) -> Vec<&'a str> {
    let mut depth = 0_u32;
    let mut kept = Vec::new();
    for token in tokens {
        match *token {
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            token if depth == 0 => kept.push(token),
            _ => {}
        }
    }
    kept
}

/// A selection in braces, and what follows it.
fn selection<'t, 'a>(tokens: &'t [&'a str]) -> Option<(Selection, &'t [&'a str])> {
    let mut rest = tokens.strip_prefix(&["{"])?;
    let mut fields = BTreeMap::new();
    loop {
        match rest {
            ["}", after @ ..] => return Some((Selection(fields), after)),
            [name, "{", ..] => {
                let (inner, after) = selection(&rest[1..])?;
                fields.insert((*name).to_owned(), inner);
                rest = after;
            }
            [name, after @ ..] => {
                fields.insert((*name).to_owned(), Selection::default());
                rest = after;
            }
            [] => return None,
        }
    }
}

impl Selection {
    /// What of `whole` was selected; the name of a field that is not there otherwise.
    pub(in crate::plain) fn of(&self, whole: &Value) -> Result<Value, String> {
        match whole {
            Value::Object(fields) => {
                let mut chosen = Map::new();
                for (name, inner) in &self.0 {
                    let value = fields.get(name).ok_or_else(|| name.clone())?;
                    chosen.insert(name.clone(), inner.of(value)?);
                }
                Ok(Value::Object(chosen))
            }
            Value::Array(items) => items.iter().map(|item| self.of(item)).collect(),
            plain => Ok(plain.clone()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is a failed test
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_holds_what_was_selected_and_nothing_else() {
        let text = "mutation m($input: I!) { upsertTenant(input: $input) { tenant { id tier { id } } error { code } } }";
        let document = parse(text).unwrap();
        assert!(document.mutation);
        assert_eq!(document.field, "upsertTenant");
        let whole = json!({"tenant": {"id": "t", "name": "n", "tier": null}, "error": null});
        let chosen = json!({"tenant": {"id": "t", "tier": null}, "error": null});
        assert_eq!(document.selection.of(&whole), Ok(chosen));
        let wrong = parse("{ a { nonsense } }").unwrap();
        assert_eq!(wrong.selection.of(&whole), Err("nonsense".to_owned()));
    }

    #[test]
    fn what_is_no_document_of_one_field_is_not_read() {
        for text in ["", "{ a", "{ a b }", "subscription { a }"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
