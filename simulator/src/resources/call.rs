//! Every resource answers the same kind of question, one parsed request, with the same kind of answer.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::resources::errors::{Fault, Refusal, at};

/// One API request, as a resource sees it.
#[derive(Debug)]
pub(crate) struct Call {
    /// Values of the `{}` places of the route, percent-decoded.
    pub(crate) params: Vec<String>,
    /// Query pairs in order, decoded.
    pub(crate) query: Vec<(String, String)>,
    /// The JSON body, null when there was none.
    pub(crate) body: Value,
    /// The store's revision when the request arrived: what changed since raced with it.
    pub(crate) arrival: u64,
    /// The member whose session calls; `None` for the organization itself.
    pub(crate) member: Option<Uuid>,
    /// The base address of this server.
    pub(crate) base_url: String,
}

/// A success.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    /// HTTP status, 2xx.
    pub(crate) status: u16,
    /// The JSON body; `None` for an empty one.
    pub(crate) body: Option<Value>,
}

/// What a resource returns.
pub(crate) type Outcome = Result<Reply, Refusal>;

impl Reply {
    /// 200 with a body.
    pub(crate) fn ok(body: Value) -> Self {
        Self {
            status: 200,
            body: Some(body),
        }
    }

    /// 201 with a body.
    pub(crate) fn created(body: Value) -> Self {
        Self {
            status: 201,
            body: Some(body),
        }
    }

    /// 202 with the body `null`, as recorded for invoices and redeliveries.
    pub(crate) fn accepted() -> Self {
        Self {
            status: 202,
            body: Some(Value::Null),
        }
    }

    /// 204.
    pub(crate) fn gone() -> Self {
        Self {
            status: 204,
            body: None,
        }
    }
}

impl Call {
    /// The value of the `index`-th place of the route.
    pub(crate) fn param(&self, index: usize) -> &str {
        self.params.get(index).map_or("", String::as_str)
    }

    /// The `index`-th place as a UUID, else the recorded 422.
    pub(crate) fn id(&self, index: usize) -> Result<Uuid, Refusal> {
        parse_uuid(self.param(index), at(&["path", "id"]))
            .map_err(|fault| Refusal::schema(vec![fault]))
    }

    /// The last value of a query key: repeated scalars keep the last.
    pub(crate) fn last(&self, key: &str) -> Option<&str> {
        self.query
            .iter()
            .rev()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    /// All values of a query key, for parameters that are lists.
    pub(crate) fn all(&self, key: &str) -> Vec<&str> {
        self.query
            .iter()
            .filter(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// A query key as UUIDs, else 422.
    pub(crate) fn ids(&self, key: &str) -> Result<Vec<Uuid>, Refusal> {
        let parse = |value| parse_uuid(value, at(&["query", key]));
        self.all(key)
            .into_iter()
            .map(parse)
            .collect::<Result<_, _>>()
            .map_err(|fault| Refusal::schema(vec![fault]))
    }

    /// A query key as a boolean; anything but true and false counts as absent.
    pub(crate) fn flag(&self, key: &str) -> Option<bool> {
        match self.last(key)? {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        }
    }

    /// The body as an object, else the recorded 422.
    pub(crate) fn object(&self) -> Result<&Map<String, Value>, Refusal> {
        self.body.as_object().ok_or_else(|| {
            let message = "Input should be a valid dictionary or object to extract fields from";
            Refusal::schema(vec![Fault::new(
                "model_attributes_type",
                at(&["body"]),
                message,
                self.body.clone(),
            )])
        })
    }
}

/// Parses a UUID, or says what is wrong with it in Polar's words.
pub(crate) fn parse_uuid(text: &str, loc: Vec<Value>) -> Result<Uuid, Fault> {
    Uuid::parse_str(text).map_err(|_| {
        let stray = text
            .chars()
            .enumerate()
            .find(|(_, c)| !c.is_ascii_hexdigit() && *c != '-');
        let reason = match stray {
            Some((position, c)) => format!("invalid character: found `{c}` at {}", position + 1),
            None => format!(
                "invalid length: expected length 32 for simple format, found {}",
                text.len()
            ),
        };
        Fault::new(
            "uuid_parsing",
            loc,
            format!("Input should be a valid UUID, {reason}"),
            text.into(),
        )
        .context(json!({"error": reason}))
    })
}
