//! Deletes at Polar what is none of ours: `polar-jobs reconcile --repair --strangers`.
//!
//! A deletion is written down before Polar is asked for it: none is forgotten where this process stops, or an answer is
//! lost. Whether it is still none of ours is asked as late as that: it may have been announced a moment ago.

use jobs::comparison::{Finding, ForeignMember, Stranger};
use jobs::types::OrganizationId;
use jobs::{Error, NewJob, SyncMember};
use polar::{Deletion, OrAbsent};
use serde_json::json;

use super::{Reconciliation, until_answered};
use crate::cli::Failure;
use crate::operators::{self, OperatorAction};
use crate::queue::enqueue;

/// What a deletion is called among the actions.
const DELETED: &str = "reconcile --repair --strangers";

impl Reconciliation<'_> {
    /// Deletes the members of the organizations who are none of ours, and compares these organizations again. Where that
    /// fails for one, it and those behind it are taken out: they are for another run.
    pub(super) async fn delete_members(&self, findings: &mut Vec<Finding>) -> Result<(), Failure> {
        for at in 0..findings.len() {
            if let Err(failure) = self.delete_members_of(&mut findings[at]).await {
                findings.truncate(at);
                return Err(failure);
            }
        }
        Ok(())
    }

    async fn delete_members_of(&self, finding: &mut Finding) -> Result<(), Failure> {
        let organization = finding.organization;
        let comparison = finding.comparison.as_ref();
        let foreign = comparison.map_or(&[][..], |comparison| &comparison.foreign_members);
        if foreign.is_empty() {
            return Ok(());
        }
        for member in foreign {
            let deleted = self.delete_member(organization, member).await;
            if let Some(user) = member.user {
                // The user may have been announced while the deletion was on its way, which may have succeeded without
                // an answer.
                let back = NewJob::of(&SyncMember {
                    organization_id: organization,
                    user_id: user,
                });
                let mut connection = self.run.pool.acquire().await?;
                enqueue::insert_all(&mut connection, &[back]).await?;
            }
            deleted?;
        }
        *finding = until_answered(|| self.run.one(organization)).await?;
        Ok(())
    }

    async fn delete_member(
        &self,
        organization: OrganizationId,
        member: &ForeignMember,
    ) -> Result<(), Failure> {
        let &ForeignMember { customer, id, .. } = member;
        let polar = self.run.polar.with_subject(&organization.to_string());
        if !self.run.is_foreign(organization, member).await? {
            return Ok(());
        }
        let action = OperatorAction::on_organization(DELETED, organization.0);
        self.record(&action.with(json!({"member": id}))).await?;
        until_answered(async || -> Result<(), Error> {
            // Again, because Polar may have let us wait.
            if self.run.is_foreign(organization, member).await? {
                polar.members().delete_by_id(customer, id).await.or_absent()?;
                tracing::info!(%customer, member = %id, "a member who is none of ours was deleted at Polar");
            }
            Ok(())
        })
        .await
    }

    pub(super) async fn delete_customers(&self, strangers: &[Stranger]) -> Result<(), Failure> {
        for stranger in strangers {
            self.delete_customer(stranger).await?;
        }
        Ok(())
    }

    async fn delete_customer(&self, stranger: &Stranger) -> Result<(), Failure> {
        let &Stranger {
            customer,
            organization,
            ..
        } = stranger;
        let customers = self.run.polar.customers();
        if !self.run.is_stranger(organization).await? {
            return Ok(());
        }
        let action = OperatorAction::new(DELETED, format!("customer/{customer}"));
        self.record(&action.about(organization)).await?;
        until_answered(async || -> Result<(), Error> {
            if self.run.is_stranger(organization).await? {
                let deleted = customers.delete(customer, Deletion::Anonymize).await;
                deleted.or_absent()?;
                tracing::info!(%customer, "a customer who is none of ours was deleted at Polar");
            }
            Ok(())
        })
        .await
    }

    async fn record(&self, action: &OperatorAction) -> Result<(), Failure> {
        let mut connection = self.run.pool.acquire().await?;
        Ok(operators::record(&mut connection, self.actor, action).await?)
    }
}
