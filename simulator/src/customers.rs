//! Why: customers mirror the organizations of an application; the traps of (b.2), (b.6), (b.7) and R2, R4–R8 live here.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::call::{Call, Outcome, Reply};
use crate::clock::text;
use crate::errors::{Fault, Refusal, at};
use crate::members::NewMember;
use crate::model::Customer;
use crate::paging::{Page, sort, sorting};
use crate::store::Store;
use crate::validation::{self, join};
use crate::webhooks::Payload;

const NAME_LENGTH: usize = 256;
const EMAIL_TAKEN: &str = "A customer with this email address already exists.";
const EXTERNAL_ID_TAKEN: &str = "A customer with this external ID already exists.";

/// `GET /v1/customers/`
pub(crate) fn list(store: &mut Store, call: &Call) -> Outcome {
    let page = Page::of(call)?;
    let wishes = sorting(call, &["created_at", "email", "name"])?;
    let email = call.last("email").map(str::to_lowercase);
    let ours = call.ids("organization_id")?;
    let mut rows: Vec<&Customer> = store
        .customers
        .iter()
        .rev()
        .filter(|row| row.deleted_at.is_none())
        .collect();
    rows.retain(|row| {
        email.is_none() || row.email.as_ref().map(|email| email.to_lowercase()) == email
    });
    rows.retain(|_| ours.is_empty() || ours.contains(&store.organization_id));
    sort(&mut rows, &wishes, |row, property| match property {
        "email" => row.email.clone().unwrap_or_default(),
        "name" => row.name.clone().unwrap_or_default(),
        _ => text(row.created_at),
    });
    page.show(&rows, |row| store.customer_view(row))
}

/// `POST /v1/customers/`
pub(crate) fn create(store: &mut Store, call: &Call) -> Outcome {
    let tag = if call.body["type"] == "team" {
        "team"
    } else {
        "individual"
    };
    let wanted = NewCustomer::parse(&call.body, tag)?;
    if let Some(input) = call
        .body
        .get("organization_id")
        .filter(|value| !value.is_null())
    {
        return Err(Refusal::organization_token(
            at(&["body", "organization_id"]),
            input.clone(),
        ));
    }
    let mut faults = Vec::new();
    if let Some(email) = wanted
        .email
        .as_ref()
        .filter(|email| store.email_taken(email, None))
    {
        faults.push(Fault::new(
            "value_error",
            at(&["body", "email"]),
            EMAIL_TAKEN,
            email.clone().into(),
        ));
    }
    let taken = |id: &&String| store.customers_by_external_id.contains_key(*id);
    if let Some(id) = wanted.external_id.as_ref().filter(taken) {
        faults.push(Fault::new(
            "value_error",
            at(&["body", "external_id"]),
            EXTERNAL_ID_TAKEN,
            id.clone().into(),
        ));
    }
    if !faults.is_empty() {
        return Err(Refusal::service(faults));
    }
    let id = store.insert_customer(wanted);
    store
        .customers
        .get(id)
        .map(|row| Reply::created(store.customer_view(row)))
        .ok_or_else(Refusal::internal)
}

/// `GET /v1/customers/{id}`
pub(crate) fn get(store: &mut Store, call: &Call) -> Outcome {
    let id = call.id(0)?;
    let row = store
        .living_customer(id)
        .ok_or_else(|| Refusal::not_found("Not found"))?;
    Ok(Reply::ok(store.customer_view(row)))
}

/// `GET /v1/customers/external/{external_id}`
pub(crate) fn get_external(store: &mut Store, call: &Call) -> Outcome {
    let row = store
        .customer_by_external_id(call.param(0))
        .ok_or_else(|| Refusal::not_found("Not found"))?;
    Ok(Reply::ok(store.customer_view(row)))
}

/// `GET /v1/customers/external/{external_id}/state`
pub(crate) fn state_external(store: &mut Store, call: &Call) -> Outcome {
    let row = store
        .customer_by_external_id(call.param(0))
        .ok_or_else(|| Refusal::not_found("Not found"))?;
    Ok(Reply::ok(store.customer_state_view(row)))
}

