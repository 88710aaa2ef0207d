//! The private Postgres, through its public door: found, made, started, crashed, shared, refused.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed, and says where

#[path = "postgres/databases.rs"]
mod databases;
#[path = "postgres/fetched.rs"]
mod fetched;
#[path = "postgres/found.rs"]
mod found;
#[path = "postgres/lifetime.rs"]
mod lifetime;
#[path = "postgres/scratch.rs"]
mod scratch;
