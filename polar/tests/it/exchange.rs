//! How one call goes: what is sent with it, and what happens when no proper answer comes.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use polar::{
    Admission, Answer, BoxFuture, BuildError, CallClass, CallFacts, Client, ClientConfig, Error,
    Interruption, RateLimiter, Rejected, RejectedReason, Subject, Unlimited,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

use crate::support::{Recording, Server, TOKEN, answer, client};

/// A limiter that writes down what it hears.
#[derive(Default)]
struct Listening {
    asked: Mutex<Vec<CallFacts>>,
    recorded: Mutex<Vec<(Admission, Answer)>>,
    rejects: Mutex<Option<Rejected>>,
    /// Probes that it still asks for.
    probes: Mutex<u32>,
}

impl RateLimiter for Listening {
    fn acquire(&self, call: CallFacts) -> BoxFuture<'_, Result<Admission, Rejected>> {
        self.asked.lock().unwrap().push(call);
        let mut probes = self.probes.lock().unwrap();
        let admission = if *probes == 0 {
            Admission::Call
        } else {
            *probes -= 1;
            Admission::Probe
        };
        let rejected = *self.rejects.lock().unwrap();
        Box::pin(async move { rejected.map_or(Ok(admission), Err) })
    }

    fn record(&self, _: CallFacts, admission: Admission, answer: Answer) {
        self.recorded.lock().unwrap().push((admission, answer));
    }
}

impl Listening {
    fn answers(&self) -> Vec<Answer> {
        let recorded = self.recorded.lock().unwrap();
        recorded.iter().map(|(_, answer)| *answer).collect()
    }
}

/// A server below HTTP: `serve` gets each connection after its request's first bytes.
async fn raw<F, S>(serve: F) -> String
where
    F: Fn(TcpStream) -> S + Send + 'static,
    S: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            tokio::spawn(serve(stream));
        }
    });
    url
}

async fn ask(client: &Client) -> Error {
    client
        .customers()
        .get_by_external_id("o")
        .await
        .unwrap_err()
}

#[tokio::test]
async fn each_call_carries_token_version_and_agent() {
    let server = Server::replaying(&Recording::named("customers-get-external")).await;
    server
        .client()
        .customers()
        .get_by_external_id("o")
        .await
        .unwrap();
    let headers = server.only_request().headers;
    assert_eq!(headers["authorization"], format!("Bearer {TOKEN}"));
    assert_eq!(headers["polar-version"], "2026-04");
    assert_eq!(headers["user-agent"], "polar-jobs/test");
    assert!(!headers.contains_key("content-type"), "there is no body");
}

#[tokio::test]
async fn a_redirect_is_an_error_and_is_not_followed() {
    let elsewhere = Server::answering(|_| async { answer(200, &[], "{}") }).await;
    let target = elsewhere.url.clone();
    let server = Server::answering(move |_| {
        let response = answer(307, &[("location", &target)], "");
        async move { response }
    })
    .await;
    let error = ask(&server.client()).await;
    assert!(
        matches!(error, Error::Unexpected { status: 307, .. }),
        "{error:?}"
    );
    assert!(elsewhere.seen().is_empty());
    let recorded = Server::replaying(&Recording::named("slash-list-without")).await;
    assert!(matches!(
        ask(&recorded.client()).await,
        Error::Unexpected { status: 307, .. }
    ));
    assert_eq!(recorded.seen().len(), 1);
}

