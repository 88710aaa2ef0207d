//! A client is only as good as the refusals it was tried against. These are the bodies, names and headers of
//! Polar's refusals, as recorded.

use serde_json::{Map, Value, json};

/// One entry of a 422 body.
#[derive(Debug, Clone)]
pub(crate) struct Fault(Box<Entry>);

#[derive(Debug, Clone)]
struct Entry {
    kind: &'static str,
    loc: Vec<Value>,
    message: String,
    input: Value,
    context: Option<Value>,
}

impl Fault {
    /// A fault at `loc`, about `input`.
    pub(crate) fn new(
        kind: &'static str,
        loc: Vec<Value>,
        message: impl Into<String>,
        input: Value,
    ) -> Self {
        let message = message.into();
        Self(Box::new(Entry {
            kind,
            loc,
            message,
            input,
            context: None,
        }))
    }

    /// Adds the `ctx` that schema errors carry.
    pub(crate) fn context(mut self, context: Value) -> Self {
        self.0.context = Some(context);
        self
    }

    /// "Field required" at `loc`; `input` is the object that lacks it.
    pub(crate) fn missing(loc: Vec<Value>, input: Value) -> Self {
        Self::new("missing", loc, "Field required", input)
    }

    /// The service's complaint about one field of the body.
    pub(crate) fn value(key: &str, message: &str, input: Value) -> Self {
        Self::new("value_error", at(&["body", key]), message, input)
    }

    /// A validator's complaint: `ctx` is an empty error object, as recorded.
    pub(crate) fn validator(loc: Vec<Value>, message: &str, input: Value) -> Self {
        Self::new("value_error", loc, format!("Value error, {message}"), input)
            .context(json!({"error": {}}))
    }

    fn body(&self) -> Value {
        let Entry {
            kind,
            loc,
            message,
            input,
            context,
        } = self.0.as_ref();
        let mut entry = Map::new();
        entry.insert("type".into(), (*kind).into());
        entry.insert("loc".into(), Value::Array(loc.clone()));
        entry.insert("msg".into(), message.clone().into());
        entry.insert("input".into(), input.clone());
        if let Some(context) = context {
            entry.insert("ctx".into(), context.clone());
        }
        Value::Object(entry)
    }
}

/// A location such as `["body", "owner", "email"]`.
pub(crate) fn at(parts: &[&str]) -> Vec<Value> {
    parts.iter().map(|part| Value::from(*part)).collect()
}

/// A refusal: everything but 2xx and redirects.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    /// HTTP status.
    pub(crate) status: u16,
    /// The JSON body, or null for none.
    pub(crate) body: Value,
    /// `www-authenticate`, `allow` and the like.
    pub(crate) headers: Vec<(&'static str, String)>,
}

impl Refusal {
    /// `{"error": name, "detail": detail}`.
    pub(crate) fn named(status: u16, name: &str, detail: impl Into<String>) -> Self {
        let body = json!({"error": name, "detail": detail.into()});
        Self {
            status,
            body,
            headers: Vec::new(),
        }
    }

    /// 404 `ResourceNotFound`.
    pub(crate) fn not_found(detail: &str) -> Self {
        Self::named(404, "ResourceNotFound", detail)
    }

    /// 404 of the router, without an `error` key.
    pub(crate) fn no_such_path() -> Self {
        Self {
            status: 404,
            body: json!({"detail": "Not Found"}),
            headers: Vec::new(),
        }
    }

    /// 405; `allowed` is the method the path is there for.
    pub(crate) fn wrong_method(allowed: &str) -> Self {
        let body = json!({"detail": "Method Not Allowed"});
        Self {
            status: 405,
            body,
            headers: vec![("allow", allowed.into())],
        }
    }

    /// 422 of the schema.
    pub(crate) fn schema(faults: Vec<Fault>) -> Self {
        Self::unprocessable("RequestValidationError", &faults)
    }

    /// 422 of the service behind the schema.
    pub(crate) fn service(faults: Vec<Fault>) -> Self {
        Self::unprocessable("PolarRequestValidationError", &faults)
    }

    fn unprocessable(name: &str, faults: &[Fault]) -> Self {
        let detail: Vec<Value> = faults.iter().map(Fault::body).collect();
        Self {
            status: 422,
            body: json!({"error": name, "detail": detail}),
            headers: Vec::new(),
        }
    }

    /// 422 of the service about one field of the body.
    pub(crate) fn about(key: &str, message: &str, input: Value) -> Self {
        Self::service(vec![Fault::value(key, message, input)])
    }

    /// An organization token must not name an organization.
    pub(crate) fn organization_token(loc: Vec<Value>, input: Value) -> Self {
        let message = "Setting organization_id is disallowed when using an organization token.";
        Self::service(vec![Fault::new("organization_token", loc, message, input)])
    }

    /// 401 without credentials, or of the wrong kind.
    pub(crate) fn unauthorized() -> Self {
        let mut refusal = Self::named(401, "Unauthorized", "Unauthorized");
        refusal
            .headers
            .push(("www-authenticate", "Bearer realm=\"polar\"".into()));
        refusal
    }

    /// 401 for a token that is unknown, expired or revoked: OAuth style.
    pub(crate) fn invalid_token() -> Self {
        let text = "The access token provided is expired, revoked, malformed, or invalid for other reasons.";
        let challenge = format!(
            "Bearer realm=\"polar\", error=\"invalid_token\", error_description=\"{text}\""
        );
        let body = json!({"error": "invalid_token", "error_description": text});
        Self {
            status: 401,
            body,
            headers: vec![("www-authenticate", challenge)],
        }
    }

    /// 403 for a token without the scope the route needs: OAuth style, the header names the scope.
    pub(crate) fn insufficient_scope(scopes: &[&str]) -> Self {
        let text = "The request requires higher privileges than provided by the access token.";
        let scope = scopes.join(" ");
        let challenge = format!(
            "Bearer realm=\"polar\", scope=\"{scope}\", error=\"insufficient_scope\", error_description=\"{text}\""
        );
        let body = json!({"error": "insufficient_scope", "error_description": text});
        Self {
            status: 403,
            body,
            headers: vec![("www-authenticate", challenge)],
        }
    }

    /// An unhandled error of the server: text, and no version header.
    pub(crate) fn internal() -> Self {
        Self {
            status: 500,
            body: Value::Null,
            headers: Vec::new(),
        }
    }
}
