//! What a sync is about, and what is noted of it where Polar is not as wanted.

use sqlx::PgPool;

use super::Backoff;
use crate::contract::Error;
use crate::mirror::out_of_step::{self, Cause, Subject};
use crate::types::{OrganizationId, UserId};

/// A customer or a member that one run brings in step with Polar.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SyncTarget {
    pub(crate) organization: OrganizationId,
    pub(crate) subject: Subject,
    /// The version of it that is wanted.
    pub(crate) version: i64,
}

impl SyncTarget {
    /// Notes that it is out of step.
    pub(super) async fn note(self, pool: &PgPool, cause: &Cause) -> Result<(), sqlx::Error> {
        out_of_step::note(pool, self.organization, self.subject, cause).await
    }

    /// Notes that it waits for another job. Returns how long to wait for that job.
    pub(crate) async fn note_wait(
        self,
        pool: &PgPool,
        cause: &Cause,
    ) -> Result<Backoff, sqlx::Error> {
        let waits = out_of_step::note_wait(pool, self.organization, self.subject, cause).await?;
        Ok(Backoff::after(waits))
    }

    /// Notes that Polar refuses the wanted version. Returns the error that ends its job.
    pub(crate) async fn refuse(
        self,
        pool: &PgPool,
        reason: String,
        holder: Option<UserId>,
    ) -> Result<Error, sqlx::Error> {
        let cause = Cause::refused(reason.as_str(), holder, self.version);
        self.note(pool, &cause).await?;
        Ok(Error::discard(reason))
    }

    /// Notes that it waits for another job. Returns the error with which its job waits, or is discarded
    /// after the last wait.
    pub(super) async fn wait(
        self,
        pool: &PgPool,
        reason: String,
        holder: Option<UserId>,
    ) -> Result<Error, sqlx::Error> {
        let cause = Cause::temporary(reason.as_str(), holder);
        match self.note_wait(pool, &cause).await?.next() {
            Some(delay) => Ok(Error::not_yet(reason, delay)),
            None => self.refuse(pool, reason, holder).await,
        }
    }
}
