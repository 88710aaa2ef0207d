//! Leave to make one call, on its way from the pump to the call that waits for it.
//!
//! The call may be dropped while its permit travels. Then nobody will ever tell the gate what came
//! of it, so the permit does.

use std::sync::Arc;

use polar::Answer;

use super::shared::Shared;

/// Leave to make one call.
#[derive(Debug)]
pub(super) struct Permit(Option<Arc<Shared>>);

impl Permit {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(Some(Arc::clone(shared)))
    }

    /// The call goes out, and will say itself what came of it.
    pub(super) fn taken(mut self) {
        self.0 = None;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(shared) = self.0.take() {
            shared.left(Answer::Abandoned);
        }
    }
}
