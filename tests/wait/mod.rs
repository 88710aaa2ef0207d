//! Waiting in tests: always with a deadline, always yielding, and with words about what did not come.

use std::process::{Child, Output};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long something may take on a busy machine. What takes longer does not come.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// How long a process may take for all it does: `dev --once` plays a whole scenario.
#[allow(dead_code, reason = "not every test starts processes")]
pub(crate) const PROCESS_DEADLINE: Duration = Duration::from_secs(240);

/// Waits until a condition holds, and fails with `what` when it does not within the deadline. A condition
/// that never answers fails as well.
#[allow(
    dead_code,
    reason = "some tests have more to say where it does not hold"
)]
pub(crate) async fn eventually(what: &str, holds: impl AsyncFnMut() -> bool) {
    let came = comes_true_within(DEADLINE, holds).await;
    assert!(came, "not within {DEADLINE:?}: {what}");
}

/// Returns whether a condition comes to hold within `timeout`.
pub(crate) async fn comes_true_within(
    timeout: Duration,
    mut holds: impl AsyncFnMut() -> bool,
) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < timeout {
        match tokio::time::timeout(timeout, holds()).await {
            Ok(true) => return true,
            Ok(false) => tokio::time::sleep(Duration::from_millis(10)).await,
            Err(_) => break,
        }
    }
    false
}

/// Waits for the end of a process and for all it says. One that does not end is killed, and the test fails
/// with what it said.
#[allow(dead_code, reason = "not every test starts processes")]
pub(crate) fn output_of(child: Child, what: &str) -> Output {
    let pid = child.id();
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || drop(ended.send(child.wait_with_output())));
    if let Ok(output) = end.recv_timeout(PROCESS_DEADLINE) {
        return output.expect("a child can be waited for");
    }
    let killed = std::process::Command::new("kill")
        .args(["-KILL", &pid.to_string()])
        .status();
    let said = end.recv_timeout(DEADLINE).map(|output| {
        output.map(|output| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            format!("{}\n{}", text(&output.stdout), text(&output.stderr))
        })
    });
    panic!(
        "{what} did not end within {PROCESS_DEADLINE:?} (killed: {killed:?}); it said: {said:?}"
    );
}
