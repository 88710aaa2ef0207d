//! The one binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    polar_jobs::cli::main()
}
