//! A database that cannot be used: the one line says why.

use private_postgres::testing;

use crate::free_port::free_port;

use super::support::with_database;

#[test]
fn a_server_that_is_not_there_is_told_from_one_that_is_slow() {
    let said = with_database(
        &format!("postgres://postgres@127.0.0.1:{}/app", free_port()),
        &["jobs", "list"],
    );
    assert_eq!(said.code, Some(1));
    assert!(
        said.err.contains("DATABASE_URL") && said.err.contains("refused"),
        "{}",
        said.err
    );
}

#[tokio::test]
async fn what_the_server_refuses_is_said_in_its_words_alone() {
    let database = testing::empty_database(polar_jobs::migrate::migrator).await;
    let name: String = sqlx::query_scalar("SELECT current_database()")
        .fetch_one(&database.pool)
        .await
        .unwrap();
    let elsewhere = database.url.replace(&name, "nowhere");
    let said = with_database(&elsewhere, &["jobs", "list"]);
    assert_eq!(said.code, Some(1));
    assert!(
        said.err
            .trim_end()
            .ends_with(r#"database "nowhere" does not exist"#),
        "{}",
        said.err
    );
}