/// `PATCH /v1/customers/{id}`: this route refuses a changed external id.
pub(crate) fn patch(store: &mut Store, call: &Call) -> Outcome {
    let id = call.id(0)?;
    let row = store
        .living_customer(id)
        .ok_or_else(|| Refusal::not_found("Not found"))?;
    if let Some(wanted) = call
        .body
        .get("external_id")
        .filter(|wanted| wanted.as_str() != row.external_id.as_deref())
    {
        let message = "Customer external ID cannot be updated.";
        let loc = at(&["body", "external_id"]);
        return Err(Refusal::service(vec![Fault::new(
            "value_error",
            loc,
            message,
            wanted.clone(),
        )]));
    }
    store.patch_customer(id, call)
}

/// `PATCH /v1/customers/external/{external_id}`: this route ignores an external id in the body (R35).
pub(crate) fn patch_external(store: &mut Store, call: &Call) -> Outcome {
    let row = store
        .customer_by_external_id(call.param(0))
        .ok_or_else(|| Refusal::not_found("Not found"))?;
    let id = row.id;
    store.patch_customer(id, call)
}

/// `DELETE /v1/customers/{id}`
pub(crate) fn delete(store: &mut Store, call: &Call) -> Outcome {
    let id = call.id(0)?;
    store.delete_customer(Some(id), call)
}

/// `DELETE /v1/customers/external/{external_id}`
pub(crate) fn delete_external(store: &mut Store, call: &Call) -> Outcome {
    let living = store
        .customer_by_external_id(call.param(0))
        .map(|row| row.id);
    // R8: parallel deletions of one customer all succeed, and each announces itself.
    let raced = |row: &&Customer| {
        row.external_id.as_deref() == Some(call.param(0)) && row.deleted_revision > call.arrival
    };
    let id = match living {
        None if store.revision > call.arrival => {
            store.customers.iter().rev().find(raced).map(|row| row.id)
        }
        found => found,
    };
    store.delete_customer(id, call)
}

/// A customer about to be made.
#[derive(Debug)]
struct NewCustomer {
    team: bool,
    name: Option<String>,
    email: Option<String>,
    external_id: Option<String>,
    metadata: Map<String, Value>,
    owner: NewMember,
}

impl NewCustomer {
    fn parse(body: &Value, tag: &'static str) -> Result<Self, Refusal> {
        let loc = at(&["body", tag]);
        let Some(object) = body.as_object() else {
            let message = "Input should be a valid dictionary or object to extract fields from";
            return Err(Refusal::schema(vec![Fault::new(
                "model_attributes_type",
                loc,
                message,
                body.clone(),
            )]));
        };
        let mut faults = Vec::new();
        let name = keep(
            validation::optional_text(object, "name", &loc, NAME_LENGTH),
            &mut faults,
        )
        .flatten();
        let external_id = keep(
            validation::optional_text(object, "external_id", &loc, usize::MAX),
            &mut faults,
        )
        .flatten();
        let email = match object.get("email") {
            None if tag == "individual" => {
                faults.push(Fault::missing(join(&loc, &["email"]), body.clone()));
                None
            }
            None | Some(Value::Null) => None,
            Some(value) => keep(
                validation::email(value, join(&loc, &["email"])),
                &mut faults,
            ),
        };
        let metadata = object
            .get("metadata")
            .map(|value| validation::metadata(value, &join(&loc, &["metadata"]), &mut faults));
        let owner = owner_of(object, &loc, &mut faults);
        if !faults.is_empty() {
            return Err(Refusal::schema(faults));
        }
        let fallback = email.clone().map(|email| NewMember {
            email,
            name: name.clone(),
            external_id: None,
        });
        let Some(mut owner) = owner.or(fallback) else {
            let message = "An owner with an email address is required when creating a team customer without an email.";
            return Err(Refusal::schema(vec![Fault::validator(
                loc,
                message,
                body.clone(),
            )]));
        };
        // R6: an owner without an external id gets the customer's.
        owner.external_id = owner.external_id.or_else(|| external_id.clone());
        Ok(Self {
            team: tag == "team",
            name,
            email,
            external_id,
            metadata: metadata.unwrap_or_default(),
            owner,
        })
    }
}

