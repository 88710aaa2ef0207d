//! The right to change an organization's subscription: one change at a time, whichever process makes it.
//!
//! It is a lease, a row that expires, rather than a lock of the session, because Polar is asked meanwhile.

use std::time::Duration;

use chrono::TimeDelta;
use jobs::mirror::api::change_leases;
use jobs::mirror::api::resumed::{self, Target};
use jobs::mirror::{answers, clock};
use jobs::{NewJob, RestoreCancellation, SyncSubscription};
use polar::Subscription;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::api::access::{Access, Manages};
use crate::api::error::{ApiError, Refusal};
use crate::queue::enqueue;

/// Longer than one call to Polar with its wait for the limiter; the lease is renewed before each update there.
const LEASE_TIMEOUT: Duration = Duration::from_secs(12);
/// When the mirror is compared with Polar although nobody confirmed the change: its process has died.
const FOLLOW_UP_DELAY: TimeDelta = TimeDelta::seconds(20);

/// What an update means for the row that says that a cancellation was taken back for the sake of a change.
pub(super) enum Resumption<'a> {
    /// It is written: this update takes the cancellation back, and a job stands by to restore it.
    Begin(&'a Subscription, Target),
    /// Where there is one it is about this change from now on: another one was never made, or nobody knows.
    Retarget(&'a Subscription, Target),
    /// It stays: this update makes the cancellation again.
    Keep,
    /// It stays until the update is made: a person cancels anew what was resumed.
    CancelAnew(&'a Subscription),
    /// It is deleted: a person has decided that this subscription goes on.
    End(&'a Subscription),
}

/// A change of an organization's subscription that is under way, by whoever has the lease.
pub(super) struct SubscriptionChange<'a> {
    pub(super) access: &'a Access<Manages>,
    pub(super) polar: &'a polar::Client,
    lease_holder: Uuid,
    /// The answer number of the last change; `None` before anything was changed.
    pub(super) answer_number: Option<i64>,
}

/// Runs `act` while nobody else changes the organization's subscription.
///
/// # Errors
/// `SubscriptionBusy` while somebody else does; otherwise those of `act`.
pub(super) async fn under_lease<T>(
    access: &Access<Manages>,
    act: impl AsyncFnOnce(&mut SubscriptionChange<'_>) -> Result<T, ApiError>,
) -> Result<T, ApiError> {
    let mut change = SubscriptionChange::acquire(access).await?;
    let result = act(&mut change).await;
    change.release().await;
    result
}

impl<'a> SubscriptionChange<'a> {
    async fn acquire(access: &'a Access<Manages>) -> Result<Self, ApiError> {
        let change = Self {
            access,
            polar: access.polar()?,
            lease_holder: Uuid::new_v4(),
            answer_number: None,
        };
        let pool = &access.state.pool;
        let (organization, holder) = (access.organization, change.lease_holder);
        match change_leases::acquire(pool, organization, holder, LEASE_TIMEOUT).await? {
            true => Ok(change),
            false => Err(Refusal::SubscriptionBusy.into()),
        }
    }

    /// Lets the next change begin at once.
    async fn release(self) {
        let (pool, organization) = (&self.access.state.pool, self.access.organization);
        let released = change_leases::release(pool, organization, self.lease_holder).await;
        if let Err(error) = released {
            tracing::warn!(%organization, %error, "a lease is left to expire");
        }
    }

    async fn renew(&self, connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
        let (organization, holder) = (self.access.organization, self.lease_holder);
        change_leases::renew(connection, organization, holder, LEASE_TIMEOUT).await
    }

    /// To be called before each update at Polar. Renews the lease, and writes a job that compares our tables with
    /// Polar soon, even if this process dies before it can say what it did. The row of a resumed cancellation
    /// changes in the same transaction.
    ///
    /// # Errors
    /// `SubscriptionBusy` where the lease was lost: this process stood still for too long.
    pub(super) async fn before_update(
        &mut self,
        resumption: Resumption<'_>,
    ) -> Result<(), ApiError> {
        let (pool, organization) = (&self.access.state.pool, self.access.organization);
        let answer_number = answers::next_answer_number(pool).await?;
        let later = clock::now(pool).await? + FOLLOW_UP_DELAY;
        let mut transaction = jobs::contract::begin(pool).await?;
        if !self.renew(&mut transaction).await? {
            return Err(Refusal::SubscriptionBusy.into());
        }
        let mut follow_ups = vec![NewJob::of(&SyncSubscription::of(organization)).at(later)];
        match resumption {
            Resumption::Begin(current, target) => {
                resumed::note(&mut transaction, organization, current, target).await?;
                let restore = RestoreCancellation {
                    organization_id: organization,
                };
                follow_ups.push(NewJob::of(&restore).at(later));
            }
            Resumption::Retarget(current, target) => {
                resumed::retarget(&mut transaction, organization, current.id, target).await?;
            }
            Resumption::Keep => {}
            Resumption::CancelAnew(current) => {
                resumed::cancel_anew(&mut transaction, organization, current.id).await?;
            }
            Resumption::End(current) => {
                resumed::end(&mut transaction, organization, Some(current)).await?;
            }
        }
        enqueue::insert_all(&mut transaction, &follow_ups).await?;
        transaction.commit().await?;
        self.answer_number = Some(answer_number);
        Ok(())
    }

    /// Deletes the row of a resumed cancellation in a transaction of its own.
    ///
    /// # Errors
    /// If the database fails.
    pub(super) async fn end_resumption(&self, found: &Subscription) -> Result<(), sqlx::Error> {
        let mut transaction = jobs::contract::begin(&self.access.state.pool).await?;
        self.end_resumption_in(&mut transaction, found).await?;
        transaction.commit().await
    }

    /// Deletes the row of a resumed cancellation, as long as the lease is held: that of whoever took it over stays.
    /// `found` is what Polar has now.
    ///
    /// # Errors
    /// If the database fails.
    pub(super) async fn end_resumption_in(
        &self,
        transaction: &mut PgConnection,
        found: &Subscription,
    ) -> Result<(), sqlx::Error> {
        if self.renew(&mut *transaction).await? {
            resumed::end(transaction, self.access.organization, Some(found)).await?;
        }
        Ok(())
    }
}
