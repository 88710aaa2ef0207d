//! Polar's published description says what every answer looks like; ours are held against it.

use std::collections::HashMap;

use jsonschema::Validator;
use serde_json::Value;

/// The API description, with a validator per answer as it is needed.
pub struct Description {
    document: Value,
    validators: HashMap<String, Option<Validator>>,
}

impl Description {
    pub fn load() -> Self {
        // The variants of a discount overlap in the description, so that real answers fit more than one.
        let text = include_str!("../data/polar-openapi.json").replace("\"oneOf\"", "\"anyOf\"");
        let mut document = serde_json::from_str(&text).unwrap();
        describe_routes_by_id(&mut document);
        Self {
            document,
            validators: HashMap::new(),
        }
    }

    /// For what is sent: nothing but what is described may be in it. Polar itself ignores unknown fields almost
    /// everywhere, so a misspelt one would go unnoticed there.
    pub fn closed() -> Self {
        let mut description = Self::load();
        close(&mut description.document);
        description
    }

    /// The described operation that a request would reach, by its route.
    pub fn route(&self, method: &str, path: &str) -> Option<(String, &Value)> {
        let route = self.template(method, path)?;
        let operation = &self.document["paths"][&route][method.to_lowercase()];
        Some((route, operation))
    }

    /// What the schema at `pointer` objects to; `None` where nothing is described.
    pub fn objections(&mut self, pointer: String, body: &Value) -> Option<Vec<String>> {
        let document = &self.document;
        let validator = self
            .validators
            .entry(pointer)
            .or_insert_with_key(|pointer| {
                let mut schema = document.pointer(pointer)?.clone();
                schema
                    .as_object_mut()?
                    .insert("components".into(), document["components"].clone());
                Some(jsonschema::validator_for(&schema).unwrap())
            });
        let errors = validator.as_ref()?.iter_errors(body);
        Some(
            errors
                .map(|error| format!("{error} at {}", error.instance_path()))
                .collect(),
        )
    }

    /// Objections to a delivery of this type.
    pub fn delivery(&mut self, kind: &str, body: &Value) -> Option<Vec<String>> {
        self.objections(
            format!("/webhooks/{kind}/post/requestBody/content/application~1json/schema"),
            body,
        )
    }

    /// Objections to an answer, if its route and status are described.
    pub fn answer(
        &mut self,
        method: &str,
        path: &str,
        status: u16,
        body: &Value,
    ) -> Option<Vec<String>> {
        let template = self.template(method, path.split('?').next().unwrap())?;
        let route = template.replace('/', "~1");
        let method = method.to_lowercase();
        self.objections(
            format!("/paths/{route}/{method}/responses/{status}/content/application~1json/schema"),
            body,
        )
    }

    fn template(&self, method: &str, path: &str) -> Option<String> {
        let fits = |template: &str| {
            let (wanted, given): (Vec<&str>, Vec<&str>) =
                (template.split('/').collect(), path.split('/').collect());
            let same = |(wanted, given): (&&str, &&str)| wanted == given || wanted.starts_with('{');
            wanted.len() == given.len() && wanted.iter().zip(&given).all(same)
        };
        let paths = self.document["paths"].as_object().unwrap();
        let described = paths
            .iter()
            .filter(|(_, methods)| methods.get(method.to_lowercase()).is_some());
        let mut templates: Vec<&String> = described
            .map(|(path, _)| path)
            .filter(|path| fits(path))
            .collect();
        templates.sort_by_key(|template| template.matches('{').count());
        templates.first().map(|template| (*template).clone())
    }
}

/// The published description at hand leaves out some routes by Polar's ids. They take and answer what those by external
/// id do; a customer's kind can be changed there too.
fn describe_routes_by_id(document: &mut Value) {
    let external = "/v1/customers/external/{external_id}";
    let mut customer = document["paths"][external].clone();
    let mut member =
        document["paths"]["/v1/customers/external/{external_id}/members/{member_external_id}"]
            .clone();
    for (methods, own) in [
        (&mut customer, "external_id"),
        (&mut member, "member_external_id"),
    ] {
        for operation in methods.as_object_mut().unwrap().values_mut() {
            let Some(parameters) = operation["parameters"].as_array_mut() else {
                continue;
            };
            parameters.retain(|parameter| parameter["in"] != "path" || parameter["name"] == own);
            for parameter in parameters
                .iter_mut()
                .filter(|parameter| parameter["in"] == "path")
            {
                parameter["name"] = "id".into();
            }
        }
    }
    let mut update = document["components"]["schemas"]["CustomerUpdateExternalID"].clone();
    update["properties"]["type"] =
        serde_json::json!({"type": "string", "enum": ["team", "individual"]});
    update["properties"]["external_id"] = serde_json::json!({"type": ["string", "null"]});
    customer["patch"]["requestBody"]["content"]["application/json"]["schema"] = update;
    document["paths"]["/v1/customers/{id}"] = customer;
    for operation in member.as_object_mut().unwrap().values_mut() {
        let Some(parameters) = operation["parameters"].as_array_mut() else {
            continue;
        };
        for parameter in parameters
            .iter_mut()
            .filter(|parameter| parameter["name"] == "id")
        {
            parameter["name"] = "member_id".into();
        }
        parameters.push(serde_json::json!({"name": "id", "in": "path", "required": true, "schema": {"type": "string"}}));
    }
    document["paths"]["/v1/customers/{id}/members/{member_id}"] = member;
}

/// Lets every object of a schema hold what it declares and nothing else, unless the schema itself speaks of more.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.values_mut().for_each(close);
            if fields.get("type").is_some_and(|kind| kind == "object")
                && fields.contains_key("properties")
            {
                fields
                    .entry("additionalProperties")
                    .or_insert(Value::Bool(false));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}
