//! The worker: apalis lives here and nowhere else.
