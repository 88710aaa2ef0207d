//! `docs/quickstart.md`, its blocks run as they are printed: only its two ports are others, so that it runs beside itself.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../private-postgres/tests/postgres/free_port.rs"]
mod free_port;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use free_port::free_port;

const DOCUMENT: &str = include_str!("../docs/quickstart.md");
/// Long enough for a loaded machine; what comes earlier ends the wait earlier.
const DEADLINE: Duration = Duration::from_secs(120);

/// The reader's directory and ports.
struct Reader {
    directory: tempfile::TempDir,
    app: String,
    ingress: String,
}

/// A terminal in which a block runs; closing it ends everything that runs there.
struct Terminal(Child);

impl Drop for Terminal {
    fn drop(&mut self) {
        let group = format!("-{}", self.0.id());
        let _ended_already = Command::new("kill").args(["-TERM", "--", &group]).status();
        let deadline = Instant::now() + Duration::from_secs(35);
        while Instant::now() < deadline {
            if self.0.try_wait().is_ok_and(|end| end.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _killed = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _reaped = self.0.wait();
    }
}

/// The block whose first line ends in this name.
fn block(name: &str) -> &'static str {
    let mut fences = DOCUMENT.split("```").skip(1).step_by(2);
    let found = fences.find_map(|block| {
        let (first, text) = block.split_once('\n')?;
        first
            .split_once(' ')
            .filter(|(_, title)| *title == name)
            .map(|_| text)
    });
    found.unwrap_or_else(|| panic!("the page has no block {name:?}"))
}

impl Reader {
    fn new() -> Self {
        let reader = Self {
            directory: tempfile::tempdir().unwrap(),
            app: free_port().to_string(),
            ingress: free_port().to_string(),
        };
        reader.save(".env");
        reader
    }

    /// A block with this reader's ports.
    fn text(&self, name: &str) -> String {
        // In one pass: a port may contain the digits of the other.
        let between: Vec<_> = block(name)
            .split("5000")
            .map(|text| text.replace("8080", &self.ingress))
            .collect();
        between.join(&self.app)
    }

    fn save(&self, name: &str) {
        std::fs::write(self.directory.path().join(name), self.text(name)).unwrap();
    }

    /// Types a block into a terminal of its own.
    fn open(&self, name: &str) -> Terminal {
        let binary = PathBuf::from(env!("CARGO_BIN_EXE_polar-jobs"));
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{path}", binary.parent().unwrap().display());
        let mut shell = Command::new("sh");
        shell
            .args(["-ec", &self.text(name)])
            .current_dir(self.directory.path())
            .env_clear()
            .env("PATH", path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0);
        for kept in ["HOME", "POSTGRES_BIN", "XDG_CACHE_HOME"] {
            if let Some(value) = std::env::var_os(kept) {
                shell.env(kept, value);
            }
        }
        Terminal(shell.spawn().unwrap())
    }

    /// Waits until the page shows these words.
    fn sees(&self, words: &str) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let page = page(&format!("127.0.0.1:{}", self.app)).unwrap_or_default();
            if page.contains(words) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "the page never showed {words:?}: {page}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Terminal {
    /// Waits for a line with these words.
    fn says(&mut self, words: &'static str) {
        let output = BufReader::new(self.0.stdout.take().unwrap());
        let (found, waiting) = mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if line.contains(words) {
                    let _nobody_waits = found.send(());
                }
            }
        });
        waiting
            .recv_timeout(DEADLINE)
            .unwrap_or_else(|_| panic!("nothing said {words:?}"));
    }

    /// Waits for its end, and says whether that was a good one.
    fn ends_well(mut self) -> bool {
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the command did not end");
    }
}

fn page(address: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).ok()?;
    write!(
        stream,
        "GET / HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n"
    )
    .ok()?;
    std::io::read_to_string(stream).ok()
}

fn follow(program: &str, terminal: &str) {
    let reader = Reader::new();
    let mut dev = reader.open("first terminal");
    dev.says("Everything stays open");
    let _second_worker = reader.open("second terminal");
    reader.save(program);
    let _app = reader.open(terminal);
    reader.sees("is on Free");
    sell(&reader);
    reader.sees("is on Growth");
}

/// A person takes some seconds from one terminal to the next; a test tries until Polar knows the team.
fn sell(reader: &Reader) {
    let deadline = Instant::now() + DEADLINE;
    while !reader.open("fourth terminal").ends_well() {
        assert!(Instant::now() < deadline, "nothing could be sold");
    }
}

#[test]
#[ignore = "needs python3; .ci/run runs it"]
fn the_application_in_python_shows_the_plan_that_was_bought() {
    follow("app.py", "third terminal, Python");
}

#[test]
#[ignore = "needs node; .ci/run runs it"]
fn the_application_in_typescript_shows_the_plan_that_was_bought() {
    follow("app.mjs", "third terminal, TypeScript");
}
