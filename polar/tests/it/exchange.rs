//! How one call goes: what is sent with it, and what happens when no proper answer comes.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use polar::{
    Answer, BoxFuture, BuildError, CallClass, Client, ClientConfig, Error, Gate, Held, HeldReason,
    Interruption, OpenGate,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

use crate::support::{Recording, Server, TOKEN, answer, client};

/// A gate that writes down what it hears.
#[derive(Default)]
struct Listening {
    entered: Mutex<Vec<CallClass>>,
    left: Mutex<Vec<Answer>>,
    held: Mutex<Option<Held>>,
}

impl Gate for Listening {
    fn enter(&self, class: CallClass) -> BoxFuture<'_, Result<(), Held>> {
        let held = *self.held.lock().unwrap();
        if held.is_none() {
            self.entered.lock().unwrap().push(class);
        }
        Box::pin(async move { held.map_or(Ok(()), Err) })
    }

    fn left(&self, answer: Answer) {
        self.left.lock().unwrap().push(answer);
    }
}

impl Listening {
    fn left(&self) -> Vec<Answer> {
        self.left.lock().unwrap().clone()
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
    let gate = Arc::new(Listening::default());
    let error = ask(&server.client_with(Duration::from_millis(100), gate.clone())).await;
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
    assert_eq!(gate.left(), [Answer::Down]);
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
        Arc::new(OpenGate),
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
    let gate = Arc::new(Listening::default());
    let client = client(&url, Duration::from_secs(5), gate.clone());
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
    assert_eq!(gate.left(), [Answer::Down]);
}

#[tokio::test]
async fn a_connection_that_breaks_is_no_answer() {
    let url = raw(|mut stream| async move {
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"id\"")
            .await;
    })
    .await;
    let error = ask(&client(&url, Duration::from_secs(5), Arc::new(OpenGate))).await;
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
    let error = ask(&client(&url, Duration::from_secs(30), Arc::new(OpenGate))).await;
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
    let error = ask(&client(&url, Duration::from_secs(30), Arc::new(OpenGate))).await;
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
        let gate = Arc::new(Listening::default());
        let error = ask(&server.client_with(Duration::from_secs(5), gate.clone())).await;
        assert!(matches!(error, Error::Unreadable { .. }), "{error:?}");
        let shown = format!("{error} {error:?}");
        assert!(
            !shown.contains("secret") && !shown.contains("ann@"),
            "{shown}"
        );
        assert_eq!(gate.left(), [Answer::Answered]);
    }
}

#[tokio::test]
async fn the_gate_is_asked_with_the_class_and_told_what_came() {
    for (status, expected) in [
        (404, Answer::Answered),
        (422, Answer::Answered),
        (401, Answer::Unauthorized),
        (
            429,
            Answer::RateLimited {
                retry_after: Duration::from_secs(9),
            },
        ),
        (500, Answer::Down),
        (503, Answer::Down),
    ] {
        let server =
            Server::answering(move |_| async move { answer(status, &[("retry-after", "9")], "") })
                .await;
        let gate = Arc::new(Listening::default());
        let client = server.client_with(Duration::from_secs(5), gate.clone());
        ask(&client.with_class(CallClass::Bulk)).await;
        ask(&client).await;
        let entered = gate.entered.lock().unwrap().clone();
        assert_eq!(entered, [CallClass::Bulk, CallClass::Entitlement]);
        assert_eq!(gate.left(), [expected, expected], "{status}");
    }
}

#[tokio::test]
async fn a_held_call_is_not_made() {
    let server = Server::answering(|_| async { answer(500, &[], "") }).await;
    let gate = Arc::new(Listening::default());
    let held = Held {
        until: Duration::from_secs(3),
        reason: HeldReason::Breaker,
    };
    *gate.held.lock().unwrap() = Some(held);
    let error = ask(&server.client_with(Duration::from_secs(5), gate.clone())).await;
    assert!(matches!(error, Error::Held(h) if h == held));
    assert!(server.seen().is_empty() && gate.left().is_empty());
}

#[tokio::test]
async fn a_dropped_call_is_told_to_the_gate() {
    let arrived = Arc::new(Notify::new());
    let signal = Arc::clone(&arrived);
    let server = Server::answering(move |_| {
        signal.notify_one();
        std::future::pending()
    })
    .await;
    let gate = Arc::new(Listening::default());
    let client = server.client_with(Duration::from_secs(30), gate.clone());
    tokio::select! {
        _ = client.customers().get_by_external_id("o") => panic!("nobody answers"),
        () = arrived.notified() => {}
    }
    assert_eq!(gate.left(), [Answer::Abandoned]);
}

#[tokio::test]
async fn an_id_that_no_address_can_hold_is_not_sent() {
    let server = Server::answering(|_| async { answer(200, &[], "{}") }).await;
    let gate = Arc::new(Listening::default());
    let client = server.client_with(Duration::from_secs(5), gate.clone());
    for id in ["", ".", ".."] {
        let error = client.customers().get_by_external_id(id).await.unwrap_err();
        assert!(matches!(error, Error::Unaddressable { .. }), "{id:?}");
    }
    assert!(server.seen().is_empty() && gate.entered.lock().unwrap().is_empty());
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
    let build = |config: ClientConfig| Client::new(config, Arc::new(OpenGate));
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
