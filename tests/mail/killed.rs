//! A worker that is killed after the mail server took a mail and before that is written down.

use simulator::Product;

use crate::mail_server::Behaviour;
use crate::test_app::{CONTACTS, TestApp, polar};
use crate::worker_process::WorkerProcess;

#[tokio::test]
async fn a_kill_between_the_servers_acceptance_and_our_commit_repeats_the_same_message_once() {
    let app = TestApp::open(polar()).await;
    let acme = app.organization().await;
    app.mail_server.behave(Behaviour::KeepAnswer);
    let mail_url = format!("smtp://127.0.0.1:{}", app.mail_server.port());
    let first = WorkerProcess::start(&app, &mail_url, &[]);
    app.simulator.purchase(&acme, Product::Pro).await.unwrap();
    app.mail_server.receives(CONTACTS.len()).await;
    first.kill();
    assert!(
        app.mails()
            .await
            .iter()
            .all(|mail| mail.state == "waiting" && mail.attempts == 1)
    );
    app.mail_server.behave(Behaviour::Accept);
    let _second = WorkerProcess::start(&app, &mail_url, &[]);
    app.until("the mails are sent", async || {
        app.mails().await.iter().all(|mail| mail.state == "sent")
    })
    .await;
    let received = app.mail_server.received();
    for mail in app.mails().await {
        assert_eq!(mail.attempts, 2);
        let copies: Vec<_> = received
            .iter()
            .filter(|copy| copy.to == mail.recipient)
            .collect();
        assert_eq!(copies.len(), 2, "the one without an answer, and one more");
        assert_eq!(copies[0].bytes, copies[1].bytes);
        let id = mail.message_id.unwrap();
        assert_eq!(id.trim_matches(['<', '>']), copies[0].message_id());
    }
}
