//! What a handler returns when it is done.

use sqlx::{Postgres, Transaction};

use super::NewJob;

/// The end of a run that did what it had to, or found nothing to do: what became of the cause, what follows, and
/// the transaction in which the handler wrote its result.
///
/// - The job's state is `completed` either way. Its events become `applied` or `ignored`; of several jobs of one event
///   the worst end counts, `failed` before `applied` before `ignored`. The budget of failures plays no part.
/// - With follow-ups ([`Done::then`]) or a transaction ([`Done::within`]) everything is committed together with the
///   completion, at once. The completion is fenced: if this worker lost the job meanwhile, all of it is rolled back,
///   because somebody else runs the job again. If the database fails, the job is requeued after a second with no
///   failure counted; if it refuses what was written (a constraint, a type), that is a failure.
/// - Without either, the completion is stored with the worker's next claim, some milliseconds later, in one commit
///   with others. A process that dies before runs the job again.
/// - The ordering key becomes free in that commit. A follow-up with the same key is behind jobs of the key that
///   waited already. A follow-up with the unique key of a waiting job is merged into that one.
/// - Nobody sees a follow-up before the commit, and workers are notified after it.
///
/// ```
/// use jobs::SyncCustomer;
/// use jobs::contract::{Context, Done, Error, Job, NewJob};
/// use jobs::mirror::out_of_step::{self, Subject};
/// use jobs::types::OrganizationId;
/// use serde::{Deserialize, Serialize};
///
/// /// Compares an organization with Polar again, whatever was noted about it.
/// #[derive(Serialize, Deserialize)]
/// struct CompareAgain {
///     organization_id: OrganizationId,
/// }
///
/// impl Job for CompareAgain {
///     const KIND: &'static str = "compare_again";
///
///     async fn run(self, context: &Context) -> Result<Done, Error> {
///         if context.polar.is_none() {
///             return Ok(Done::ignored("billing is not configured"));
///         }
///         // Whatever is asked over the network is asked before: this transaction is open until the commit.
///         let mut transaction = context.begin().await?;
///         out_of_step::clear(&mut transaction, self.organization_id, Subject::Customer).await?;
///         let sync = SyncCustomer { organization_id: self.organization_id };
///         Ok(Done::applied().then([NewJob::of(&sync)]).within(transaction))
///     }
/// }
/// ```
#[derive(Debug, Default)]
pub struct Done {
    /// What became of the events that caused the job.
    pub outcome: Outcome,
    /// Jobs that follow from this one.
    pub next: Vec<NewJob>,
    /// Local writes to be committed together with the completion.
    pub transaction: Option<Transaction<'static, Postgres>>,
}

/// What became of the job's cause.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// The end state is as wanted.
    #[default]
    Applied,
    /// There was nothing to do; the reason is shown to operators. No personal data.
    Ignored(String),
}

/// Why a job ends without work whose service has no token here.
pub(crate) const NOT_CONFIGURED: &str = "not configured";

impl Done {
    /// Done, nothing follows.
    #[must_use]
    pub fn applied() -> Self {
        Self::default()
    }

    /// Nothing to do, because of `reason`.
    #[must_use]
    pub fn ignored(reason: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Ignored(reason.into()),
            ..Self::default()
        }
    }

    /// The same with jobs that follow.
    #[must_use]
    pub fn then(mut self, next: impl IntoIterator<Item = NewJob>) -> Self {
        self.next.extend(next);
        self
    }

    /// The same with local writes to be committed together with the completion.
    #[must_use]
    pub fn within(mut self, transaction: Transaction<'static, Postgres>) -> Self {
        self.transaction = Some(transaction);
        self
    }
}