/// Keeps a parsed value or notes its fault.
pub(crate) fn keep<T>(parsed: Result<T, Fault>, faults: &mut Vec<Fault>) -> Option<T> {
    parsed.map_err(|fault| faults.push(fault)).ok()
}

fn owner_of(
    object: &Map<String, Value>,
    loc: &[Value],
    faults: &mut Vec<Fault>,
) -> Option<NewMember> {
    let owner = object.get("owner")?.as_object()?;
    let loc = join(loc, &["owner"]);
    let email = owner.get("email").filter(|email| !email.is_null())?;
    let email = keep(validation::email(email, join(&loc, &["email"])), faults)?;
    let name = keep(
        validation::optional_text(owner, "name", &loc, NAME_LENGTH),
        faults,
    )?;
    let external_id = keep(
        validation::optional_text(owner, "external_id", &loc, usize::MAX),
        faults,
    )?;
    Some(NewMember {
        email,
        name,
        external_id,
    })
}

fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

impl Store {
    fn email_taken(&self, email: &str, by_other_than: Option<Uuid>) -> bool {
        let holder = self.customers_by_email.get(&email.to_lowercase());
        holder.is_some_and(|holder| Some(*holder) != by_other_than)
    }

    /// Customer and owner in one transaction; the member is announced first, the customer by a later job (R7).
    fn insert_customer(&mut self, wanted: NewCustomer) -> Uuid {
        let id = self.fresh_id();
        let now = self.now();
        self.next_revision();
        if let Some(external_id) = &wanted.external_id {
            self.customers_by_external_id
                .insert(external_id.clone(), id);
        }
        if let Some(email) = &wanted.email {
            self.customers_by_email.insert(email.to_lowercase(), id);
        }
        self.customers.insert(Customer {
            id,
            created_at: now,
            modified_at: None,
            external_id: wanted.external_id,
            email: wanted.email,
            team: wanted.team,
            name: wanted.name,
            billing_name: None,
            billing_address: Value::Null,
            tax_id: Value::Null,
            locale: Value::Null,
            metadata: wanted.metadata,
            default_payment_method: None,
            deleted_at: None,
            deleted_revision: 0,
        });
        self.insert_member(id, wanted.owner, "owner");
        self.announce("customer.created", Payload::Customer(id));
        self.announce("customer.state_changed", Payload::CustomerState(id));
        id
    }

    fn patch_customer(&mut self, id: Uuid, call: &Call) -> Outcome {
        let object = call.object()?.clone();
        let changes = self.customer_changes(id, &object)?;
        let now = self.now();
        let Some(row) = self.customers.get_mut(id) else {
            return Err(Refusal::internal());
        };
        let before = json!([
            row.name,
            row.email,
            row.metadata,
            row.billing_address,
            row.tax_id,
            row.locale
        ]);
        let old_email = row.email.clone();
        changes.apply(row);
        let after = json!([
            row.name,
            row.email,
            row.metadata,
            row.billing_address,
            row.tax_id,
            row.locale
        ]);
        let new_email = row.email.clone();
        if before != after {
            row.modified_at = Some(now);
            if let Some(email) = old_email {
                self.customers_by_email.remove(&email.to_lowercase());
            }
            if let Some(email) = new_email {
                self.customers_by_email.insert(email.to_lowercase(), id);
            }
            self.next_revision();
            self.announce("customer.updated", Payload::Customer(id));
            self.announce("customer.state_changed", Payload::CustomerState(id));
        }
        self.customers
            .get(id)
            .map(|row| Reply::ok(self.customer_view(row)))
            .ok_or_else(Refusal::internal)
    }

