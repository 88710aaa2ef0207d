//! Portal calls are made as a member; a session needs one, and the link it answers with is a secret.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::resources::call::{Call, Outcome, Reply, parse_uuid};
use crate::resources::errors::{Refusal, at};
use crate::world::clock::text;
use crate::world::model::{Customer, Member, Session};
use crate::world::store::Store;

/// The life of a session.
const LIFE_SECONDS: i64 = 3600;

/// `POST /v1/customer-sessions/`
pub(crate) fn create(store: &mut Store, call: &Call) -> Outcome {
    let object = call.object()?;
    let customer = find_customer(store, object)?;
    let member = find_member(store, customer, object)?;
    let email = member.email.replace('@', "%40");
    let member_id = member.id;
    let (customer_id, customer) = (customer.id, store.customer_view(customer));
    let (id, now) = (store.fresh_id(), store.now());
    let token = format!("polar_mst_{}", store.fresh_text(43));
    let expires_at = now + chrono::TimeDelta::seconds(LIFE_SECONDS);
    store.sessions.push(Session {
        token: token.clone(),
        expires_at,
        member_id,
    });
    let portal = format!("{}/self/portal", call.base_url);
    Ok(Reply::created(json!({
        "created_at": text(now), "modified_at": null, "id": id, "token": token,
        "expires_at": text(expires_at), "return_url": object.get("return_url"),
        "customer_portal_url": format!("{portal}?customer_session_token={token}&email={email}"),
        "customer_id": customer_id, "customer": customer,
    })))
}

fn find_customer<'a>(
    store: &'a Store,
    object: &Map<String, Value>,
) -> Result<&'a Customer, Refusal> {
    let external = object.get("external_customer_id").and_then(Value::as_str);
    let found = match external {
        Some(external) => store.customer_by_external_id(external),
        None => {
            let id = id_of(object.get("customer_id"), "customer_id")?;
            id.and_then(|id| store.living_customer(id))
        }
    };
    let key = if external.is_some() {
        "external_customer_id"
    } else {
        "customer_id"
    };
    found.ok_or_else(|| Refusal::about(key, "Customer does not exist.", input(object, key)))
}

/// Team customers need a member; individuals have the one.
fn find_member<'a>(
    store: &'a Store,
    customer: &Customer,
    object: &Map<String, Value>,
) -> Result<&'a Member, Refusal> {
    let mut members = store.living_members(customer.id);
    let external = object.get("external_member_id").and_then(Value::as_str);
    let id = id_of(object.get("member_id"), "member_id")?;
    let (found, key) = match (external, id) {
        (Some(external), _) => (
            members.find(|row| row.external_id.as_deref() == Some(external)),
            "external_member_id",
        ),
        (None, Some(id)) => (members.find(|row| row.id == id), "member_id"),
        (None, None) if customer.team => {
            let message = "member_id is required for team customers.";
            return Err(Refusal::about("member_id", message, Value::Null));
        }
        (None, None) => (members.next(), "member_id"),
    };
    let message = "Member does not exist for this customer.";
    found.ok_or_else(|| Refusal::about(key, message, input(object, key)))
}

fn input(object: &Map<String, Value>, key: &str) -> Value {
    object.get(key).cloned().unwrap_or(Value::Null)
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
    /// The member whose session an `authorization` header carries. A session ends with its time, with the membership and
    /// with the customer.
    pub(crate) fn session_member(&self, authorization: Option<&str>) -> Option<Uuid> {
        let token = authorization?.split_once(' ')?.1;
        let mut living = self
            .sessions
            .iter()
            .filter(|session| session.expires_at > self.now());
        let session = living.find(|session| session.token == token)?;
        let member = self.members.get(session.member_id)?;
        let customer = self.living_customer(member.customer_id);
        (member.deleted_revision.is_none() && customer.is_some()).then_some(member.id)
    }
}
