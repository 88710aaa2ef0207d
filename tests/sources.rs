//! What `docs/architecture.md` says of the sources is true: which module names which library and which tables,
//! and what no file says.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a test that cannot go on has failed, and says where"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A text file of the repository, by its path from the root.
struct Source {
    path: String,
    text: String,
}

const ROOTS: [&str; 14] = [
    ".ci",
    ".env.sample",
    "CHANGELOG.md",
    "Cargo.toml",
    "README.md",
    "docs",
    "jobs",
    "migrations",
    "plain",
    "polar",
    "private-postgres",
    "simulator",
    "src",
    "tests",
];

/// Every file that people write; what was recorded from others or generated is not ours to word.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut waiting: Vec<PathBuf> = ROOTS.iter().map(|name| root.join(name)).collect();
    while let Some(path) = waiting.pop() {
        let name = path
            .strip_prefix(root)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        if path.is_dir() && !name.ends_with("target") && !name.ends_with("recordings") {
            waiting.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else if path.is_file() && !name.ends_with(".json") && name != file!() {
            let text = fs::read_to_string(&path).unwrap_or_default();
            found.push(Source { path: name, text });
        }
    }
    assert!(found.len() > 300, "{} files", found.len());
    found
}

fn rust_below<'a>(sources: &'a [Source], folder: &'a str) -> impl Iterator<Item = &'a Source> {
    sources
        .iter()
        .filter(move |source| source.path.starts_with(folder) && source.path.ends_with(".rs"))
}

/// The files below the folders that hold one of the texts.
fn naming(folders: &[&str], texts: &[&str]) -> BTreeSet<String> {
    let sources = sources();
    let rust = folders
        .iter()
        .flat_map(|folder| rust_below(&sources, folder));
    rust.filter(|source| texts.iter().any(|text| source.text.contains(text)))
        .map(|source| source.path.clone())
        .collect()
}

#[test]
fn apalis_is_used_in_one_file() {
    let files = naming(&["src/", "jobs/"], &["apalis_core", "apalis::"]);
    assert_eq!(files, BTreeSet::from(["src/worker/adapter.rs".to_owned()]));
}

#[test]
fn the_tables_of_jobs_are_named_by_the_queue_alone_and_measured_by_the_benchmarks() {
    let tables = [
        "live_jobs",
        "finished_jobs",
        "key_releases",
        "key_locks",
        "claims",
    ]
    .map(|table| format!("polar_jobs.{table}"));
    let files = naming(&["src/", "jobs/"], &tables.each_ref().map(String::as_str));
    let others: Vec<&String> = files
        .iter()
        .filter(|path| !path.starts_with("src/queue/") && !path.starts_with("src/bench/"))
        .collect();
    assert!(others.is_empty(), "{others:?} go around src/queue/");
}

#[test]
fn the_sql_of_the_rate_limiter_is_in_one_file() {
    let files = naming(&["src/", "jobs/"], &["polar_jobs.rate_limiter"]);
    assert_eq!(files, BTreeSet::from(["src/limiter/fleet.rs".to_owned()]));
}

#[test]
fn the_sql_of_jobs_is_in_the_mirror() {
    let files = naming(
        &["jobs/"],
        &["query!(", "query_as!(", "query_scalar!(", "sqlx::query"],
    );
    let others: Vec<&String> = files
        .iter()
        .filter(|path| !path.starts_with("jobs/mirror/"))
        .collect();
    assert!(
        others.is_empty(),
        "{others:?} write SQL outside jobs/mirror/"
    );
}

#[test]
fn every_fact_about_polar_that_a_comment_names_is_written_down() {
    let facts = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/polar-facts.md");
    let facts = fs::read_to_string(facts).unwrap();
    let sections: Vec<String> = facts
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(|title| title.to_ascii_lowercase().replace(' ', "-"))
        .collect();
    let mut missing = Vec::new();
    for source in sources() {
        for cited in source.text.split("polar-facts.md#").skip(1) {
            let end = cited.find(|c: char| !c.is_ascii_alphanumeric() && c != '-');
            let anchor = &cited[..end.unwrap_or(cited.len())];
            let is_fact = facts.contains(&format!("<a id=\"{anchor}\">"));
            if !is_fact && !sections.iter().any(|section| section == anchor) {
                missing.push(format!("{}: {anchor}", source.path));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn nothing_leads_outside_the_repository() {
    let outside: Vec<String> = sources()
        .into_iter()
        .filter(|source| source.text.contains("../shared"))
        .map(|source| source.path)
        .collect();
    assert!(outside.is_empty(), "{outside:?}");
}

/// Private words and metaphors that once stood for the terms of the field.
const METAPHORS: [&str; 27] = [
    "agenda", "amnesty", "bed", "bell", "brisk", "bury", "buried", "cure", "crew", "door", "gate",
    "heir", "house", "hungry", "lane", "mend", "mends", "mishap", "patience", "pump", "settle",
    "settles", "stage", "story", "trouble", "twin", "wish",
];

#[test]
fn terms_of_the_field_are_used_instead_of_metaphors() {
    let mut found = Vec::new();
    for source in sources() {
        for (number, line) in source.text.lines().enumerate() {
            let words: Vec<String> = words(line).collect();
            // "Support desk" is the field's word, also where a line begins between the two.
            let desk = |pair: &[String]| pair[0] != "support" && pair[1] == "desk";
            if words.windows(2).any(desk)
                || words.iter().any(|word| METAPHORS.contains(&word.as_str()))
            {
                found.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// The words of a line in lower case, those within names too: `is_fooBar` has three.
fn words(line: &str) -> impl Iterator<Item = String> + '_ {
    let spaced = line.chars().scan(false, |lower, letter| {
        let begins = *lower && letter.is_ascii_uppercase();
        *lower = letter.is_ascii_lowercase();
        Some(begins.then_some(' ').into_iter().chain([letter]))
    });
    let spaced: String = spaced.flatten().collect();
    let words: Vec<String> = spaced
        .split(|c: char| !c.is_ascii_alphabetic())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    words.into_iter()
}
