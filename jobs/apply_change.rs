//! Writes a change of the application into the mirror, and starts what follows from it.

use serde::{Deserialize, Serialize};

/// Apply one stored change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyChange {
    /// The stored event.
    pub event: i64,
}
