//! What polar-jobs does. The folder listing is the catalogue: one file per kind of job.
//!
//! Adding a job: one new file here, its `mod` and `pub use` lines below, and its line in
//! [`registry`]. If a delivery starts it, an arm in `start` of `src/ingress/route.rs`: its type moves there from the
//! last arm, which lists what starts nothing. The compiler asks only for a type that is new to `EventType`.
//!
//! Folders hold what the jobs share: [`contract`] what a job is, [`change`] what the application
//! tells us, [`types`] its values, [`mirror`] the only SQL, [`customer`] whom a job asks about,
//! `benefits` what the catalogue means, [`app_webhook`] how the application is called, [`mail`] what people are told and how it
//! leaves, [`comparison`] what differs there, [`backlog`] what Polar has not confirmed, [`webhook_endpoints`] which of
//! Polar's endpoints are ours, `outage` how a service that is away is asked, `polar_sync` what several jobs do at Polar, `event_batches` how
//! events get there.

pub mod app_webhook;
pub mod backlog;
pub mod benefits;
pub mod change;
pub mod comparison;
pub mod contract;
pub mod customer;
mod event_batches;
pub mod mail;
pub mod mirror;
mod outage;
mod polar_sync;
pub mod types;
pub mod webhook_endpoints;

mod apply_benefits;
mod apply_change;
mod call_app;
mod meter_usage;
mod prove_usage;
mod prune;
mod reconcile;
mod redeliver_events;
mod report_costs;
mod report_usage;
mod restore_cancellation;
mod restore_customer;
mod resume_support_desk;
mod resume_syncs;
mod send_email;
mod send_order_email;
mod send_subscription_email;
mod sync_customer;
mod sync_member;
mod sync_startup_program;
mod sync_subscription;
mod sync_support_desk;
mod watch_endpoint;

pub use apply_benefits::ApplyBenefits;
pub use apply_change::ApplyChange;
pub use call_app::CallApp;
pub use contract::{Context, Done, Error, Job, NewJob, Registry};
pub use meter_usage::MeterUsage;
pub use prove_usage::ProveUsage;
pub use prune::Prune;
pub use reconcile::Reconcile;
pub use redeliver_events::RedeliverEvents;
pub use report_costs::ReportCosts;
pub use report_usage::{ReportUsage, ask_polar};
pub use restore_cancellation::RestoreCancellation;
pub use restore_customer::RestoreCustomer;
pub use resume_support_desk::ResumeSupportDesk;
pub use resume_syncs::ResumeSyncs;
pub use send_email::SendEmail;
pub use send_order_email::SendOrderEmail;
pub use send_subscription_email::SendSubscriptionEmail;
pub use sync_customer::SyncCustomer;
pub use sync_member::SyncMember;
pub use sync_startup_program::SyncStartupProgram;
pub use sync_subscription::SyncSubscription;
pub use sync_support_desk::SyncSupportDesk;
pub use watch_endpoint::WatchEndpoint;
pub use webhook_endpoints::WEBHOOK_ROUTE;

/// Everything that a worker runs.
#[must_use]
pub fn registry() -> Registry {
    Registry::new()
        .job::<ApplyBenefits>()
        .job::<ApplyChange>()
        .job::<CallApp>()
        .job::<RedeliverEvents>()
        .job::<RestoreCancellation>()
        .job::<RestoreCustomer>()
        .job::<SendEmail>()
        .job::<SendOrderEmail>()
        .job::<SendSubscriptionEmail>()
        .job::<SyncCustomer>()
        .job::<SyncMember>()
        .job::<SyncStartupProgram>()
        .job::<SyncSubscription>()
        .job::<SyncSupportDesk>()
        .scheduled::<Prune>()
        .scheduled::<MeterUsage>()
        .scheduled::<ProveUsage>()
        .scheduled::<Reconcile>()
        .scheduled::<ReportCosts>()
        .scheduled::<ReportUsage>()
        .scheduled::<ResumeSupportDesk>()
        .scheduled::<ResumeSyncs>()
        .scheduled::<WatchEndpoint>()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::collections::BTreeSet;

    /// The folder is the catalogue: a file that is not registered would never run, and a kind
    /// without its file could not be found.
    #[test]
    fn every_file_is_a_registered_kind_and_every_kind_a_file() {
        let listing = std::fs::read_dir(env!("CARGO_MANIFEST_DIR")).unwrap();
        let names = listing.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let files: BTreeSet<String> = names
            .filter_map(|name| name.strip_suffix(".rs").map(str::to_owned))
            .filter(|name| name != "lib")
            .collect();
        let registry = super::registry();
        let kinds: BTreeSet<String> = registry
            .entries()
            .map(|entry| entry.kind.to_owned())
            .collect();
        assert_eq!(files, kinds);
    }
}
