//! A real browser, driven through `chromedriver` in the words of `WebDriver`: what a page does with its policy, its modules and
//! calls to another origin is known to nobody else. Without a browser the tests that need one fail.

use std::io::Write;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::{Client, Method};
use serde_json::{Value, json};

use super::support::{Running, line_with};

/// The key under which `WebDriver` hands out elements.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A headless browser with one tab. It ends with its test.
pub(crate) struct Browser {
    http: Client,
    session: String,
    _profile: tempfile::TempDir,
    _driver: Running,
}

impl Browser {
    pub(crate) async fn start() -> Self {
        let driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut driver = Running::from(driver.expect(
            "chromedriver does not start: this test needs a browser (Debian: apt-get install chromium chromium-driver)",
        ));
        let started = line_with(
            driver.stdout.take().unwrap(),
            "started successfully on port",
        );
        let port: String = started.chars().filter(char::is_ascii_digit).collect();
        let _already = rustls::crypto::ring::default_provider().install_default();
        let http = Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .timeout(Duration::from_secs(60))
            .build()
            .unwrap();
        let profile = tempfile::tempdir().unwrap();
        let user_data = format!("--user-data-dir={}", profile.path().display());
        // Inside a container there is no sandbox to be had, and little shared memory.
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--no-proxy-server",
            &user_data,
        ];
        let mut browser = Self {
            http,
            session: format!("http://127.0.0.1:{port}/session"),
            _profile: profile,
            _driver: driver,
        };
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": arguments}, "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let made = browser.send(Method::POST, "", Some(wanted)).await;
        let made = made.expect("the browser starts");
        let id = made["sessionId"].as_str().unwrap();
        browser.session = format!("{}/{id}", browser.session);
        browser
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, Value> {
        let request = self.http.request(method, format!("{}{path}", self.session));
        let request = match &body {
            Some(body) => request.json(body),
            None => request,
        };
        let answer = request.send().await.unwrap();
        let ok = answer.status().is_success();
        let mut answer: Value = answer.json().await.unwrap();
        let value = answer["value"].take();
        if ok { Ok(value) } else { Err(value) }
    }

    pub(crate) async fn open(&self, url: &str) {
        let opened = self.send(Method::POST, "/url", Some(json!({"url": url})));
        opened.await.unwrap();
    }

    pub(crate) async fn address(&self) -> String {
        let address = self.send(Method::GET, "/url", None).await.unwrap();
        address.as_str().unwrap().to_owned()
    }

    /// The texts of all visible elements that match, top to bottom.
    pub(crate) async fn texts(&self, css: &str) -> Vec<String> {
        let script = "return [...document.querySelectorAll(arguments[0])]
            .filter((one) => one.checkVisibility()).map((one) => one.innerText.trim())";
        let texts = self.run(script, json!([css])).await;
        serde_json::from_value(texts).unwrap_or_default()
    }

    /// Waits until what matches shows `text`.
    pub(crate) async fn shows(&self, css: &str, text: &str) {
        let shown = async || {
            self.texts(css)
                .await
                .iter()
                .any(|shown| shown.contains(text))
        };
        if !comes_true(shown).await {
            let (page, console) = (self.texts("body").await, self.console().await);
            panic!("{css} does not show {text:?}; the page is {page:#?}, its console {console:#}");
        }
    }

    /// Clicks what matches as soon as it can be clicked, as a hand does: not while it is disabled or covered.
    pub(crate) async fn click(&self, css: &str) {
        if !comes_true(async || self.try_click(css).await).await {
            let page = self.texts("body").await;
            panic!("{css} cannot be clicked; the page is {page:#?}");
        }
    }

    async fn try_click(&self, css: &str) -> bool {
        let wanted = json!({"using": "css selector", "value": css});
        let Ok(found) = self.send(Method::POST, "/element", Some(wanted)).await else {
            return false;
        };
        let element = format!("/element/{}", found[ELEMENT].as_str().unwrap());
        let enabled = format!("{element}/enabled");
        if self.send(Method::GET, &enabled, None).await != Ok(json!(true)) {
            return false;
        }
        let click = format!("{element}/click");
        self.send(Method::POST, &click, Some(json!({})))
            .await
            .is_ok()
    }

    /// Runs a script in the page; null where the page is just being left.
    pub(crate) async fn run(&self, script: &str, arguments: Value) -> Value {
        let body = json!({"script": script, "args": arguments});
        let run = self.send(Method::POST, "/execute/sync", Some(body)).await;
        run.unwrap_or_default()
    }

    /// What the page complained of since this was asked last: policies that were violated, calls that were refused.
    pub(crate) async fn console(&self) -> Value {
        let wanted = json!({"type": "browser"});
        let log = self.send(Method::POST, "/se/log", Some(wanted)).await;
        log.unwrap_or_default()
    }
}

/// A driver that is killed would leave its browser running.
impl Drop for Browser {
    fn drop(&mut self) {
        let session = self.session.trim_start_matches("http://");
        if let Some((address, path)) = session.split_once('/') {
            let request =
                format!("DELETE /{path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
            let closed = TcpStream::connect(address).and_then(|mut stream| {
                stream.set_read_timeout(Some(crate::wait::DEADLINE))?;
                stream.write_all(request.as_bytes())?;
                std::io::read_to_string(stream)
            });
            // Where the browser has crashed there is nothing left to close.
            drop(closed);
        }
    }
}

/// Whether a condition comes to hold in time; the caller then knows more to say than that it did not.
async fn comes_true<F: Future<Output = bool>>(mut holds: impl FnMut() -> F) -> bool {
    let deadline = Instant::now() + crate::wait::DEADLINE;
    while Instant::now() < deadline {
        if holds().await {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}
