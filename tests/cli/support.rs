//! Runs the binary in an empty environment.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::ops::{Deref, DerefMut};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

pub(crate) use crate::wait::DEADLINE;
use crate::wait::{PROCESS_DEADLINE, output_of};

/// What a command said and how it ended.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// The binary with these settings and no others.
pub(crate) fn command(settings: &[(&str, &str)], arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_polar-jobs"));
    command
        .args(arguments)
        // Not where somebody's own `.env` may lie.
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .env_clear()
        .envs(settings.iter().copied());
    // A private Postgres is looked for on the PATH, and what is fetched is kept at home.
    for kept in ["PATH", "HOME", "POSTGRES_BIN", "XDG_CACHE_HOME"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A process of the binary that does not outlive its test, however that ends.
pub(crate) struct Running(Option<Child>);

impl Running {
    /// Waits for its end and for all it says.
    pub(crate) fn said(mut self) -> Said {
        let child = self.0.take().expect("it was not waited for before");
        said(output_of(child, "the command"))
    }
}

impl From<Child> for Running {
    fn from(child: Child) -> Self {
        Self(Some(child))
    }
}

impl Deref for Running {
    type Target = Child;

    fn deref(&self) -> &Child {
        self.0.as_ref().expect("only `said` takes it")
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Child {
        self.0.as_mut().expect("only `said` takes it")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ended_already = child.kill();
            let _reaped_already = child.wait();
        }
    }
}

/// Starts it.
pub(crate) fn start(settings: &[(&str, &str)], arguments: &[&str]) -> Running {
    command(settings, arguments).spawn().unwrap().into()
}

/// Runs it to its end.
pub(crate) fn run(settings: &[(&str, &str)], arguments: &[&str]) -> Said {
    let child = command(settings, arguments).spawn().unwrap();
    said(output_of(child, &format!("{arguments:?}")))
}

/// Runs it to its end, while what runs on this test's runtime, such as a local Polar, answers it.
pub(crate) async fn run_beside(
    settings: &[(impl AsRef<str>, impl AsRef<str>)],
    arguments: &[&str],
) -> Said {
    let mut command = command(&borrowed(settings), arguments);
    let what = format!("{arguments:?}");
    let ended = tokio::task::spawn_blocking(move || output_of(command.spawn().unwrap(), &what));
    said(ended.await.unwrap())
}

/// Settings that somebody else owns.
pub(crate) fn borrowed(settings: &[(impl AsRef<str>, impl AsRef<str>)]) -> Vec<(&str, &str)> {
    let settings = settings.iter();
    settings
        .map(|(name, value)| (name.as_ref(), value.as_ref()))
        .collect()
}

/// Runs it with a database and no other settings.
pub(crate) fn with_database(url: &str, arguments: &[&str]) -> Said {
    run(&[("DATABASE_URL", url)], arguments)
}

pub(crate) fn said(output: Output) -> Said {
    Said {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Sends a signal by name, as `kill` does.
pub(crate) fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &child.id().to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
}

/// Waits for an end; `None` where it does not come in time, and then the child is killed.
pub(crate) fn ended(child: &mut Child) -> Option<Option<i32>> {
    let deadline = Instant::now() + DEADLINE;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status.code());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    None
}

/// Waits for the first line with these words in what a child writes, and lets it write on.
pub(crate) fn line_with(written: impl Read + Send + 'static, words: &'static str) -> String {
    let (found, line) = mpsc::channel();
    std::thread::spawn(move || {
        let lines = BufReader::new(written).lines().map_while(Result::ok);
        // Sending fails once nobody waits any more; the rest is read so that the pipe never fills.
        lines
            .filter(|line| line.contains(words))
            .for_each(|line| drop(found.send(line)));
    });
    line.recv_timeout(PROCESS_DEADLINE)
        .unwrap_or_else(|_| panic!("no line with {words:?}"))
}

/// Polls until a condition holds.
pub(crate) async fn until(holds: impl AsyncFnMut() -> bool) {
    crate::wait::eventually("what was waited for", holds).await;
}

/// What a server answers to a GET, head and body; `None` where it does not.
pub(crate) fn try_get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).ok()?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n"
    )
    .ok()?;
    std::io::read_to_string(stream)
        .ok()
        .filter(|answer| !answer.is_empty())
}

/// The same of a server that answers.
pub(crate) fn get(address: &str, path: &str) -> String {
    try_get(address, path).unwrap_or_else(|| panic!("no answer of {address}{path}"))
}
