//! Measures this installation with the product's real code paths and real semantics: leases, fencing,
//! keys, kept history, durable commits; only queues are filled by COPY, as nothing of the product does. Each benchmark works on a migrated scratch database that the
//! caller makes and drops.

mod copy;
pub mod drain;
pub mod enqueue;
pub mod fixture;
pub mod ingress;
pub mod latency;
pub mod metering;
pub mod noop;
pub mod reference;
