//! A run over everybody, page by page: the nightly job and the command line go the same way.

use chrono::{DateTime, Utc};
use polar::{Customer, Deletion, OrAbsent};
use serde_json::json;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::{Comparison, ForeignMember, compare, sync_member};
use crate::change::organization_key;
use crate::contract::{Error, NewJob, Verdict, priority};
use crate::mirror::differences::{self, Difference, STRANGER};
use crate::mirror::{asking, seen, wanted};
use crate::types::{OrganizationId, UserId};

/// Organizations compared before their results are written: so many are compared again where a process
/// stopped.
const PAGE: i64 = 10;

/// One run over everybody.
pub struct Run<'a> {
    /// Connections, never held across a call.
    pub pool: &'a PgPool,
    /// A client of the least urgent class.
    pub polar: &'a polar::Client,
    /// `POLAR_ORGANIZATION_ID`: no customer of its own.
    pub self_organization: Option<Uuid>,
    /// When it began: whoever was compared since is not compared again.
    pub since: DateTime<Utc>,
    /// Whether what differs is repaired. A run that repairs compares also those whom others have only
    /// looked at since.
    pub repair: bool,
    /// Whether to delete at Polar what is none of ours.
    pub delete_strangers: bool,
}

/// What came of one organization.
#[derive(Debug)]
pub struct Finding {
    /// Which.
    pub organization: OrganizationId,
    /// `None`: it lives no longer, or Polar failed for it alone.
    pub comparison: Option<Comparison>,
    /// How many members who are none of ours were deleted.
    pub deleted_members: u32,
    /// False where a failure came between the deletions: it is compared again, but what was deleted is
    /// known.
    pub is_complete: bool,
}

/// Some organizations.
#[derive(Debug)]
pub struct Batch {
    /// What came of them.
    pub findings: Vec<Finding>,
    /// Why it ends before its time: to be waited for, or returned, once the findings are written.
    pub failure: Option<Error>,
    /// Whether there is nobody left.
    pub is_last: bool,
}

/// A page of Polar's customers: those who are none of ours.
#[derive(Debug)]
pub struct Strangers {
    /// Whose they say they are, and what they are.
    pub customers: Vec<(Option<Uuid>, Difference)>,
    /// How many were deleted; the page then holds others.
    pub deleted: u32,
    /// Why the rest of the page was not looked at: to be waited for, or returned, once the others are
    /// written.
    pub failure: Option<Error>,
    /// Whether this was the last page.
    pub is_last: bool,
}

