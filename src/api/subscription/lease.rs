//! The right to change an organization's subscription: one holder at a time, whichever process it is in.
//! A row that expires rather than a lock of the session, because Polar is asked meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::TimeDelta;
use jobs::mirror::api::change_leases;
use jobs::mirror::api::resumed::{self, Target};
use jobs::mirror::{asking, clock};
use jobs::types::OrganizationId;
use jobs::{NewJob, RestoreCancellation, SyncSubscription};
use polar::Subscription;
use sqlx::PgConnection;
use uuid::Uuid;

use super::super::access::Access;
use super::super::error::{ApiError, Refusal};
use super::super::state::ApiState;
use crate::queue::enqueue;

/// Longer than one call to Polar with its wait for the limiter; it is prolonged before each change there.
const TERM: Duration = Duration::from_secs(12);
/// When the mirror is compared with Polar although nobody confirmed the change: its process has died.
const FOLLOW_UP_SECONDS: i64 = 20;

/// What a change means for the note that a cancellation was taken back for the sake of another one.
pub(super) enum Note<'a> {
    /// It stays: this is the cancellation made again.
    Keep,
    /// Where there is one it is about this change from now on: another one was never made, or nobody knows.
    Retarget(&'a Subscription, Target),
    /// It ends: a person has decided that this subscription goes on.
    End(&'a Subscription),
    /// It stands by until this is done: a person cancels anew what was resumed.
    CancelAnew(&'a Subscription),
    /// It is written: the cancellation of this subscription is taken back now, and a job stands by to restore it.
    Write(&'a Subscription, Target),
}

pub(super) struct ChangeLease {
    state: Arc<ApiState>,
    organization: OrganizationId,
    holder: Uuid,
    /// The asking that what Polar answers next belongs to; 0 before anything was changed.
    asked: AtomicI64,
}

impl ChangeLease {
    /// # Errors
    /// `SubscriptionBusy` while somebody else has it.
    pub(super) async fn acquire<G>(access: &Access<G>) -> Result<Self, ApiError> {
        access.polar()?;
        let lease = Self {
            state: Arc::clone(&access.state),
            organization: access.organization,
            holder: Uuid::new_v4(),
            asked: AtomicI64::new(0),
        };
        let pool = &lease.state.pool;
        match change_leases::acquire(pool, lease.organization, lease.holder, TERM).await? {
            true => Ok(lease),
            false => Err(Refusal::SubscriptionBusy.into()),
        }
    }

    /// To be called before anything is changed at Polar. Prolongs the lease, and orders that our tables
    /// are compared with Polar soon even if this process dies before it can say what it did. The note of a
    /// resumed cancellation changes in the same transaction.
    ///
    /// # Errors
    /// `SubscriptionBusy` where the lease was lost: this process stood still for too long.
    pub(super) async fn before_change(&self, note: Note<'_>) -> Result<(), ApiError> {
        let asked = asking::begin(&self.state.pool).await?;
        let later = clock::now(&self.state.pool).await? + TimeDelta::seconds(FOLLOW_UP_SECONDS);
        let mut transaction = jobs::contract::begin(&self.state.pool).await?;
        let (organization, holder) = (self.organization, self.holder);
        if !change_leases::renew(&mut transaction, organization, holder, TERM).await? {
            return Err(Refusal::SubscriptionBusy.into());
        }
        let mut orders = vec![NewJob::of(&SyncSubscription::of(organization)).at(later)];
        match note {
            Note::Keep => {}
            Note::Retarget(current, target) => {
                resumed::retarget(&mut transaction, organization, current.id, target).await?;
            }
            Note::End(current) => {
                resumed::end(&mut transaction, organization, Some(current)).await?;
            }
            Note::CancelAnew(current) => {
                resumed::cancel_anew(&mut transaction, organization, current.id).await?;
            }
            Note::Write(current, target) => {
                resumed::note(&mut transaction, organization, current, target).await?;
                let restore = RestoreCancellation {
                    organization_id: organization,
                };
                orders.push(NewJob::of(&restore).at(later));
            }
        }
        enqueue::insert_all(&mut transaction, &orders).await?;
        transaction.commit().await?;
        self.asked.store(asked, Ordering::Relaxed);
        Ok(())
    }

    /// Ends the note that a cancellation was taken back, as long as the lease is held: the note of whoever took
    /// it over stays. `found` is what Polar has now.
    ///
    /// # Errors
    /// If the database fails.
    pub(super) async fn end_note(
        &self,
        transaction: &mut PgConnection,
        found: &Subscription,
    ) -> Result<(), sqlx::Error> {
        let (organization, holder) = (self.organization, self.holder);
        if change_leases::renew(&mut *transaction, organization, holder, TERM).await? {
            resumed::end(transaction, organization, Some(found)).await?;
        }
        Ok(())
    }

    /// The asking of the last change; `None` where nothing was changed.
    pub(super) fn asked(&self) -> Option<i64> {
        Some(self.asked.load(Ordering::Relaxed)).filter(|asked| *asked > 0)
    }

    /// Lets the next one begin at once.
    pub(super) async fn release(self) {
        let pool = &self.state.pool;
        let released = change_leases::release(pool, self.organization, self.holder).await;
        if let Err(error) = released {
            tracing::warn!(organization = %self.organization, %error, "a lease is left to expire");
        }
    }
}
