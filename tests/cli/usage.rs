//! Wrong usage and wrong settings.

use super::support::run;

#[test]
fn help_names_every_command_and_explains_it() {
    let said = run(&[], &["--help"]);
    assert_eq!(said.code, Some(0));
    let commands = [
        "dev",
        "migrate",
        "ingress",
        "worker",
        "simulator",
        "jobs",
        "queues",
        "schedules",
        "events",
        "resync",
        "bench",
        "doctor",
    ];
    for command in commands {
        let line = said
            .out
            .lines()
            .find(|line| line.trim_start().starts_with(command))
            .unwrap();
        assert!(line.trim().len() > command.len() + 10, "{line}");
    }
    assert!(
        said.out
            .contains("Exit codes: 0 done, 1 failed, 2 wrong usage")
    );
}

#[test]
fn wrong_usage_exits_with_2() {
    for arguments in [
        &["juggle"][..],
        &[],
        &["worker", "--queue", "default=0"],
        &["worker", "--queue", "default=many"],
        &["jobs", "list", "--state", "asleep"],
        &["jobs", "list", "--limit", "0"],
        &["jobs", "list", "--organization", "acme"],
        &["jobs", "retry", "7", "--kind", "sync_customer"],
        &["dev", "--faults", "often"],
        &["queues", "list", "--format", "xml"],
    ] {
        assert_eq!(run(&[], arguments).code, Some(2), "{arguments:?}");
    }
}

#[test]
fn a_wrong_setting_is_one_line_that_names_the_variable_and_keeps_the_value() {
    let database = "postgres://app:Xsecret-9Z@localhost:5432/app";
    for (variable, value) in [
        ("DATABASE_URL", "mysql://app:Xsecret-9Z@localhost/app"),
        (
            "DATABASE_URL",
            "postgres://app:Xsecret-9Z@localhost:port/app",
        ),
        ("PORT", "Xsecret-9Z"),
        ("POLAR_ACCESS_TOKEN", "Xsecret-9Z Xsecret-9Z"),
        ("POLAR_ORGANIZATION_ID", "Xsecret-9Z"),
        ("MAIL_URL", "http://app:Xsecret-9Z@localhost"),
        ("LOG_FORMAT", "Xsecret-9Z"),
    ] {
        let said = run(
            &[("DATABASE_URL", database), (variable, value)],
            &["ingress"],
        );
        assert_eq!(said.code, Some(2), "{variable}: {}", said.err);
        assert_eq!(said.err.lines().count(), 1, "{}", said.err);
        assert!(
            said.err.contains(variable) && said.err.contains("allowed: "),
            "{}",
            said.err
        );
        assert!(
            !said.err.contains("Xsecret-9Z") && said.out.is_empty(),
            "{}",
            said.err
        );
    }
}

#[test]
fn a_command_asks_only_for_what_it_needs() {
    for arguments in [
        &["migrate"][..],
        &["ingress"],
        &["worker"],
        &["jobs", "list"],
        &["queues", "list"],
    ] {
        let said = run(&[], arguments);
        assert_eq!(said.code, Some(2), "{arguments:?}");
        assert!(said.err.contains("DATABASE_URL is not set"), "{}", said.err);
    }
}

#[test]
fn a_database_that_is_away_is_a_failure_in_one_line_without_its_password() {
    // Port 1 is nobody's.
    let said = run(
        &[("DATABASE_URL", "postgres://app:Xsecret-9Z@127.0.0.1:1/app")],
        &["migrate"],
    );
    assert_eq!(said.code, Some(1));
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);
    assert!(
        said.err.contains("127.0.0.1:1/app") && !said.err.contains("Xsecret-9Z"),
        "{}",
        said.err
    );
}

#[test]
fn a_configured_secret_is_masked_in_whatever_is_said() {
    // A secret that the message would name: what stands there instead is the mask.
    let settings = [
        ("DATABASE_URL", "postgres://app:pw@127.0.0.1:1/app"),
        ("APP_TOKEN", "127.0.0.1:1/app"),
    ];
    for arguments in [&["migrate"][..], &["doctor"]] {
        let said = run(&settings, arguments);
        let text = format!("{}{}", said.out, said.err);
        assert!(
            text.contains("***") && !text.contains("127.0.0.1:1/app"),
            "{text}"
        );
    }
}
