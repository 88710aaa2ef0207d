//! What Polar holds, and how it changes: by requests, by people, and by time. Knows nothing of HTTP.

pub(crate) mod announce;
pub(crate) mod billing;
pub(crate) mod catalogue;
pub(crate) mod checkouts;
pub(crate) mod clock;
pub(crate) mod confirmation;
pub(crate) mod endings;
pub(crate) mod grants;
pub(crate) mod inspect;
pub(crate) mod invoices;
pub(crate) mod lifecycle;
pub(crate) mod members;
pub(crate) mod model;
pub(crate) mod order_views;
pub(crate) mod outbox;
pub(crate) mod payment_methods;
pub(crate) mod products;
pub(crate) mod proration;
pub(crate) mod slack;
pub(crate) mod steps;
pub(crate) mod store;
pub(crate) mod table;
pub(crate) mod views;
