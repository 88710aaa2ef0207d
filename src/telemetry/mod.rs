//! What the outside sees of a running process: log lines on standard error, metrics for Prometheus,
//! and no secret in either.

pub mod catalogue;
pub mod fleet;
mod logs;
mod mask;
mod metrics;
mod span_fields;

pub use logs::{init, say};
pub use mask::{Masker, MaskingWriter, is_secret};
pub use metrics::Metrics;
