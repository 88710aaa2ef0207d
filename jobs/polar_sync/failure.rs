//! Why a customer or member could not be brought in step, and what is noted about it.

use crate::contract::{Context, Error};
use crate::mirror::out_of_step::Cause;
use crate::types::UserId;

use super::SyncTarget;

/// Why a subject could not be brought in step.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Polar refuses what is wanted, for good: only another change is worth another try, or the
    /// address of `holder` that becomes free.
    Refused {
        reason: String,
        holder: Option<UserId>,
    },
    /// Another member of ours comes first: `holder` has the address at Polar.
    Waits {
        reason: String,
        holder: Option<UserId>,
    },
    /// There is no customer at Polar that can have members; its own sync changes that.
    NoTeam(&'static str),
    /// Jobs of others must run first, then this one again: the wanted owner's, before the present owner
    /// can be removed; or those of a cycle of members who want each other's addresses. `others` get a job
    /// now, `first` is the one waited for.
    OthersFirst {
        reason: String,
        first: UserId,
        others: Vec<UserId>,
    },
    /// Everything else; the error says what happens next.
    Other(Error),
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

impl Failure {
    /// Refused, whoever has which address.
    pub(crate) fn refused(reason: impl Into<String>) -> Self {
        Self::Refused {
            reason: reason.into(),
            holder: None,
        }
    }

    /// Notes what stays out of step, and says how the job ends.
    pub(crate) async fn conclude(self, context: &Context, target: SyncTarget) -> Error {
        // A note that fails is tried again as any failure of the database: a discarded job without its
        // note would look as if nobody had tried.
        self.note(context, target).await.unwrap_or_else(Error::from)
    }

    async fn note(self, context: &Context, target: SyncTarget) -> Result<Error, sqlx::Error> {
        let pool = &context.pool;
        match self {
            Self::Refused { reason, holder } => target.refuse(pool, reason, holder).await,
            Self::Waits { reason, holder } => target.wait(pool, reason, holder).await,
            Self::NoTeam(reason) => target.wait(pool, reason.to_owned(), None).await,
            Self::OthersFirst { reason, first, .. } => target.wait(pool, reason, Some(first)).await,
            Self::Other(error) => {
                if context.job.ends_with(&error) {
                    let cause = Cause::temporary(error.to_string(), None);
                    target.note(pool, &cause).await?;
                }
                Ok(error)
            }
        }
    }
}
