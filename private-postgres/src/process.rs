//! The running server, tied to this process: however we end, even by `kill -9`, it notices and stops.

use super::error::{Doing, Error};
use std::{
    io,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// Runs Postgres under a shell whose standard input is our pipe; the pipe's end means that we are gone, and becomes a
/// fast shutdown. POSIX shells give background jobs `/dev/null` for input, hence the copy as descriptor 3.
const WATCH: &str = r#"exec 3<&0 </dev/null
program=$1; shift
"$program" "$@" 3<&- & server=$!
(read -r _ <&3; kill -INT $server) & watcher=$!
trap '' INT TERM HUP
wait $server; status=$?
kill $watcher 2>/dev/null
exit $status"#;

/// A server process and the pipe that keeps it alive.
#[derive(Debug)]
pub(super) struct Process {
    watch: Child,
}

impl Process {
    /// Starts `postgres` (a command that carries the account and the environment, with `/bin/sh` as its program).
    pub(super) fn spawn(
        mut shell: Command,
        postgres: &Path,
        arguments: &[String],
        log: std::fs::File,
    ) -> Result<Process, Error> {
        let copy = log.try_clone().doing("share the log of", postgres)?;
        shell
            .args(["-c", WATCH, "sh"])
            .arg(postgres)
            .args(arguments);
        shell.stdin(Stdio::piped()).stdout(log).stderr(copy);
        Ok(Process {
            watch: shell.spawn().doing("run", postgres)?,
        })
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.watch.try_wait()
    }

    /// Fast shutdown: sessions are ended, everything committed is kept. Waits for the end.
    pub(super) fn stop(mut self) -> io::Result<ExitStatus> {
        drop(self.watch.stdin.take());
        self.watch.wait()
    }

    /// Waits for an end that somebody else has brought about; false when it does not come in time.
    pub(super) fn wait_for_end(&mut self, limit: Duration) -> io::Result<bool> {
        let begun = Instant::now();
        while self.ended()?.is_none() {
            if begun.elapsed() > limit {
                return Ok(false);
            }
            sleep(Duration::from_millis(10));
        }
        Ok(true)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.watch.stdin.take());
        // Nothing is left to tell an error to; the shell is reaped so that no zombie keeps the cluster looking alive.
        let _ = self.watch.wait();
    }
}
