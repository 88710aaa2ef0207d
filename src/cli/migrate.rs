//! `polar-jobs migrate`

use anyhow::Context;

use super::{Exit, Failure, Surroundings, connect};
use crate::migrate;

pub(super) async fn run(surroundings: &Surroundings) -> Result<Exit, Failure> {
    let mut connection = connect::connection(surroundings.config.database()?).await?;
    migrate::run_on(&mut connection)
        .await
        .context("the migrations cannot be applied")?;
    println!(
        "The schema polar_jobs is up to date (version {}).",
        connect::newest_version()
    );
    Ok(Exit::Done)
}
