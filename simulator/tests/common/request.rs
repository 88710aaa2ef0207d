//! Polar ignores most of what it does not know, so a misspelt field is lost without a word. What a
//! client sends is therefore held against the published description, where nothing undeclared is let through.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::description::Description;

/// The version of the description.
const VERSION: &str = "2026-04";

/// Operations that Polar has and our part of the description leaves out.
const NOT_DESCRIBED: [(&str, &str); 6] = [
    ("DELETE", "/v1/customers/{}"),
    ("GET", "/v1/customers/{}"),
    ("GET", "/v1/organizations/{}"),
    ("GET", "/v1/products/{}"),
    ("GET", "/v1/webhooks/endpoints/{}"),
    ("PATCH", "/v1/customers/{}"),
];

/// A request as it came over the wire.
#[derive(Debug)]
pub struct Sent<'a> {
    pub method: &'a str,
    /// With the query, if there is one.
    pub target: &'a str,
    pub version: Option<&'a str>,
    pub authorization: Option<&'a str>,
    pub content_type: Option<&'a str>,
    /// Null for none.
    pub body: &'a Value,
}

impl Sent<'_> {
    /// What the description, read by [`Description::closed`], has against this request.
    pub fn objections(&self, description: &mut Description) -> Vec<String> {
        let mut objections = self.header_objections();
        let (path, query) = self.target.split_once('?').unwrap_or((self.target, ""));
        match description.route(self.method, path) {
            None if NOT_DESCRIBED.iter().any(|known| self.reaches(*known, path)) => {}
            None => objections.push("no such operation".to_owned()),
            Some((route, operation)) => {
                let operation = operation.clone();
                let declared = Parameters::of(&route, &self.method.to_lowercase(), &operation);
                objections.extend(declared.objections(description, path, query));
                objections.extend(self.body_objections(description, &declared.pointer, &operation));
            }
        }
        let name = format!("{} {}", self.method, self.target);
        objections
            .iter()
            .map(|one| format!("{name}: {one}"))
            .collect()
    }

    fn reaches(&self, (method, route): (&str, &str), path: &str) -> bool {
        let (start, end) = route.split_once("{}").expect("each names an id");
        let id = path
            .strip_prefix(start)
            .and_then(|rest| rest.strip_suffix(end));
        method == self.method && id.is_some_and(|id| !id.is_empty() && !id.contains('/'))
    }

    fn header_objections(&self) -> Vec<String> {
        let mut objections = Vec::new();
        if self.version != Some(VERSION) {
            objections.push(format!("Polar-Version is {:?}", self.version));
        }
        let token = self
            .authorization
            .and_then(|value| value.strip_prefix("Bearer "));
        if token.is_none_or(|token| token.is_empty() || token.contains(char::is_whitespace)) {
            objections.push("Authorization is not `Bearer` and a token".to_owned());
        }
        if !self.body.is_null() && self.content_type != Some("application/json") {
            objections.push(format!("a body with Content-Type {:?}", self.content_type));
        }
        objections
    }

    fn body_objections(
        &self,
        description: &mut Description,
        pointer: &str,
        operation: &Value,
    ) -> Vec<String> {
        if operation["requestBody"].is_null() {
            let sent = !self.body.is_null();
            return sent
                .then(|| "a body where none is described".to_owned())
                .into_iter()
                .collect();
        }
        let schema = format!("{pointer}/requestBody/content/application~1json/schema");
        description
            .objections(schema, self.body)
            .expect("a described body has a schema")
    }
}

/// The parameters of an operation, by where its description lies in the document.
struct Parameters<'a> {
    route: &'a str,
    pointer: String,
    declared: &'a [Value],
}

impl<'a> Parameters<'a> {
    fn of(route: &'a str, method: &str, operation: &'a Value) -> Self {
        Self {
            route,
            pointer: format!("/paths/{}/{method}", route.replace('/', "~1")),
            declared: operation["parameters"]
                .as_array()
                .map_or(&[], Vec::as_slice),
        }
    }

    fn objections(&self, description: &mut Description, path: &str, query: &str) -> Vec<String> {
        let mut objections = Vec::new();
        let mut given = read_query(query);
        let in_path: BTreeMap<&str, &str> = self
            .route
            .split('/')
            .zip(path.split('/'))
            .filter(|(place, _)| place.starts_with('{'))
            .map(|(place, value)| (place.trim_matches(['{', '}']), value))
            .collect();
        for (number, parameter) in self.declared.iter().enumerate() {
            let name = parameter["name"].as_str().unwrap();
            let values = match parameter["in"].as_str().unwrap() {
                "path" => in_path.get(name).map(|value| vec![(*value).to_owned()]),
                _ => given.remove(name),
            };
            let Some(values) = values else {
                if parameter["required"] == true {
                    objections.push(format!("`{name}` is missing"));
                }
                continue;
            };
            let schema = format!("{}/parameters/{number}/schema", self.pointer);
            let fits = readings(&values)
                .iter()
                .any(|value| description.objections(schema.clone(), value) == Some(Vec::new()));
            if !fits {
                objections.push(format!("`{name}` cannot be {values:?}"));
            }
        }
        objections.extend(given.keys().map(|name| format!("`{name}` is not declared")));
        objections
    }
}

fn read_query(query: &str) -> BTreeMap<String, Vec<String>> {
    let mut given: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let url = reqwest::Url::parse(&format!("http://polar/?{query}")).unwrap();
    for (name, value) in url.query_pairs() {
        given
            .entry(name.into_owned())
            .or_default()
            .push(value.into_owned());
    }
    given
}

/// What the text of a parameter may stand for: text or the JSON that it spells, alone or as a list. A repeated one is a
/// list and nothing else.
fn readings(values: &[String]) -> Vec<Value> {
    let text: Vec<Value> = values.iter().map(|value| json!(value)).collect();
    let spelt: Option<Vec<Value>> = values
        .iter()
        .map(|value| serde_json::from_str(value).ok())
        .collect();
    let lists = [Some(text), spelt].into_iter().flatten();
    lists
        .flat_map(|list| match list.as_slice() {
            [one] => vec![one.clone(), Value::Array(list)],
            _ => vec![Value::Array(list)],
        })
        .collect()
}
