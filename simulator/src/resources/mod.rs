//! What each request of the API asks of the world, and what it is answered.

pub(crate) mod benefits;
pub(crate) mod call;
pub(crate) mod checkouts;
pub(crate) mod customer_body;
pub(crate) mod customer_deletion;
pub(crate) mod customers;
pub(crate) mod decimal;
pub(crate) mod discounts;
pub(crate) mod errors;
pub(crate) mod event_rules;
pub(crate) mod events;
pub(crate) mod grants;
pub(crate) mod member_body;
pub(crate) mod members;
pub(crate) mod orders;
pub(crate) mod organizations;
pub(crate) mod paging;
pub(crate) mod products;
pub(crate) mod sessions;
pub(crate) mod subscription_body;
pub(crate) mod subscription_changes;
pub(crate) mod subscriptions;
pub(crate) mod validation;
pub(crate) mod webhook_deliveries;
pub(crate) mod webhook_endpoints;
