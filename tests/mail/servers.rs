//! Mail servers that refuse one mail, put it off, or lose their answer to it.

use jobs::mail::Security;

use crate::mail_server::Behaviour;
use crate::test_app::{CONTACTS, MailRow, TestApp, polar};

fn of<'a>(mails: &'a [MailRow], recipient: &str) -> &'a MailRow {
    mails
        .iter()
        .find(|mail| mail.recipient == recipient)
        .unwrap()
}

#[tokio::test]
async fn a_recipient_that_is_refused_for_good_fails_after_one_attempt_and_the_others_get_theirs() {
    let app = TestApp::open(polar()).await;
    let refusal = Behaviour::Answer("RCPT", "admin@", "550 5.1.1 <admin@example.com> is unknown");
    app.mail_server.behave(refusal);
    app.purchase().await;
    app.finish().await;
    let mails = app.mails().await;
    let refused = of(&mails, "admin@example.com");
    assert_eq!((refused.state.as_str(), refused.attempts), ("failed", 1));
    let error = refused.error.clone().unwrap();
    assert!(error.contains("550") && !error.contains("admin"), "{error}");
    assert_eq!(of(&mails, "owner@example.com").state, "sent");
    let (end, _) = app
        .ends("send_email")
        .await
        .into_iter()
        .find(|(end, _)| end == "discarded")
        .unwrap();
    assert_eq!(end, "discarded");
    // An operator who puts the job back tries once more.
    app.mail_server.behave(Behaviour::Accept);
    let retried = "SELECT count(*) FROM polar_jobs.retry_finished(ARRAY(SELECT id FROM polar_jobs.finished_jobs WHERE kind = 'send_email'), 'discarded')";
    assert_eq!(app.count(retried).await, 1);
    app.finish().await;
    let mails = app.mails().await;
    let sent = of(&mails, "admin@example.com");
    assert_eq!(
        (sent.state.as_str(), sent.attempts, &sent.error),
        ("sent", 2, &None)
    );
}

/// Many servers say only after the recipient that they do not relay for us, or that the sender is not ours.
#[tokio::test]
async fn a_server_that_refuses_us_and_not_the_recipient_loses_no_mail() {
    for (command, answer) in [
        ("RCPT", "554 5.7.1 <you>: Relay access denied"),
        ("RCPT", "530 Authentication required"),
        ("DATA", "530 5.7.0 log in first"),
    ] {
        let app = TestApp::open(polar()).await;
        app.mail_server
            .behave(Behaviour::Answer(command, "", answer));
        app.purchase().await;
        app.work_until_idle().await;
        app.until("each mail was tried", async || {
            app.look_again().await;
            app.mails().await.iter().all(|mail| mail.attempts > 0)
        })
        .await;
        let mails = app.mails().await;
        assert!(mails.iter().all(|mail| mail.state == "waiting"), "{answer}");
        app.mail_server.behave(Behaviour::Accept);
        app.finish().await;
        assert!(app.mails().await.iter().all(|mail| mail.state == "sent"));
    }
}

#[tokio::test]
async fn a_recipient_that_is_put_off_gets_the_mail_later() {
    let app = TestApp::open(polar()).await;
    let later = Behaviour::Answer("RCPT", "owner@", "451 4.7.1 come back in a minute");
    app.mail_server.behave(later);
    app.purchase().await;
    app.work_until_idle().await;
    app.until("both were tried", async || {
        app.look_again().await;
        let mails = app.mails().await;
        mails
            .iter()
            .any(|mail| mail.attempts > 0 && mail.recipient == "owner@example.com")
    })
    .await;
    let mails = app.mails().await;
    assert_eq!(of(&mails, "owner@example.com").state, "waiting");
    app.mail_server.behave(Behaviour::Accept);
    app.finish().await;
    let mails = app.mails().await;
    assert!(mails.iter().all(|mail| mail.state == "sent"));
    assert!(of(&mails, "owner@example.com").attempts > 1);
    assert_eq!(app.mail_server.received().len(), CONTACTS.len());
}

#[tokio::test]
async fn after_a_lost_answer_the_same_message_goes_again() {
    let app = TestApp::open(polar()).await;
    app.purchase().await;
    app.mail_server.behave(Behaviour::LoseAnswer);
    app.work_until_idle().await;
    app.until("each mail was taken without an answer", async || {
        app.look_again().await;
        app.mails()
            .await
            .iter()
            .filter(|mail| mail.attempts > 0)
            .count()
            == CONTACTS.len()
    })
    .await;
    assert!(app.mails().await.iter().all(|mail| mail.state == "waiting"));
    app.mail_server.behave(Behaviour::Accept);
    app.finish().await;
    let (mails, received) = (app.mails().await, app.mail_server.received());
    for mail in &mails {
        assert_eq!(mail.state, "sent");
        let copies: Vec<_> = received
            .iter()
            .filter(|copy| copy.to == mail.recipient)
            .collect();
        assert!(copies.len() > 1);
        assert_eq!(copies.len(), usize::try_from(mail.attempts).unwrap());
        assert!(
            copies.iter().all(|copy| copy.bytes == copies[0].bytes),
            "byte by byte"
        );
    }
}

#[tokio::test]
async fn a_password_is_not_sent_in_the_clear() {
    let app = TestApp::open_with(polar(), Security::StartTls).await;
    app.purchase().await;
    app.work_until_idle().await;
    app.look_again().await;
    assert!(app.mail_server.connections() > 0);
    let commands = app.mail_server.commands();
    assert!(
        commands
            .iter()
            .all(|command| command.starts_with("EHLO") || command == "QUIT"),
        "{commands:?}"
    );
    let notes = app.notes().await;
    assert!(notes.iter().all(|(kind, note)| {
        kind == "send_email"
            && note
                .as_ref()
                .is_some_and(|note| note.contains("the mail server is not available"))
    }));
}

#[tokio::test]
async fn without_a_mail_server_mails_are_skipped_and_no_invoice_is_asked_for() {
    let app = TestApp::without_mail(polar()).await;
    app.purchase().await;
    app.finish().await;
    let mails = app.mails().await;
    let recipients: Vec<&str> = mails.iter().map(|mail| mail.recipient.as_str()).collect();
    assert_eq!(recipients, CONTACTS);
    assert!(mails.iter().all(
        |mail| mail.state == "skipped" && mail.error.as_deref() == Some("MAIL_URL is not set")
    ));
    assert!(app.requests("POST", "/invoice").is_empty());
}
