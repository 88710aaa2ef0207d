//! `polar-jobs queues …`

use clap::Subcommand;

use super::output::{self, Format};
use super::{AppContext, Exit, Failure, connect};
use crate::queue::table::{self, QueueRow};

#[derive(Subcommand)]
pub(super) enum Command {
    /// List the queues: how many jobs wait and run, who serves them, and what is paused
    List {
        /// Columns for people, or one JSON array
        #[arg(long, value_enum, default_value_t)]
        format: Format,
        /// At most so many
        #[arg(long, default_value_t = 50, value_parser = output::limit())]
        limit: i64,
    },
    /// Start no more jobs of a queue; what runs may end
    Pause {
        /// The queue
        name: String,
    },
    /// Start jobs of a queue again
    Resume {
        /// The queue
        name: String,
    },
}

pub(super) async fn run(command: Command, app: &AppContext) -> Result<Exit, Failure> {
    let pool = connect::pool(app.config.database()?, 2).await?;
    let (name, known, done) = match command {
        Command::List { format, limit } => {
            let mut rows = table::queues(&pool).await?;
            rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            output::list(format, HEADER, &rows, cells)?;
            return Ok(Exit::Done);
        }
        Command::Pause { name } => (
            name.clone(),
            table::pause(&pool, &app.actor, &name).await?,
            "is paused; what runs may end",
        ),
        Command::Resume { name } => (
            name.clone(),
            table::resume(&pool, &app.actor, &name).await?,
            "runs",
        ),
    };
    if !known {
        let names: Vec<String> = table::queues(&pool)
            .await?
            .into_iter()
            .map(|row| row.name)
            .collect();
        return Err(Failure::usage(format!(
            "there is no queue {name}; known are {}",
            names.join(", ")
        )));
    }
    output::line(&format!("queue {name} {done}"))?;
    Ok(Exit::Done)
}

const HEADER: [&str; 7] = [
    "name",
    "waiting",
    "ready",
    "running",
    "workers",
    "slots",
    "paused at (UTC)",
];

fn cells(queue: &QueueRow) -> [String; 7] {
    [
        queue.name.clone(),
        queue.waiting.to_string(),
        queue.ready.to_string(),
        queue.running.to_string(),
        queue.workers.to_string(),
        queue.slots.to_string(),
        output::maybe_brief(queue.paused_at),
    ]
}
