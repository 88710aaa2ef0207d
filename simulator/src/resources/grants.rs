//! What a customer is entitled to is what Polar lists as granted; upgrades revoke and create in any order,
//! and two subscriptions give two grants of one benefit.

use uuid::Uuid;

use crate::resources::call::{Call, Outcome};
use crate::resources::paging::{Page, sort, sorting};
use crate::world::clock::text;
use crate::world::model::Grant;
use crate::world::store::Store;

/// `GET /v1/benefit-grants/`
pub(crate) fn list(store: &mut Store, call: &Call) -> Outcome {
    let page = Page::of(call)?;
    let sortings = sorting(call, &["created_at", "granted_at", "revoked_at"])?;
    let customers = store.wanted_customers(call)?;
    let granted = call.flag("is_granted");
    let mut rows: Vec<&Grant> = match &customers {
        Some(ids) => ids
            .iter()
            .flat_map(|id| store.grants_of_customer(*id))
            .collect(),
        None => store.grants.iter().collect(),
    };
    rows.reverse();
    rows.retain(|row| granted.is_none_or(|granted| granted == row.granted_at.is_some()));
    sort(&mut rows, &sortings, |row, property| match property {
        "granted_at" => row.granted_at.map(text).unwrap_or_default(),
        "revoked_at" => row.revoked_at.map(text).unwrap_or_default(),
        _ => text(row.created_at),
    });
    page.show(&rows, |row| store.grant_view(row))
}

impl Store {
    /// The customers that `customer_id` and `external_customer_id` ask for; `None` for all. Deleted ones are not found
    /// by external id.
    pub(crate) fn wanted_customers(
        &self,
        call: &Call,
    ) -> Result<Option<Vec<Uuid>>, crate::resources::errors::Refusal> {
        let mut ids = call.ids("customer_id")?;
        let externals = call.all("external_customer_id");
        if ids.is_empty() && externals.is_empty() {
            return Ok(None);
        }
        let found = externals
            .into_iter()
            .filter_map(|external| self.customer_by_external_id(external));
        ids.extend(found.map(|customer| customer.id));
        Ok(Some(ids))
    }
}
