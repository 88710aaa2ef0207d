//! Mail servers that take nobody's mail: away, hanging, or refusing us. That uses up no attempt, and is nobody
//! else's failure.

use std::collections::BTreeSet;

use jobs::mail::Security;
use polar_jobs::operators::Actor;
use polar_jobs::queue::table::{Action, Filter, State, act_on_all};
use serde_json::Value;
use simulator::Product;

use crate::mail_server::Behaviour;
use crate::test_app::{CONTACTS, MailRow, TestApp, polar};

const NONE: [Value; 0] = [];

#[tokio::test]
async fn half_an_hour_without_the_mail_server_loses_nothing_uses_up_no_attempt_and_touches_nothing_else()
 {
    const ORGANIZATIONS: usize = 20;
    // One about the purchase and one about the cancellation.
    const MAILS: usize = ORGANIZATIONS * 2 * CONTACTS.len();
    let mut app = TestApp::open(simulator::Options {
        rate_limit_per_minute: u32::MAX,
        ..polar()
    })
    .await;
    let organizations: [String; ORGANIZATIONS] = app.organizations().await;
    app.mail_server.stop().await;
    for organization in &organizations {
        app.simulator
            .purchase(organization, Product::Pro)
            .await
            .unwrap();
        app.simulator
            .cancel_at_period_end(organization)
            .await
            .unwrap();
    }
    app.until("the mails are asked for", async || {
        app.work_until_idle().await;
        app.mails().await.len() == MAILS
    })
    .await;
    // Billing is in step although nobody was told.
    let in_step = "SELECT count(*) FROM polar_jobs.entitlements e JOIN polar_jobs.subscriptions s USING (organization_id)
                    WHERE e.plan = 'Pro' AND s.cancel_at_period_end";
    assert_eq!(app.count(in_step).await, 20);
    let at_polar = app.simulator.requests().len();
    // Every minute the waiting mails come round, in a process that does not know of the outage yet.
    for _minute in 0..30 {
        app.connect(Security::Opportunistic);
        app.look_once().await;
    }
    let mails = app.mails().await;
    assert_eq!(mails.len(), MAILS);
    assert!(mails.iter().all(MailRow::waits_untried));
    assert_eq!(app.failures("send_email").await, NONE);
    // So an alert sees how late they are.
    let not_due =
        "SELECT count(*) FROM polar_jobs.live_jobs WHERE kind = 'send_email' AND due_at IS NULL";
    assert_eq!(app.count(not_due).await, 0);
    let notes = app.notes().await;
    assert_eq!(notes.len(), MAILS);
    assert!(notes.iter().all(|(kind, note)| {
        kind == "send_email"
            && note
                .as_deref()
                .unwrap_or_default()
                .contains("the mail server is not available")
    }));
    app.mail_server.start_again().await;
    app.connect(Security::Opportunistic);
    app.finish().await;
    let mails = app.mails().await;
    assert!(
        mails
            .iter()
            .all(|mail| mail.state == "sent" && mail.attempts == 1)
    );
    let received = app.mail_server.received();
    let messages: BTreeSet<String> = received.iter().map(|mail| mail.message_id()).collect();
    assert_eq!((received.len(), messages.len()), (MAILS, MAILS));
    assert_eq!(app.failures("send_email").await, NONE);
    assert_eq!(
        app.simulator.requests().len(),
        at_polar,
        "Polar was asked nothing again"
    );
}

#[tokio::test]
async fn a_process_that_saw_the_outage_sends_once_the_server_is_back() {
    let mut app = TestApp::open(polar()).await;
    app.mail_server.stop().await;
    app.purchase().await;
    app.work_until_idle().await;
    app.mail_server.start_again().await;
    app.until("the mails go", async || {
        app.look_again().await;
        app.notes().await.is_empty()
    })
    .await;
    assert_eq!(app.mail_server.received().len(), CONTACTS.len());
}

