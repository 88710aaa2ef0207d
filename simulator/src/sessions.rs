//! Why: portal calls are made as a member; a session needs one, and the link it answers with is a secret (R36).

use serde_json::{Value, json};
use uuid::Uuid;

use crate::call::{Call, Outcome, Reply, parse_uuid};
use crate::clock::text;
use crate::errors::{Fault, Refusal, at};
use crate::model::{Member, Session};
use crate::store::Store;

/// The life of a session.
const LIFE_SECONDS: i64 = 3600;

/// `POST /v1/customer-sessions/`
pub(crate) fn create(store: &mut Store, call: &Call) -> Outcome {
    let object = call.object()?;
    let refuse = |key: &str, message: &str| {
        let input = object.get(key).cloned().unwrap_or(Value::Null);
        Refusal::service(vec![Fault::new(
            "value_error",
            at(&["body", key]),
            message,
            input,
        )])
    };
    let customer = match object.get("external_customer_id").and_then(Value::as_str) {
        Some(external) => store.customer_by_external_id(external),
        None => id_of(object.get("customer_id"), "customer_id")?
            .and_then(|id| store.living_customer(id)),
    };
    let key = if object.contains_key("external_customer_id") {
        "external_customer_id"
    } else {
        "customer_id"
    };
    let customer = customer.ok_or_else(|| refuse(key, "Customer does not exist."))?;
    let mut members = store.living_members(customer.id);
    let member: Option<Member> = match object.get("external_member_id").and_then(Value::as_str) {
        Some(external) => {
            let found = members.find(|row| row.external_id.as_deref() == Some(external));
            Some(
                found
                    .ok_or_else(|| {
                        refuse(
                            "external_member_id",
                            "Member does not exist for this customer.",
                        )
                    })?
                    .clone(),
            )
        }
        None => match id_of(object.get("member_id"), "member_id")? {
            Some(id) => {
                let found = members.find(|row| row.id == id);
                Some(
                    found
                        .ok_or_else(|| {
                            refuse("member_id", "Member does not exist for this customer.")
                        })?
                        .clone(),
                )
            }
            None if customer.team => {
                return Err(refuse(
                    "member_id",
                    "member_id is required for team customers.",
                ));
            }
            None => members.next().cloned(),
        },
    };
    let member = member.ok_or_else(Refusal::internal)?;
    drop(members);
    let email = member.email.replace('@', "%40");
    let (customer_id, customer) = (customer.id, store.customer_view(customer));
    let (id, now, token) = (
        store.fresh_id(),
        store.now(),
        format!("polar_mst_{}", store.fresh_text(43)),
    );
    let expires_at = now + chrono::TimeDelta::seconds(LIFE_SECONDS);
    store.sessions.push(Session {
        token: token.clone(),
        expires_at,
    });
    let base = &call.base_url;
    Ok(Reply::created(json!({
        "created_at": text(now), "modified_at": null, "id": id, "token": token, "expires_at": text(expires_at),
        "return_url": object.get("return_url"), "customer_id": customer_id, "customer": customer,
        "customer_portal_url": format!("{base}/self/portal?customer_session_token={token}&email={email}"),
    })))
}

fn id_of(value: Option<&Value>, key: &str) -> Result<Option<Uuid>, Refusal> {
    let Some(value) = value.filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    let parsed = parse_uuid(value.as_str().unwrap_or(""), at(&["body", key]));
    parsed
        .map(Some)
        .map_err(|fault| Refusal::schema(vec![fault]))
}

impl Store {
    /// Whether an `authorization` header carries a session that has not run out.
    pub(crate) fn session_lives(&self, authorization: Option<&str>) -> bool {
        let token = authorization
            .and_then(|header| header.split_once(' '))
            .map(|(_, token)| token);
        let mut living = self
            .sessions
            .iter()
            .filter(|session| session.expires_at > self.now());
        living.any(|session| Some(session.token.as_str()) == token)
    }
}
