//! Real handshakes: from the first byte and by STARTTLS, with certificates that are to be trusted and others.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use simulator::Product;
use tokio_rustls::TlsAcceptor;

use crate::mail_server::{Encryption, MailServer};
use crate::test_app::{CONTACTS, MailRow, TestApp, polar};
use crate::worker_process::WorkerProcess;

/// Who signs certificates, and the file by which a process trusts it.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
    _directory: tempfile::TempDir,
}

impl Authority {
    fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("authority.pem");
        std::fs::write(&file, certificate.pem()).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            file,
            _directory: directory,
        }
    }

    /// What a server of this name needs; `expired`: its certificate was good once.
    fn acceptor(&self, name: &str, expired: bool) -> TlsAcceptor {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        if expired {
            params.not_after = date_time_ymd(2001, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key);
        TlsAcceptor::from(Arc::new(config.unwrap()))
    }
}

/// A purchase whose mails a worker of its own sends to this server, trusting this authority alone.
async fn purchase(
    app: &mut TestApp,
    scheme: &str,
    encryption: Encryption,
    trusted: &Authority,
) -> WorkerProcess {
    app.mail_server = MailServer::start_with(encryption).await;
    let acme = app.organization().await;
    let mail_url = format!("{scheme}://me:secret@localhost:{}", app.mail_server.port());
    let file = trusted.file.to_str().unwrap();
    let worker = WorkerProcess::start(app, &mail_url, &[("SSL_CERT_FILE", file)]);
    app.simulator.purchase(&acme, Product::Pro).await.unwrap();
    worker
}

#[tokio::test]
async fn the_log_in_and_the_mail_are_said_behind_the_encryption() {
    let mut app = TestApp::without_mail(polar()).await;
    let authority = Authority::named("ours");
    let acceptor = authority.acceptor("localhost", false);
    let servers = [
        ("smtps", Encryption::FromTheStart(acceptor.clone()), &[][..]),
        (
            "smtp",
            Encryption::StartTls(acceptor),
            &["EHLO", "STARTTLS"],
        ),
    ];
    for (round, (scheme, encryption, in_the_clear)) in servers.into_iter().enumerate() {
        let worker = purchase(&mut app, scheme, encryption, &authority).await;
        app.until("the mails are sent", async || {
            let mails = app.mails().await;
            mails.len() == CONTACTS.len() * (round + 1)
                && mails.iter().all(|mail| mail.state == "sent")
        })
        .await;
        worker.kill();
        assert_eq!(app.mail_server.received().len(), CONTACTS.len());
        for command in app.mail_server.commands() {
            let word = command.split(' ').next().unwrap();
            assert!(in_the_clear.contains(&word), "{scheme}: {command}");
        }
        let encrypted = app.mail_server.encrypted_commands();
        assert!(encrypted.iter().any(|command| command.starts_with("AUTH")));
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_to_be_trusted_is_refused_with_its_fault_and_nothing_is_said() {
    let (authority, other) = (Authority::named("ours"), Authority::named("another"));
    let from_the_start = |acceptor| ("smtps", Encryption::FromTheStart(acceptor));
    let by_starttls = |acceptor| ("smtp", Encryption::StartTls(acceptor));
    let servers = [
        (
            from_the_start(other.acceptor("localhost", false)),
            "UnknownIssuer",
        ),
        (
            by_starttls(authority.acceptor("other.example", false)),
            "not valid for name",
        ),
        (
            from_the_start(authority.acceptor("localhost", true)),
            "expired",
        ),
    ];
    for ((scheme, encryption), fault) in servers {
        let mut app = TestApp::without_mail(polar()).await;
        let worker = purchase(&mut app, scheme, encryption, &authority).await;
        app.until("the mails wait for another certificate", async || {
            let notes = app.notes().await;
            let of_mails = notes.iter().filter(|(kind, _)| kind == "send_email");
            let told = of_mails.filter(|(_, note)| {
                let note = note.as_deref().unwrap_or_default();
                note.contains("the mail server is not available: its certificate is not trusted (")
                    && note.contains(fault)
            });
            told.count() == CONTACTS.len()
        })
        .await;
        worker.kill();
        let mails = app.mails().await;
        assert!(mails.iter().all(MailRow::waits_untried));
        assert_eq!(app.mail_server.encrypted_commands(), Vec::<String>::new());
        let said = app.mail_server.commands();
        let greeting = |command: &String| command.starts_with("EHLO") || command == "STARTTLS";
        assert!(said.iter().all(greeting), "{said:?}");
    }
}