#[tokio::test]
async fn a_server_that_hangs_keeps_nobody_from_what_they_paid_for() {
    let app = TestApp::open(polar()).await;
    app.mail_server.behave(Behaviour::SayNothing);
    let (acme, globex) = (app.organization().await, app.organization().await);
    let working = app.work();
    app.simulator.purchase(&acme, Product::Pro).await.unwrap();
    app.mail_server.is_called().await;
    app.simulator
        .purchase(&globex, Product::Scale)
        .await
        .unwrap();
    let held = "SELECT count(*) FROM polar_jobs.entitlements WHERE plan IN ('Pro', 'Scale') AND sso_enabled = (plan = 'Scale')";
    app.until("both have their plans", async || app.count(held).await == 2)
        .await;
    // One conversation at least still waits for the first word.
    assert!(app.mails().await.iter().all(|mail| mail.state == "waiting"));
    working.stop().await;
    assert_eq!(app.mail_server.received().len(), 0);
}

#[tokio::test]
async fn a_refused_log_in_or_sender_is_about_us_and_counts_for_no_mail() {
    for (command, answer, reason) in [
        ("AUTH", "535 5.7.8 no", "the log-in failed: it answered 535"),
        (
            "MAIL",
            "550 5.7.1 <billing@example.com> is not yours",
            "it does not take the sender: it answered 550",
        ),
    ] {
        let app = TestApp::open(polar()).await;
        app.mail_server
            .behave(Behaviour::Answer(command, "", answer));
        app.purchase().await;
        app.work_until_idle().await;
        app.look_again().await;
        let mails = app.mails().await;
        assert_eq!(mails.len(), CONTACTS.len());
        assert!(mails.iter().all(MailRow::waits_untried), "{mails:?}");
        assert_eq!(app.failures("send_email").await, NONE);
        let notes = app.notes().await;
        let told = |(_, note): &(_, Option<String>)| {
            note.as_ref().is_some_and(|note| note.contains(reason))
        };
        assert!(notes.iter().any(told), "{notes:?}");
    }
}

#[tokio::test]
async fn a_server_that_closes_over_one_mail_puts_that_one_off_and_it_is_not_tried_for_ever() {
    let mut app = TestApp::open(polar()).await;
    let closing = Behaviour::Answer("RCPT", "admin@", "421 4.3.2 <admin@example.com> closing");
    app.mail_server.behave(closing);
    app.purchase().await;
    app.work_until_idle().await;
    let mails = app.mails().await;
    let put_off = &mails[0];
    assert_eq!(
        (put_off.recipient.as_str(), put_off.state.as_str()),
        (CONTACTS[0], "waiting")
    );
    let failures = app.failures("send_email").await;
    let told = failures[0]["error"].as_str().unwrap();
    assert!(told.contains("RCPT TO: it answered 421"), "{told}");
    assert!(!told.contains('@'), "no address of anybody: {told}");
    app.mail_server.behave(Behaviour::Accept);
    app.connect(Security::Opportunistic);
    app.finish().await;
    assert_eq!(app.mail_server.received().len(), CONTACTS.len());
}

#[tokio::test]
async fn a_mail_whose_job_was_cancelled_waits_no_longer_and_goes_where_the_job_is_retried() {
    let mut app = TestApp::open(polar()).await;
    app.mail_server.stop().await;
    app.purchase().await;
    app.until("the mails are asked for", async || {
        app.look_again().await;
        app.mails().await.len() == CONTACTS.len()
    })
    .await;
    let act = async |action, state| {
        let actor = Actor::of_system();
        let filter = Filter {
            kind: Some("send_email".to_owned()),
            state: Some(state),
            ..Filter::default()
        };
        act_on_all(&app.pool, &actor, action, &filter)
            .await
            .unwrap()
    };
    let prune = async || {
        let prune = "SELECT polar_jobs.enqueue('prune', '{}')";
        sqlx::query(prune).execute(&app.pool).await.unwrap();
        app.work_until_idle().await;
    };
    prune().await;
    assert!(app.mails().await.iter().all(MailRow::waits_untried));
    assert_eq!(act(Action::Cancel, State::Available).await, 2);
    prune().await;
    for mail in app.mails().await {
        assert_eq!(mail.state, "skipped");
        assert_eq!(mail.error.unwrap(), "its job was ended before it was sent");
    }
    assert_eq!(act(Action::Retry, State::Cancelled).await, 2);
    app.mail_server.start_again().await;
    app.connect(Security::Opportunistic);
    app.finish().await;
    assert!(app.mails().await.iter().all(|mail| mail.state == "sent"));
    assert_eq!(app.mail_server.received().len(), CONTACTS.len());
}
