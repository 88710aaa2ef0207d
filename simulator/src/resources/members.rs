//! Members mirror the people of an organization. An address that is there already answers 201 unchanged, a taken
//! external id 500, and ownership moves without a word about the former owner.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::resources::call::{Call, Outcome, Reply, parse_uuid};
use crate::resources::errors::{Fault, Refusal, at};
use crate::resources::member_body::{Changes, ROLES, parse_new};
use crate::resources::paging::{Page, one_of, sort, sorting};
use crate::world::clock::text;
use crate::world::model::Member;
use crate::world::outbox::Payload;
use crate::world::store::Store;
use crate::world::views::member_view;

/// `GET /v1/members/`: of a repeated `role` the last one counts.
pub(crate) fn list(store: &mut Store, call: &Call) -> Outcome {
    let page = Page::of(call)?;
    let sortings = sorting(call, &["created_at"])?;
    let role = call.last("role");
    if let Some(role) = role.filter(|role| !ROLES.contains(role)) {
        return Err(Refusal::schema(vec![one_of(
            at(&["query", "role"]),
            &ROLES,
            role.into(),
        )]));
    }
    let customer = match (call.last("customer_id"), call.last("external_customer_id")) {
        (Some(id), _) => {
            let parsed = parse_uuid(id, at(&["query", "customer_id"]));
            Some(parsed.map_err(|fault| Refusal::schema(vec![fault]))?)
        }
        (None, Some(external)) => Some(
            store
                .customer_by_external_id(external)
                .map_or(Uuid::nil(), |customer| customer.id),
        ),
        (None, None) => None,
    };
    let mut rows: Vec<&Member> = match customer {
        Some(id) => store.living_members(id).collect(),
        None => store
            .members
            .iter()
            .filter(|row| row.deleted_revision.is_none())
            .collect(),
    };
    rows.reverse();
    rows.retain(|row| role.is_none_or(|role| row.role == role));
    sort(&mut rows, &sortings, |row, _| text(row.created_at));
    page.show(&rows, |row| member_view(row))
}

/// `POST /v1/customers/{id}/members`
pub(crate) fn create(store: &mut Store, call: &Call) -> Outcome {
    let id = call.id(0)?;
    let id = store.living_customer(id).map(|row| row.id);
    store.create_member(id, call)
}

/// `POST /v1/customers/external/{external_id}/members`
pub(crate) fn create_external(store: &mut Store, call: &Call) -> Outcome {
    let id = store
        .customer_by_external_id(call.param(0))
        .map(|row| row.id);
    store.create_member(id, call)
}

/// `GET /v1/customers/external/{external_id}/members/{member}`
pub(crate) fn get_external(store: &mut Store, call: &Call) -> Outcome {
    let row = store
        .find_member(call)
        .ok_or_else(|| Refusal::not_found("Member not found"))?;
    Ok(Reply::ok(member_view(row)))
}

/// `PATCH /v1/customers/external/{external_id}/members/{member}`
pub(crate) fn patch_external(store: &mut Store, call: &Call) -> Outcome {
    let row = store
        .find_member(call)
        .ok_or_else(|| Refusal::not_found("Member not found"))?;
    let id = row.id;
    store.patch_member(id, call.object()?)
}

/// `DELETE /v1/customers/external/{external_id}/members/{member}`
pub(crate) fn delete_external(store: &mut Store, call: &Call) -> Outcome {
    let Some(row) = store.find_member(call) else {
        return store.repeat_raced_deletion(call);
    };
    let id = row.id;
    store.remove_member(id)
}

/// `DELETE /v1/customers/{id}/members/{member_id}`: the only way to a member without an external id.
pub(crate) fn delete(store: &mut Store, call: &Call) -> Outcome {
    let (customer, id) = (call.id(0)?, call.id(1)?);
    if !store.living_members(customer).any(|row| row.id == id) {
        return Err(Refusal::not_found("Member not found"));
    }
    store.remove_member(id)
}

impl Store {
    fn find_member(&self, call: &Call) -> Option<&Member> {
        let customer = self.customer_by_external_id(call.param(0))?;
        self.living_members(customer.id)
            .find(|row| row.external_id.as_deref() == Some(call.param(1)))
    }

