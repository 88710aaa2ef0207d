//! The support desk: whether there is one, and whether it takes our token.

use super::super::clients;
use super::Finding;
use crate::config::Config;

const ABOUT: &str = "support-desk";

pub(super) async fn check(config: &Config) -> Vec<Finding> {
    vec![support_desk(config).await]
}

/// Nobody needs a support desk, so going without one is no warning.
async fn support_desk(config: &Config) -> Finding {
    let support_desk = match clients::support_desk(config) {
        Ok(Some(support_desk)) => support_desk,
        Ok(None) => {
            let what = "none: PLAIN_TOKEN is not set, so nothing goes to Plain";
            return Finding::ok(ABOUT, what);
        }
        Err(_) => {
            let what = "no client for Plain can be made";
            return Finding::error(ABOUT, what, "correct PLAIN_TOKEN and PLAIN_API_URL");
        }
    };
    match support_desk.client.probe().await {
        Ok(()) => Finding::ok(ABOUT, "Plain answers and takes the token"),
        Err(error) => Finding::error(
            ABOUT,
            format!("{error}; what is meant for it waits, billing goes on"),
            "see whether PLAIN_API_URL answers and PLAIN_TOKEN is right; work resumes by itself",
        ),
    }
}
