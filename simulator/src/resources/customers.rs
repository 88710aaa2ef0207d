//! Customers mirror the organizations of an application; what is unique about them, what cannot be changed and how
//! parallel requests end is tried here.

use serde_json::Value;
use uuid::Uuid;

use crate::resources::call::{Call, Outcome, Reply};
use crate::resources::customer_body::{Changes, NewCustomer};
use crate::resources::errors::{Fault, Refusal, at};
use crate::resources::paging::{Page, sort, sorting};
use crate::world::clock::text;
use crate::world::model::Customer;
use crate::world::outbox::Payload;
use crate::world::store::Store;

const EMAIL_TAKEN: &str = "A customer with this email address already exists.";
const DOWNGRADE: &str = "Customer type cannot be downgraded from 'team' to 'individual'.";
const EXTERNAL_ID_TAKEN: &str = "A customer with this external ID already exists.";

/// `GET /v1/customers/`
pub(crate) fn list(store: &mut Store, call: &Call) -> Outcome {
    let page = Page::of(call)?;
    let sortings = sorting(call, &["created_at", "email", "name"])?;
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
    sort(&mut rows, &sortings, |row, property| match property {
        "email" => row.email.clone().unwrap_or_default(),
        "name" => row.name.clone().unwrap_or_default(),
        _ => text(row.created_at),
    });
    page.show(&rows, |row| store.customer_view(row))
}

/// `POST /v1/customers/`
pub(crate) fn create(store: &mut Store, call: &Call) -> Outcome {
    let team = call.body.get("type").is_some_and(|kind| kind == "team");
    let wanted = NewCustomer::parse(&call.body, if team { "team" } else { "individual" })?;
    let organization = call
        .body
        .get("organization_id")
        .filter(|value| !value.is_null());
    if let Some(input) = organization {
        return Err(Refusal::organization_token(
            at(&["body", "organization_id"]),
            input.clone(),
        ));
    }
    store.refuse_taken(&wanted)?;
    let id = store.insert_customer(wanted);
    store.show_customer(id, Reply::created)
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

/// `PATCH /v1/customers/{id}`: this route takes an external id, once, and makes a team of an individual customer.
pub(crate) fn patch(store: &mut Store, call: &Call) -> Outcome {
    let id = call.id(0)?;
    let row = store
        .living_customer(id)
        .ok_or_else(|| Refusal::not_found("Not found"))?;
    let mut faults = Vec::new();
    if let Some(wanted) = call.body.get("external_id") {
        faults.extend(store.external_id_fault(row, wanted));
    }
    if row.team
        && call
            .body
            .get("type")
            .is_some_and(|kind| kind == "individual")
    {
        faults.push(Fault::value("type", DOWNGRADE, "individual".into()));
    }
    if !faults.is_empty() {
        return Err(Refusal::service(faults));
    }
    let changes = Changes::parse_by_id(call.object()?)?;
    store.patch_customer(id, changes)
}

/// `PATCH /v1/customers/external/{external_id}`: this route ignores an external id and a type in the body.
pub(crate) fn patch_external(store: &mut Store, call: &Call) -> Outcome {
    let row = store
        .customer_by_external_id(call.param(0))
        .ok_or_else(|| Refusal::not_found("Not found"))?;
    let id = row.id;
    let changes = Changes::parse(call.object()?)?;
    store.patch_customer(id, changes)
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
    // Parallel deletions of one customer all succeed, and each announces itself.
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

impl Store {
    pub(crate) fn email_taken(&self, email: &str, by_other_than: Option<Uuid>) -> bool {
        let holder = self.customers_by_email.get(&email.to_lowercase());
        holder.is_some_and(|holder| Some(*holder) != by_other_than)
    }

    /// Customer and owner in one transaction; the member is announced first, the customer by a later job.
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
        if let Some(external_id) = &wanted.external_id {
            self.adopt_events(external_id, id);
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
            balance: 0,
            deleted_at: None,
            deleted_revision: 0,
        });
        self.insert_member(id, wanted.owner, "owner");
        self.announce("customer.created", Payload::Customer(id));
        self.announce("customer.state_changed", Payload::CustomerState(id));
        id
    }

    fn patch_customer(&mut self, id: Uuid, changes: Changes) -> Outcome {
        self.refuse_taken_email(id, &changes)?;
        let now = self.now();
        let Some(row) = self.customers.get_mut(id) else {
            return Err(Refusal::internal());
        };
        let before = row.clone();
        changes.apply(row);
        if *row != before {
            row.modified_at = Some(now);
            let (email, external_id) = (row.email.clone(), row.external_id.clone());
            if let (None, Some(external_id)) = (before.external_id, external_id) {
                self.adopt_events(&external_id, id);
                self.customers_by_external_id.insert(external_id, id);
            }
            if let Some(email) = before.email {
                self.customers_by_email.remove(&email.to_lowercase());
            }
            if let Some(email) = email {
                self.customers_by_email.insert(email.to_lowercase(), id);
            }
            self.next_revision();
            self.announce("customer.updated", Payload::Customer(id));
            self.announce("customer.state_changed", Payload::CustomerState(id));
        }
        self.show_customer(id, Reply::ok)
    }

    fn show_customer(&self, id: Uuid, reply: fn(Value) -> Reply) -> Outcome {
        let row = self.customers.get(id).ok_or_else(Refusal::internal)?;
        Ok(reply(self.customer_view(row)))
    }

    /// An external id is set once, and only one customer has it.
    fn external_id_fault(&self, row: &Customer, wanted: &Value) -> Option<Fault> {
        let taken = |id| self.customers_by_external_id.contains_key(id);
        let message = match (row.external_id.as_deref(), wanted.as_str()) {
            (before, wanted) if before == wanted => return None,
            (Some(_), _) => "Customer external ID cannot be updated.",
            (None, Some(wanted)) if taken(wanted) => EXTERNAL_ID_TAKEN,
            (None, _) => return None,
        };
        Some(Fault::value("external_id", message, wanted.clone()))
    }

    /// Where both clash, both are named, the address first.
    fn refuse_taken(&self, wanted: &NewCustomer) -> Result<(), Refusal> {
        let mut faults = Vec::new();
        let email = wanted.email.as_ref();
        if let Some(email) = email.filter(|email| self.email_taken(email, None)) {
            faults.push(Fault::value("email", EMAIL_TAKEN, email.clone().into()));
        }
        let taken = |id: &&String| self.customers_by_external_id.contains_key(*id);
        if let Some(id) = wanted.external_id.as_ref().filter(taken) {
            faults.push(Fault::value(
                "external_id",
                EXTERNAL_ID_TAKEN,
                id.clone().into(),
            ));
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Refusal::service(faults))
        }
    }

    /// Refuses an address that another customer has.
    fn refuse_taken_email(&self, id: Uuid, changes: &Changes) -> Result<(), Refusal> {
        let taken = |email: &&String| self.email_taken(email, Some(id));
        let Some(email) = changes.email.iter().flatten().find(taken) else {
            return Ok(());
        };
        let input = email.clone().into();
        let fault = Fault::new("value_error", at(&["body", "email"]), EMAIL_TAKEN, input);
        Err(Refusal::service(vec![fault]))
    }
}