#[tokio::test]
async fn a_call_is_made_once_whatever_comes_of_it() {
    let server = Server::answering(|_| async { answer(503, &[], "") }).await;
    ask(&server.client()).await;
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_a_timeout() {
    let server = Server::answering(|_| std::future::pending()).await;
    let limiter = Arc::new(Listening::default());
    let error = ask(&server.client_with(Duration::from_millis(100), limiter.clone())).await;
    assert!(
        matches!(
            error,
            Error::Unreachable {
                cause: Interruption::Timeout,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(limiter.answers(), [Answer::Down { subject: None }]);
}

#[tokio::test]
async fn an_answer_that_stalls_half_way_is_a_timeout() {
    let url = raw(|mut stream| async move {
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"id\"")
            .await;
        std::future::pending::<()>().await;
    })
    .await;
    let error = ask(&client(
        &url,
        Duration::from_millis(200),
        Arc::new(Unlimited),
    ))
    .await;
    assert!(
        matches!(
            error,
            Error::Unreachable {
                cause: Interruption::Timeout,
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_refused_connection_says_so_without_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let limiter = Arc::new(Listening::default());
    let client = client(&url, Duration::from_secs(5), limiter.clone());
    let error = client
        .customers()
        .get_by_external_id("org-secret")
        .await
        .unwrap_err();
    assert!(matches!(
        error,
        Error::Unreachable {
            cause: Interruption::Connection,
            ..
        }
    ));
    let shown = error.to_string();
    assert!(
        shown.contains("refused") && !shown.contains("org-secret"),
        "{shown}"
    );
    assert_eq!(limiter.answers(), [Answer::Down { subject: None }]);
}

#[tokio::test]
async fn a_connection_that_breaks_is_no_answer() {
    let url = raw(|mut stream| async move {
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"id\"")
            .await;
    })
    .await;
    let error = ask(&client(&url, Duration::from_secs(5), Arc::new(Unlimited))).await;
    assert!(
        matches!(
            error,
            Error::Unreachable {
                cause: Interruption::Broken,
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_endless_answer_is_given_up() {
    let url = raw(|mut stream| async move {
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
            .await;
        while stream.write_all(&[b' '; 65536]).await.is_ok() {}
    })
    .await;
    let error = ask(&client(&url, Duration::from_secs(30), Arc::new(Unlimited))).await;
    assert!(matches!(&error, Error::Unreadable { reason, .. } if reason.contains("larger")));
}

#[tokio::test]
async fn an_answer_announced_too_large_is_not_read() {
    let url = raw(|mut stream| async move {
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 16777217\r\n\r\n")
            .await;
        std::future::pending::<()>().await;
    })
    .await;
    let error = ask(&client(&url, Duration::from_secs(30), Arc::new(Unlimited))).await;
    assert!(matches!(&error, Error::Unreadable { reason, .. } if reason.contains("larger")));
}

#[tokio::test]
async fn a_success_that_cannot_be_read_shows_no_content() {
    for body in [
        "",
        "<html>",
        r#"{"id": "secret-value"}"#,
        r#"{"email": "ann@example.com""#,
    ] {
        let server = Server::answering(move |_| async move { answer(200, &[], body) }).await;
        let limiter = Arc::new(Listening::default());
        let error = ask(&server.client_with(Duration::from_secs(5), limiter.clone())).await;
        assert!(matches!(error, Error::Unreadable { .. }), "{error:?}");
        let shown = format!("{error} {error:?}");
        assert!(
            !shown.contains("secret") && !shown.contains("ann@"),
            "{shown}"
        );
        assert_eq!(limiter.answers(), [Answer::Answered]);
    }
}

#[tokio::test]
async fn the_limiter_is_asked_with_class_and_scope_and_told_what_came() {
    let somebody = Answer::Down {
        subject: Some(Subject::of("o")),
    };
    let nobody = Answer::Down { subject: None };
    let waits = Answer::RateLimited {
        retry_after: Duration::from_secs(9),
    };
    for (recording, about_somebody, about_nobody) in [
        (
            "customers-get-external-404",
            Answer::Answered,
            Answer::Answered,
        ),
        (
            "auth-missing-scope",
            Answer::MissingScope,
            Answer::MissingScope,
        ),
        ("auth-bad-token", Answer::Unauthorized, Answer::Unauthorized),
        ("version-unknown", somebody, nobody),
        ("429", waits, waits),
        ("500", somebody, nobody),
        ("408", somebody, nobody),
    ] {
        let server = match recording.parse() {
            Ok(status) => {
                let headers = &[("retry-after", "9")];
                Server::answering(move |_| async move { answer(status, headers, "") }).await
            }
            Err(_) => Server::replaying(&Recording::named(recording)).await,
        };
        let limiter = Arc::new(Listening::default());
        let client = server.client_with(Duration::from_secs(5), limiter.clone());
        ask(&client.with_class(CallClass::Bulk).with_subject("o")).await;
        ask(&client).await;
        let asked = limiter.asked.lock().unwrap().clone();
        let facts = |class| CallFacts {
            class,
            scope: Some("customers:read"),
        };
        assert_eq!(
            asked,
            [facts(CallClass::Bulk), facts(CallClass::Entitlement)]
        );
        assert_eq!(
            limiter.answers(),
            [about_somebody, about_nobody],
            "{recording}"
        );
    }
}

/// A call may fail for reasons of its own, so whether Polar is up is asked about nobody.
#[tokio::test]
async fn a_probe_is_a_harmless_call_about_nobody_before_the_call_itself() {
    let server = Server::answering(|_| async { answer(500, &[], "") }).await;
    let limiter = Arc::new(Listening::default());
    *limiter.probes.lock().unwrap() = 1;
    let client = server.client_with(Duration::from_secs(5), limiter.clone());
    ask(&client.with_subject("o")).await;
    let paths: Vec<String> = server.seen().into_iter().map(|seen| seen.path).collect();
    assert_eq!(paths, ["/v1/products/?limit=1", "/v1/customers/external/o"]);
    let subject = Some(Subject::of("o"));
    assert_eq!(
        *limiter.recorded.lock().unwrap(),
        [
            (Admission::Probe, Answer::Down { subject: None }),
            (Admission::Call, Answer::Down { subject }),
        ]
    );
}

#[tokio::test]
async fn a_rejected_call_is_not_made() {
    let server = Server::answering(|_| async { answer(500, &[], "") }).await;
    let limiter = Arc::new(Listening::default());
    let rejected = Rejected {
        retry_after: Duration::from_secs(3),
        reason: RejectedReason::Breaker,
    };
    *limiter.rejects.lock().unwrap() = Some(rejected);
    let error = ask(&server.client_with(Duration::from_secs(5), limiter.clone())).await;
    assert!(matches!(error, Error::Rejected(r) if r == rejected));
    assert!(server.seen().is_empty() && limiter.answers().is_empty());
}

/// A success without a body is believed only with Polar's header: a captive portal says 200 as well.
#[tokio::test]
async fn a_deletion_is_confirmed_by_polar_alone() {
    for (headers, believed) in [(&[][..], false), (&[("polar-version", "2026-04")], true)] {
        let server = Server::answering(move |_| async move { answer(200, headers, "") }).await;
        let deleted = server.client().members().delete("o", "m").await;
        assert_eq!(deleted.is_ok(), believed);
    }
}

#[tokio::test]
async fn a_dropped_call_is_told_to_the_limiter() {
    let arrived = Arc::new(Notify::new());
    let signal = Arc::clone(&arrived);
    let server = Server::answering(move |_| {
        signal.notify_one();
        std::future::pending()
    })
    .await;
    let limiter = Arc::new(Listening::default());
    let client = server.client_with(Duration::from_secs(30), limiter.clone());
    tokio::select! {
        _ = client.customers().get_by_external_id("o") => panic!("nobody answers"),
        () = arrived.notified() => {}
    }
    assert_eq!(limiter.answers(), [Answer::Abandoned]);
}

#[tokio::test]
async fn an_id_that_no_address_can_hold_is_not_sent() {
    let server = Server::answering(|_| async { answer(200, &[], "{}") }).await;
    let limiter = Arc::new(Listening::default());
    let client = server.client_with(Duration::from_secs(5), limiter.clone());
    for id in ["", ".", ".."] {
        let error = client.customers().get_by_external_id(id).await.unwrap_err();
        assert!(matches!(error, Error::Unaddressable { .. }), "{id:?}");
    }
    assert!(server.seen().is_empty() && limiter.asked.lock().unwrap().is_empty());
}

#[test]
fn a_configuration_that_cannot_work_is_refused_without_its_secret() {
    let good = ClientConfig {
        base_url: "https://api.polar.sh".to_owned(),
        access_token: TOKEN.into(),
        version: "2026-04".to_owned(),
        timeout: Duration::from_secs(5),
        user_agent: "polar-jobs".to_owned(),
    };
    let build = |config: ClientConfig| Client::new(config, Arc::new(Unlimited));
    for base_url in [
        "",
        "api.polar.sh",
        "ftp://api.polar.sh",
        "mailto:a@b.c",
        "https://h/?a=b",
    ] {
        let config = ClientConfig {
            base_url: base_url.to_owned(),
            ..good.clone()
        };
        assert!(
            matches!(build(config), Err(BuildError::BaseUrl)),
            "{base_url:?}"
        );
    }
    for token in ["", "line\nbreak"] {
        let config = ClientConfig {
            access_token: token.into(),
            ..good.clone()
        };
        assert!(
            matches!(build(config), Err(BuildError::AccessToken)),
            "{token:?}"
        );
    }
    let config = ClientConfig {
        version: "2026\n04".to_owned(),
        ..good.clone()
    };
    assert!(matches!(build(config), Err(BuildError::Version(_))));
    assert!(!format!("{good:?}").contains(TOKEN));
}
