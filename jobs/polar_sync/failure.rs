//! Why a customer or member could not be brought in step, and what is noted about it.

use crate::contract::{Context, Error};
use crate::mirror::out_of_step::{self, Cause, Subject};
use crate::types::{OrganizationId, UserId};

use super::Backoff;

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

    /// Notes what stays out of step, and says how the job ends. `version` is what of the subject is
    /// wanted.
    pub(crate) async fn conclude(
        self,
        context: &Context,
        organization: OrganizationId,
        subject: Subject,
        version: i64,
    ) -> Error {
        let pool = &context.pool;
        let noted = match self {
            Self::Refused { reason, holder } => {
                let cause = refusal(&reason, holder, version);
                (
                    out_of_step::note(pool, organization, subject, &cause).await,
                    Error::discard(reason),
                )
            }
            Self::Waits { reason, holder } => {
                return wait(context, organization, subject, version, reason, holder).await;
            }
            Self::OthersFirst { reason, first, .. } => {
                return wait(context, organization, subject, version, reason, Some(first)).await;
            }
            Self::NoTeam(reason) => {
                let reason = reason.to_owned();
                return wait(context, organization, subject, version, reason, None).await;
            }
            Self::Other(error) if context.job.ends_with(&error) => {
                let cause = Cause {
                    reason: error.to_string(),
                    refused_version: None,
                    holder: None,
                };
                (
                    out_of_step::note(pool, organization, subject, &cause).await,
                    error,
                )
            }
            Self::Other(error) => return error,
        };
        match noted {
            (Ok(()), error) => error,
            // Tried again as any failure of the database: a discarded job without its note would
            // look as if nobody had tried.
            (Err(failed), _) => failed.into(),
        }
    }
}

fn refusal(reason: &str, holder: Option<UserId>, version: i64) -> Cause {
    Cause {
        reason: reason.to_owned(),
        refused_version: Some(version),
        holder,
    }
}

async fn wait(
    context: &Context,
    organization: OrganizationId,
    subject: Subject,
    version: i64,
    reason: String,
    holder: Option<UserId>,
) -> Error {
    let cause = Cause {
        reason: reason.clone(),
        refused_version: None,
        holder,
    };
    let pool = &context.pool;
    let waits = match out_of_step::note_wait(pool, organization, subject, &cause).await {
        Ok(waits) => waits,
        Err(error) => return error.into(),
    };
    if let Some(delay) = Backoff::after(waits).next() {
        return Error::not_yet(reason, delay);
    }
    let cause = refusal(&reason, holder, version);
    match out_of_step::note(pool, organization, subject, &cause).await {
        Ok(()) => Error::discard(reason),
        Err(error) => error.into(),
    }
}