    fn create_member(&mut self, customer_id: Option<Uuid>, call: &Call) -> Outcome {
        let (wanted, role) = parse_new(call.object()?)?;
        let customer = customer_id.and_then(|id| self.living_customer(id));
        let customer = customer.ok_or_else(|| Refusal::not_found("Customer not found"))?;
        if !customer.team {
            let message = "Individual customers can only have one member (the owner). \
                           Upgrade to a team customer to add more members.";
            return Err(Refusal::named(403, "NotPermitted", message));
        }
        let customer_id = customer.id;
        let email = wanted.email.to_lowercase();
        if let Some(existing) = self
            .living_members(customer_id)
            .find(|row| row.email.to_lowercase() == email)
        {
            // Whoever looked before the winner committed runs into the unique index; later ones get the old row.
            let raced = existing.created_revision > call.arrival;
            return if raced {
                Err(Refusal::internal())
            } else {
                Ok(Reply::created(member_view(existing)))
            };
        }
        let same_id =
            |row: &Member| row.external_id.is_some() && row.external_id == wanted.external_id;
        if self.living_members(customer_id).any(same_id) {
            return Err(Refusal::internal());
        }
        let id = self.insert_member(customer_id, wanted, role);
        self.members
            .get(id)
            .map(|row| Reply::created(member_view(row)))
            .ok_or_else(Refusal::internal)
    }

    fn patch_member(&mut self, id: Uuid, object: &Map<String, Value>) -> Outcome {
        let changes = Changes::parse(object)?;
        let Some(row) = self.members.get(id).cloned() else {
            return Err(Refusal::internal());
        };
        self.refuse_clash(&row, &changes)?;
        let mut changed = row.clone();
        changed.name = changes.name.unwrap_or(changed.name);
        changed.email = changes.email.unwrap_or(changed.email);
        changed.role = changes.role.unwrap_or(changed.role);
        let unchanged =
            (&row.name, &row.email, row.role) == (&changed.name, &changed.email, changed.role);
        if unchanged {
            return Ok(Reply::ok(member_view(&row)));
        }
        let now = self.now();
        self.next_revision();
        if changed.role == "owner" && row.role != "owner" {
            self.demote_owner(row.customer_id);
        }
        changed.modified_at = Some(now);
        let view = member_view(&changed);
        if let Some(slot) = self.members.get_mut(id) {
            *slot = changed;
        }
        self.announce("member.updated", Payload::Ready(view.clone()));
        Ok(Reply::ok(view))
    }

    fn refuse_clash(&self, row: &Member, changes: &Changes) -> Result<(), Refusal> {
        if let Some(role) = changes
            .role
            .filter(|role| row.role == "owner" && *role != "owner")
        {
            let message = "Cannot change role. Customer must have exactly one owner.";
            let fault = Fault::new("value_error", at(&["body", "role"]), message, role.into());
            return Err(Refusal::service(vec![fault]));
        }
        let Some(email) = &changes.email else {
            return Ok(());
        };
        let mut others = self
            .living_members(row.customer_id)
            .filter(|other| other.id != row.id);
        if others.any(|other| other.email.to_lowercase() == email.to_lowercase()) {
            let message = "A member with this email already exists for this customer.";
            let fault = Fault::new(
                "value_error",
                at(&["body", "email"]),
                message,
                email.clone().into(),
            );
            return Err(Refusal::service(vec![fault]));
        }
        Ok(())
    }

    /// The owner before becomes a billing manager, and nothing announces it.
    fn demote_owner(&mut self, customer_id: Uuid) {
        let now = self.now();
        let owner = self
            .living_members(customer_id)
            .find(|row| row.role == "owner")
            .map(|row| row.id);
        if let Some(row) = owner.and_then(|id| self.members.get_mut(id)) {
            row.role = "billing_manager";
            row.modified_at = Some(now);
        }
    }

    fn remove_member(&mut self, id: Uuid) -> Outcome {
        let living = |row: &&Member| row.deleted_revision.is_none();
        let row = self.members.get(id).filter(living);
        let row = row.ok_or_else(|| Refusal::not_found("Member not found"))?;
        if row.role == "owner" {
            let message = "Cannot delete the only owner. Transfer ownership first.";
            return Err(Refusal::service(vec![Fault::new(
                "value_error",
                at(&["body"]),
                message,
                json!(id),
            )]));
        }
        self.delete_member(id);
        Ok(Reply::gone())
    }

    /// Parallel deletions of one member mostly all answer 204, and each announces itself.
    fn repeat_raced_deletion(&mut self, call: &Call) -> Outcome {
        let customer = self
            .customer_by_external_id(call.param(0))
            .map(|row| row.id);
        let ids = customer
            .and_then(|id| self.members_of.get(&id))
            .into_iter()
            .flatten();
        let mut rows = ids.filter_map(|id| self.members.get(*id));
        let raced = rows.find(|row| {
            row.external_id.as_deref() == Some(call.param(1))
                && row
                    .deleted_revision
                    .is_some_and(|revision| revision > call.arrival)
        });
        let Some(view) = raced.map(member_view) else {
            return Err(Refusal::not_found("Member not found"));
        };
        self.announce("member.deleted", Payload::Ready(view));
        Ok(Reply::gone())
    }
}
