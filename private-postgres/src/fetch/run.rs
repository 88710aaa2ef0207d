//! Running a package client: with a limit, and without repeating what it says, since its messages name mirrors and
//! proxies that are nobody else's business.

use std::{
    io::Read,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::{sleep, spawn},
    time::{Duration, Instant},
};

/// Ample for 60 MB over a slow line; a client without a network must not hang for ever.
const LIMIT: Duration = Duration::from_secs(300);

/// A program from the directories of `PATH`.
pub(super) fn program(path: &[PathBuf], name: &str) -> Result<PathBuf, String> {
    let found = path
        .iter()
        .map(|directory| directory.join(name))
        .find(|program| program.is_file());
    found.ok_or_else(|| format!("there is no `{name}`"))
}

/// Runs a command in `directory`; what it printed on standard output.
pub(super) fn within(mut command: Command, directory: &Path, name: &str) -> Result<String, String> {
    command.current_dir(directory);
    to_end(command, name)
}

/// Runs a command; what it printed on standard output.
pub(super) fn to_end(mut command: Command, name: &str) -> Result<String, String> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0);
    let mut child = command
        .spawn()
        .map_err(|error| format!("cannot run `{name}`: {error}"))?;
    let mut output = child
        .stdout
        .take()
        .ok_or_else(|| format!("`{name}` has no output to read"))?;
    let reader = spawn(move || {
        let mut text = Vec::new();
        output.read_to_end(&mut text).map(|_| text)
    });
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child
            .try_wait()
            .map_err(|error| format!("cannot wait for `{name}`: {error}"))?
        {
            break status;
        }
        if begun.elapsed() > LIMIT {
            // The whole group, since the client may have started others; `kill` is how std-only code signals one.
            let _ = Command::new("kill")
                .args(["-9", "--", &format!("-{}", child.id())])
                .status();
            let _ = child.wait();
            return Err(format!(
                "`{name}` did not finish within {} s",
                LIMIT.as_secs()
            ));
        }
        sleep(Duration::from_millis(20));
    };
    if !status.success() {
        return Err(format!(
            "`{name}` failed ({status}); run it by hand to see why"
        ));
    }
    let text = reader
        .join()
        .map_err(|_| format!("the output of `{name}` was lost"))?;
    Ok(String::from_utf8_lossy(&text.map_err(|error| error.to_string())?).into_owned())
}
