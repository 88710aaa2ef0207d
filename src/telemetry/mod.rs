//! What the outside sees of a running process: log lines on standard error, metrics for Prometheus,
//! and no secret in either.

mod logs;
mod mask;
mod metrics;

pub use logs::init;
pub use mask::{Masker, MaskingWriter};
pub use metrics::Metrics;
