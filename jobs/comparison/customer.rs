//! The customer itself.

use polar::{Customer, CustomerType};
use serde_json::json;

use super::fields::differing;
use super::{CHANGED, Found, UNCONFIRMED, cause_of, sync_customer};
use crate::mirror::differences::Difference;
use crate::mirror::held::HeldOrganization;
use crate::types::OrganizationId;

/// What it is called in `differences` and `out_of_step`.
pub(super) const SUBJECT: &str = "customer";
const GONE: &str = "deleted at Polar";

/// Polar has no customer of this organization.
pub(super) fn missing(organization: OrganizationId, held: &HeldOrganization) -> Found {
    let cause = cause_of(held, SUBJECT, held.is_confirmed);
    let cause = match held.customer {
        Some(_) if [CHANGED, UNCONFIRMED].contains(&cause.as_str()) => GONE.to_owned(),
        _ => cause,
    };
    Found {
        difference: Difference {
            subject: SUBJECT.to_owned(),
            wanted: Some(json!({"name": held.name, "slug": held.slug})),
            found: None,
            cause,
        },
        repair: Some(sync_customer(organization)),
        foreign_member: None,
    }
}

pub(super) fn differs(
    organization: OrganizationId,
    held: &HeldOrganization,
    customer: &Customer,
) -> Option<Found> {
    let wanted = json!({
        "name": held.name,
        "slug": held.slug,
        "type": CustomerType::Team.as_str(),
        "customer_id": held.customer,
    });
    let found = json!({
        "name": customer.name,
        "slug": customer.metadata.text("slug"),
        "type": customer.kind.as_str(),
        "customer_id": customer.id,
    });
    let (wanted, found) = differing(wanted, found)?;
    Some(Found {
        difference: Difference {
            subject: SUBJECT.to_owned(),
            wanted: Some(wanted),
            found: Some(found),
            cause: cause_of(held, SUBJECT, held.is_confirmed),
        },
        repair: Some(sync_customer(organization)),
        foreign_member: None,
    })
}