    fn customer_changes(&self, id: Uuid, object: &Map<String, Value>) -> Result<Changes, Refusal> {
        let loc = at(&["body"]);
        let mut faults = Vec::new();
        let mut changes = Changes::default();
        if object.contains_key("name") {
            changes.name = keep(
                validation::optional_text(object, "name", &loc, NAME_LENGTH),
                &mut faults,
            );
        }
        changes.email = match object.get("email") {
            None => None,
            Some(Value::Null) => Some(None),
            Some(value) => keep(
                validation::email(value, at(&["body", "email"])),
                &mut faults,
            )
            .map(Some),
        };
        changes.metadata = object
            .get("metadata")
            .map(|value| validation::metadata(value, &at(&["body", "metadata"]), &mut faults));
        changes.others = ["billing_address", "tax_id", "locale"]
            .into_iter()
            .filter_map(|key| object.get(key).map(|value| (key, value.clone())))
            .collect();
        if !faults.is_empty() {
            return Err(Refusal::schema(faults));
        }
        if let Some(email) = changes
            .email
            .iter()
            .flatten()
            .find(|email| self.email_taken(email, Some(id)))
        {
            let fault = Fault::new(
                "value_error",
                at(&["body", "email"]),
                EMAIL_TAKEN,
                email.clone().into(),
            );
            return Err(Refusal::service(vec![fault]));
        }
        Ok(changes)
    }

    fn delete_customer(&mut self, id: Option<Uuid>, call: &Call) -> Outcome {
        let row = id
            .and_then(|id| self.customers.get(id))
            .ok_or_else(|| Refusal::not_found("Not found"))?;
        let id = row.id;
        if row.deleted_at.is_some() {
            if row.deleted_revision <= call.arrival {
                return Err(Refusal::not_found("Not found"));
            }
            self.announce("customer.deleted", Payload::Customer(id));
            return Ok(Reply::gone());
        }
        self.mark_deleted(id, call.flag("anonymize") == Some(true));
        self.delete_all_members(id);
        self.announce("customer.deleted", Payload::Customer(id));
        self.announce("customer.state_changed", Payload::CustomerState(id));
        self.end_everything_of(id);
        Ok(Reply::gone())
    }

    fn mark_deleted(&mut self, id: Uuid, anonymize: bool) {
        let now = self.now();
        let revision = self.next_revision();
        let Some(row) = self.customers.get_mut(id) else {
            return;
        };
        row.deleted_at = Some(now);
        row.modified_at = Some(now);
        row.deleted_revision = revision;
        let external_id = row.external_id.clone();
        let email = row.email.clone();
        if anonymize {
            anonymize_row(row, now);
        }
        if let Some(external_id) = external_id {
            self.customers_by_external_id.remove(&external_id);
        }
        if let Some(email) = email {
            self.customers_by_email.remove(&email.to_lowercase());
        }
    }
}

/// Hashes name and address and keeps the external id in the metadata (R2, R34).
fn anonymize_row(row: &mut Customer, now: crate::model::Moment) {
    if row.tax_id.is_null() {
        row.name = row.name.as_deref().map(hash);
    }
    row.billing_name = row.billing_name.as_deref().map(hash);
    row.email = row
        .email
        .as_deref()
        .map(|email| format!("{}@anonymized.polar.sh", hash(email)));
    row.billing_address = Value::Null;
    if let Some(external_id) = &row.external_id {
        row.metadata
            .insert("__external_id".into(), external_id.clone().into());
    }
    let moment = now.to_rfc3339_opts(chrono::SecondsFormat::Micros, false);
    row.metadata.insert("__anonymized_at".into(), moment.into());
}

/// What a PATCH changes; `None` leaves a field alone.
#[derive(Debug, Default)]
struct Changes {
    name: Option<Option<String>>,
    email: Option<Option<String>>,
    metadata: Option<Map<String, Value>>,
    others: Vec<(&'static str, Value)>,
}

impl Changes {
    /// Metadata is replaced as a whole (b.6).
    fn apply(self, row: &mut Customer) {
        if let Some(name) = self.name {
            row.name = name;
        }
        if let Some(email) = self.email {
            row.email = email;
        }
        if let Some(metadata) = self.metadata {
            row.metadata = metadata;
        }
        for (key, value) in self.others {
            match key {
                "billing_address" => row.billing_address = value,
                "tax_id" => row.tax_id = value,
                _ => row.locale = value,
            }
        }
    }
}
