//! How requests reach the resources: connections, tokens, routes, faults, and the control surface.

pub(crate) mod access;
pub(crate) mod armed;
pub(crate) mod checkout_pages;
pub(crate) mod connection;
pub(crate) mod control;
pub(crate) mod control_answers;
pub(crate) mod control_customers;
pub(crate) mod control_faults;
pub(crate) mod control_routes;
pub(crate) mod control_state;
pub(crate) mod hold;
pub(crate) mod interventions;
pub(crate) mod outages;
pub(crate) mod respond;
pub(crate) mod route;
pub(crate) mod route_table;
pub(crate) mod routes;
pub(crate) mod server;
pub(crate) mod shared;
pub(crate) mod start_page;