impl Run<'_> {
    /// Compares the next organizations. What was found and deleted before a failure is returned with it.
    ///
    /// # Errors
    /// If the database or Polar fails before anything was found.
    pub async fn next(&self) -> Result<Batch, Error> {
        let ids = differences::next(
            self.pool,
            self.since,
            self.repair,
            self.self_organization,
            PAGE,
        )
        .await?;
        let is_last = ids.len() < PAGE as usize;
        self.batch(ids, is_last).await
    }

    /// Compares one organization, as [`Self::next`] does; the batch is the last where it came to an end.
    ///
    /// # Errors
    /// If the database or Polar fails before anything was found.
    pub async fn one(&self, organization: OrganizationId) -> Result<Batch, Error> {
        self.batch(vec![organization], true).await
    }

    async fn batch(&self, ids: Vec<OrganizationId>, is_last: bool) -> Result<Batch, Error> {
        let mut batch = Batch {
            findings: Vec::new(),
            failure: None,
            is_last,
        };
        for organization in ids {
            if let Err(error) = self.find(organization, &mut batch.findings).await {
                if batch.findings.is_empty() {
                    return Err(error);
                }
                (batch.failure, batch.is_last) = (Some(error), false);
                break;
            }
        }
        Ok(batch)
    }

    /// Where Polar fails for this organization alone, the others are compared all the same.
    async fn find(
        &self,
        organization: OrganizationId,
        findings: &mut Vec<Finding>,
    ) -> Result<(), Error> {
        let polar = self.polar.with_subject(&organization.to_string());
        let compared = match compare(self.pool, &polar, organization).await {
            Err(error @ Error::Polar(_)) if !matches!(error.verdict(), Verdict::Wait { .. }) => {
                tracing::warn!(%organization, %error, "the organization cannot be compared with Polar");
                None
            }
            compared => compared?,
        };
        let mut finding = Finding {
            organization,
            comparison: compared,
            deleted_members: 0,
            is_complete: true,
        };
        let mut end = Ok(());
        if self.delete_strangers {
            end = self.delete_members(&polar, &mut finding).await;
            finding.is_complete = end.is_ok();
        }
        findings.push(finding);
        end
    }

    /// One who was announced since Polar was asked is left alone; one who is announced while the deletion
    /// is on its way is brought back by a job, also where nobody knows whether it was done.
    async fn delete_members(
        &self,
        polar: &polar::Client,
        finding: &mut Finding,
    ) -> Result<(), Error> {
        let organization = finding.organization;
        let Some(comparison) = &mut finding.comparison else {
            return Ok(());
        };
        for member in std::mem::take(&mut comparison.foreign_members) {
            let ForeignMember { customer, id, user } = member;
            let subject = format!("{STRANGER}member/{id}");
            comparison.differences.retain(|one| one.subject != subject);
            if !self.is_foreign(organization, user).await? {
                comparison.under_way.push(subject);
                continue;
            }
            let back = user.map(|user| sync_member(organization, user));
            comparison.repairs.extend(back);
            let members = polar.members();
            members.delete_by_id(customer, id).await.or_absent()?;
            tracing::info!(%customer, member = %id, "a member who is none of ours was deleted at Polar");
            finding.deleted_members += 1;
        }
        Ok(())
    }

    /// Whether changes of the organization wait. Asked right before a deletion, and before our tables are: a
    /// change that is applied between the two questions is seen by the second.
    async fn has_changes(&self, organization: OrganizationId) -> Result<bool, sqlx::Error> {
        asking::is_under_way(self.pool, &[organization_key(organization)]).await
    }

    async fn is_foreign(
        &self,
        organization: OrganizationId,
        user: Option<UserId>,
    ) -> Result<bool, sqlx::Error> {
        let Some(user) = user else {
            return Ok(true);
        };
        Ok(!self.has_changes(organization).await?
            && wanted::member(self.pool, organization, user)
                .await?
                .is_none())
    }

    /// Looks at one page of Polar's customers, counted from 1, for those whose external id is no living
    /// organization's. Customers without an external id are other people's, and none of our business.
    ///
    /// # Errors
    /// If Polar does not give the page.
    pub async fn strangers(&self, page: u32) -> Result<Strangers, Error> {
        let answer = self.polar.customers().page(page).await?;
        let mut strangers = Strangers {
            customers: Vec::new(),
            deleted: 0,
            failure: None,
            is_last: answer.items.is_empty() || page >= answer.max_page(),
        };
        for customer in answer.items {
            if let Err(error) = self.look_at(&customer, &mut strangers).await {
                strangers.failure = Some(error);
                break;
            }
        }
        Ok(strangers)
    }

    async fn look_at(&self, customer: &Customer, strangers: &mut Strangers) -> Result<(), Error> {
        let Some(external_id) = &customer.external_id else {
            return Ok(());
        };
        let organization = OrganizationId::parse(external_id)
            .filter(|id| id.to_string() == *external_id)
            .map(|id| id.0);
        if !self.is_stranger(organization).await? {
            return Ok(());
        }
        if self.delete_strangers {
            self.delete_customer(customer).await?;
            strangers.deleted += 1;
        } else {
            let difference = described(customer, external_id);
            strangers.customers.push((organization, difference));
        }
        Ok(())
    }

    /// Asked right before a deletion: the organization may have been announced a moment ago.
    async fn is_stranger(&self, organization: Option<Uuid>) -> Result<bool, sqlx::Error> {
        let id = match organization {
            None => return Ok(true),
            ours if ours == self.self_organization => return Ok(false),
            Some(id) => id,
        };
        Ok(!self.has_changes(OrganizationId(id)).await?
            && !differences::unwanted(self.pool, &[id]).await?.is_empty())
    }

    async fn delete_customer(&self, customer: &Customer) -> Result<(), Error> {
        let customers = self.polar.customers();
        customers
            .delete(customer.id, Deletion::Anonymize)
            .await
            .or_absent()?;
        tracing::info!(customer = %customer.id, "a customer who is none of ours was deleted at Polar");
        Ok(())
    }
}

impl Batch {
    /// Writes what was found, and returns the jobs that repair it.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn write(
        mut self,
        connection: &mut PgConnection,
        repair: bool,
    ) -> Result<Vec<NewJob>, sqlx::Error> {
        let mut repairs = Vec::new();
        // Runs that meet take the organizations in the same order, whichever each compared first.
        self.findings.sort_by_key(|finding| finding.organization);
        for finding in self.findings {
            repairs.extend(finding.write(connection, repair).await?);
        }
        Ok(repairs)
    }
}

impl Finding {
    /// Writes what was found, and returns the jobs that repair it.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn write(
        self,
        connection: &mut PgConnection,
        repair: bool,
    ) -> Result<Vec<NewJob>, sqlx::Error> {
        let Some(comparison) = self.comparison else {
            differences::note_tried(connection, self.organization, repair).await?;
            return Ok(Vec::new());
        };
        if self.is_complete {
            let (found, under_way) = (&comparison.differences, &comparison.under_way);
            differences::write(connection, self.organization, found, under_way, repair).await?;
        }
        if !repair {
            return Ok(Vec::new());
        }
        if let Some(customer) = comparison.lost {
            seen::customer_lost(connection, customer).await?;
        }
        let repairs = comparison.repairs.into_iter();
        Ok(repairs
            .map(|job| job.with_priority(priority::BACKFILL))
            .collect())
    }
}

impl Strangers {
    /// Writes what was found.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn write(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        for (organization, difference) in &self.customers {
            differences::put(connection, *organization, difference).await?;
        }
        Ok(())
    }
}

fn described(customer: &Customer, external_id: &str) -> Difference {
    Difference {
        subject: format!("{STRANGER}customer/{}", customer.id),
        wanted: None,
        found: Some(json!({"external_id": external_id, "name": customer.name})),
        cause: "no living organization has this customer".to_owned(),
    }
}
