//! Why: Polar's published description says what every answer looks like; ours are held against it.

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
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/polar-openapi.json");
        // The variants of a discount overlap in the description, so that real answers fit more than one.
        let text = std::fs::read_to_string(path)
            .unwrap()
            .replace("\"oneOf\"", "\"anyOf\"");
        let document = serde_json::from_str(&text).unwrap();
        Self {
            document,
            validators: HashMap::new(),
        }
    }

    /// What the schema at `pointer` objects to; `None` where nothing is described.
    fn objections(&mut self, pointer: String, body: &Value) -> Option<Vec<String>> {
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
