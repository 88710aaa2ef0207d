//! What earlier runs left behind when they were killed: a server that still runs, or the marks of one that does not.

use super::{
    account::Account,
    binaries::Binaries,
    error::{Doing, Error},
    place::Place,
    readiness::{Readiness, ask},
};
use std::{
    fs, io,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

/// Makes the cluster startable. The caller holds the cluster's lock, so whatever runs here has lost its owner.
pub(super) fn clear(
    place: &Place,
    socket: &Path,
    binaries: &Binaries,
    account: &Account,
) -> Result<(), Error> {
    let pid_file = place.data.join("postmaster.pid");
    let Some(pid) = pid_in(&pid_file)? else {
        return Ok(());
    };
    if ask(socket) != Readiness::Silent {
        return stop_orphan(place, socket, binaries, account);
    }
    if is_zombie(&pid) {
        // An init that reaps late or never keeps the dead server's number taken, and Postgres believes it alive.
        wait_until_reaped(&pid);
        remove(&pid_file)?;
        for entry in fs::read_dir(&place.socket).into_iter().flatten().flatten() {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// How long the sessions of a server that was killed may take to notice.
const SESSIONS_END_TIMEOUT: Duration = Duration::from_secs(10);

fn stop_orphan(
    place: &Place,
    socket: &Path,
    binaries: &Binaries,
    account: &Account,
) -> Result<(), Error> {
    let mut command = account.command(binaries.program("pg_ctl"), binaries.libraries.as_deref());
    command
        .arg("-D")
        .arg(&place.data)
        .args(["stop", "-m", "fast", "-w", "-t", "60"]);
    command.env("LC_ALL", "C");
    let output = command.output().doing("run", binaries.program("pg_ctl"))?;
    // It may have stopped by itself in between; then pg_ctl complains, and there is nothing to complain about.
    if output.status.success() || pid_in(&place.data.join("postmaster.pid"))?.is_none() {
        return Ok(());
    }
    // A server that was killed is gone while a session of it still holds the socket: nothing is there to be
    // stopped, and soon nobody answers.
    let begun = Instant::now();
    while begun.elapsed() < SESSIONS_END_TIMEOUT {
        if ask(socket) == Readiness::Silent {
            return Ok(());
        }
        sleep(Duration::from_millis(50));
    }
    let output = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    // Killed, and only a session that was about to begin keeps its socket open for a moment: it is gone.
    if output.contains("No such process") {
        return Ok(());
    }
    Err(Error::Program {
        program: "pg_ctl",
        directory: place.data.clone(),
        output,
    })
}

/// The server's process id as its pid file tells it.
pub(super) fn pid_in(pid_file: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(pid_file) {
        Ok(text) => Ok(text.lines().next().map(|line| line.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).doing("read", pid_file),
    }
}

/// Only Linux shows it this way, and only Linux containers have such inits.
fn is_zombie(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

fn wait_until_reaped(pid: &str) {
    let begun = Instant::now();
    while is_zombie(pid) && begun.elapsed() < Duration::from_secs(1) {
        sleep(Duration::from_millis(20));
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).doing("remove", path),
        _ => Ok(()),
    }
}
