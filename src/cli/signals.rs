//! Stopping cleanly: SIGTERM from a process manager, SIGINT from a keyboard.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Ends the process at the first signal, as the default would, with the code of a process that a signal ended: for
/// process 1 of a container there is no default, and the signal would do nothing. What is open at the
/// database is rolled back as after a crash.
pub(crate) fn exit_on_signals() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // In a task of its own, because a command may block its own, as in writing to a pipe that is full.
    tokio::spawn(async move {
        let kind = tokio::select! {
            _ = terminate.recv() => SignalKind::terminate(),
            _ = interrupt.recv() => SignalKind::interrupt(),
        };
        std::process::exit(128 + kind.as_raw_value());
    });
    Ok(())
}

/// A request to stop that many parts of a process can wait for.
#[derive(Clone)]
pub(crate) struct Stop {
    requested: watch::Sender<bool>,
}

impl Stop {
    /// Takes the signals over from the default, which would end the process at once. The first one
    /// asks for a clean stop; the second one ends the process: leases and open transactions are then
    /// cleaned up as after a crash.
    pub(crate) fn on_signals() -> io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stop = Self {
            requested: watch::channel(false).0,
        };
        let requested = stop.requested.clone();
        tokio::spawn(async move {
            for time in 0.. {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                if time > 0 {
                    std::process::exit(1);
                }
                tracing::info!(
                    signal = name,
                    "stopping; a second signal ends the process at once"
                );
                requested.send_replace(true);
            }
        });
        Ok(stop)
    }

    /// Requests a stop.
    pub(crate) fn request(&self) {
        self.requested.send_replace(true);
    }

    /// Waits for the request; returns at once if it was made already.
    pub(crate) async fn requested(&self) {
        let mut requested = self.requested.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _seen = requested.wait_for(|requested| *requested).await;
    }

    /// An owned form of [`Stop::requested`], for a spawned part.
    pub(crate) fn wait(&self) -> impl Future<Output = ()> + Send + 'static {
        let stop = self.clone();
        async move { stop.requested().await }
    }
}
