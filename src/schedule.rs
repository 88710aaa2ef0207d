//! Ticks become jobs, each exactly once.
