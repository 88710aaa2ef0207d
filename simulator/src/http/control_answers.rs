//! The control surface reads its requests and refuses them with a sentence, always in the same way.

use axum::http::StatusCode;
use serde_json::Value;
use uuid::Uuid;

use crate::world::steps::WorldError;

/// Why the control surface refuses: a status and a sentence.
pub(crate) type Refused = (StatusCode, String);

pub(crate) fn field<'a>(body: &'a Value, key: &str) -> Result<&'a str, Refused> {
    body.get(key)
        .and_then(Value::as_str)
        .ok_or_else(|| wrong(&format!("`{key}` is missing or no text")))
}

pub(crate) fn parse(id: &str) -> Result<Uuid, Refused> {
    id.parse().map_err(|_| wrong("the id is no UUID"))
}

pub(crate) fn wrong(detail: &str) -> Refused {
    (StatusCode::UNPROCESSABLE_ENTITY, detail.to_owned())
}

pub(crate) fn missing(detail: &str) -> Refused {
    (StatusCode::NOT_FOUND, detail.to_owned())
}

pub(crate) fn refused(error: &WorldError) -> Refused {
    let status = match error {
        WorldError::WrongState { .. } => StatusCode::CONFLICT,
        _ => StatusCode::NOT_FOUND,
    };
    (status, error.to_string())
}
