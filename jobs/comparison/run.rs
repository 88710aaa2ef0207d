//! A run over everybody, page by page, for the nightly job and the command line.

use chrono::{DateTime, Utc};
use polar::{Customer, CustomerId};
use serde_json::json;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::{Comparison, ForeignMember, compare};
use crate::change::organization_key;
use crate::contract::{Error, NewJob, Verdict, priority};
use crate::mirror::differences::{self, Difference, STRANGER};
use crate::mirror::{seen, unfinished_jobs, wanted};
use crate::types::OrganizationId;

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
}

/// What came of one organization.
#[derive(Debug)]
pub struct Finding {
    /// Which.
    pub organization: OrganizationId,
    /// `None`: it lives no longer, or Polar failed for it alone.
    pub comparison: Option<Comparison>,
}

/// Some organizations.
#[derive(Debug)]
pub struct Batch {
    /// What came of them.
    pub findings: Vec<Finding>,
    /// Why it ends early: to be waited for, or returned, once the findings are written.
    pub failure: Option<Error>,
    /// Whether there is nobody left.
    pub is_last: bool,
}

/// A page of Polar's customers: those who are none of ours.
#[derive(Debug)]
pub struct Strangers {
    /// Them.
    pub customers: Vec<Stranger>,
    /// Whether this was the last page.
    pub is_last: bool,
}

/// A customer at Polar whose external id is no living organization's.
#[derive(Debug)]
pub struct Stranger {
    /// Polar's id.
    pub customer: CustomerId,
    /// Whose it says it is.
    pub organization: Option<Uuid>,
    difference: Difference,
}

impl Run<'_> {
    /// Compares the next organizations. What was found before a failure is returned with it.
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
        let mut batch = Batch {
            findings: Vec::new(),
            failure: None,
            is_last: ids.len() < PAGE as usize,
        };
        for organization in ids {
            match self.one(organization).await {
                Ok(finding) => batch.findings.push(finding),
                Err(error) if batch.findings.is_empty() => return Err(error),
                Err(error) => {
                    (batch.failure, batch.is_last) = (Some(error), false);
                    break;
                }
            }
        }
        Ok(batch)
    }

    /// Compares one organization. Where Polar fails for it alone, that is what was found.
    ///
    /// # Errors
    /// If the database fails, or Polar for everybody.
    pub async fn one(&self, organization: OrganizationId) -> Result<Finding, Error> {
        let polar = self.polar.with_subject(&organization.to_string());
        let comparison = match compare(self.pool, &polar, organization).await {
            Err(error @ Error::Polar(_)) if !matches!(error.verdict(), Verdict::Wait { .. }) => {
                tracing::warn!(%organization, %error, "the organization cannot be compared with Polar");
                None
            }
            compared => compared?,
        };
        Ok(Finding {
            organization,
            comparison,
        })
    }

    /// Writes what was found, and returns the jobs that repair it.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn write(
        &self,
        connection: &mut PgConnection,
        mut findings: Vec<Finding>,
    ) -> Result<Vec<NewJob>, sqlx::Error> {
        let mut repairs = Vec::new();
        // Runs that meet take the organizations in the same order, whichever each compared first.
        findings.sort_by_key(|finding| finding.organization);
        for finding in findings {
            repairs.extend(finding.write(connection, self.repair).await?);
        }
        Ok(repairs)
    }

    /// Whether changes of the organization wait. Asked right before a deletion, and before our tables are: a
    /// change that is applied between the two questions is seen by the second.
    async fn has_changes(&self, organization: OrganizationId) -> Result<bool, sqlx::Error> {
        unfinished_jobs::is_under_way(self.pool, &[organization_key(organization)]).await
    }

    /// Whether a member who was none of ours is so still: the user may have been announced since Polar was asked.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn is_foreign(
        &self,
        organization: OrganizationId,
        member: &ForeignMember,
    ) -> Result<bool, sqlx::Error> {
        let Some(user) = member.user else {
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
    /// If the database fails, or Polar does not give the page.
    pub async fn strangers(&self, page: u32) -> Result<Strangers, Error> {
        let answer = self.polar.customers().page(page).await?;
        let mut strangers = Strangers {
            is_last: answer.items.is_empty() || page >= answer.max_page(),
            customers: Vec::new(),
        };
        for customer in answer.items {
            if let Some(stranger) = Stranger::of(&customer)
                && self.is_stranger(stranger.organization).await?
            {
                strangers.customers.push(stranger);
            }
        }
        Ok(strangers)
    }

    /// Whether no organization that lives, or is announced, is the one that a customer says it belongs to.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn is_stranger(&self, organization: Option<Uuid>) -> Result<bool, sqlx::Error> {
        let id = match organization {
            None => return Ok(true),
            ours if ours == self.self_organization => return Ok(false),
            Some(id) => id,
        };
        Ok(!self.has_changes(OrganizationId(id)).await?
            && !differences::unwanted(self.pool, &[id]).await?.is_empty())
    }
}

impl Finding {
    async fn write(
        self,
        connection: &mut PgConnection,
        repair: bool,
    ) -> Result<Vec<NewJob>, sqlx::Error> {
        let Some(comparison) = self.comparison else {
            differences::note_tried(connection, self.organization, repair).await?;
            return Ok(Vec::new());
        };
        let (found, under_way) = (&comparison.differences, &comparison.under_way);
        differences::write(connection, self.organization, found, under_way, repair).await?;
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
        for stranger in &self.customers {
            differences::put(connection, stranger.organization, &stranger.difference).await?;
        }
        Ok(())
    }
}

impl Stranger {
    /// The customer as one, unless it has no external id.
    fn of(customer: &Customer) -> Option<Self> {
        let external_id = customer.external_id.as_ref()?;
        let organization = OrganizationId::parse(external_id)
            .filter(|id| id.to_string() == *external_id)
            .map(|id| id.0);
        Some(Self {
            customer: customer.id,
            organization,
            difference: Difference {
                subject: format!("{STRANGER}customer/{}", customer.id),
                wanted: None,
                found: Some(json!({"external_id": external_id, "name": customer.name})),
                cause: "no living organization has this customer".to_owned(),
            },
        })
    }
}
