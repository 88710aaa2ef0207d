//! Where Polar sends a person back to: to the application alone, so that no link can send them through a checkout to
//! the page of somebody else.

use reqwest::Url;

/// The addresses that people may be sent back to.
pub(super) struct ReturnUrls {
    app: Option<Url>,
    origins: Vec<String>,
}

impl ReturnUrls {
    pub(super) fn new(app: Option<Url>, origins: Vec<String>) -> Self {
        Self { app, origins }
    }

    /// Returns the address to pass on to Polar: the one asked for where it is the application's, a bare path behind the
    /// application's address, and that address alone for anything else. `None` where nothing was asked for, or
    /// the application's address is not configured.
    pub(super) fn checked(&self, asked: Option<&str>) -> Option<String> {
        let (asked, app) = (asked?, self.app.as_ref()?);
        Some(allowed(asked, app).unwrap_or_else(|| app.as_str().to_owned()))
    }

    /// Returns the origin of a page that shows a checkout in a frame, if it is one of the application's.
    pub(super) fn embedding(&self, asked: Option<&str>) -> Option<String> {
        let asked = asked?;
        let known = self.origins.iter().any(|origin| origin == asked);
        known.then(|| asked.to_owned())
    }
}

fn allowed(asked: &str, app: &Url) -> Option<String> {
    // Browsers drop control characters and read a backslash as a slash, so such a text may mean
    // another host to them than to us.
    if asked.contains(|c: char| c.is_control() || c.is_whitespace() || c == '\\') {
        return None;
    }
    if asked.starts_with('/') && !asked.starts_with("//") {
        let base = app.as_str().trim_end_matches('/');
        return Url::parse(&format!("{base}{asked}"))
            .ok()
            .map(|_| format!("{base}{asked}"));
    }
    let url = Url::parse(asked).ok()?;
    let local = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    let scheme = url.scheme() == "https" || (url.scheme() == "http" && local);
    let host = url.host() == app.host() && port(&url) == port(app);
    let plain = url.username().is_empty() && url.password().is_none();
    (scheme && host && plain).then(|| asked.to_owned())
}

fn port(url: &Url) -> Option<u16> {
    url.port_or_known_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn nobody_is_sent_away_from_the_application() {
        let urls = ReturnUrls::new(
            Some(Url::parse("https://app.example.com/base").unwrap()),
            vec!["https://app.example.com".to_owned()],
        );
        for (asked, passed) in [
            (
                "https://app.example.com/x?y=1",
                "https://app.example.com/x?y=1",
            ),
            (
                "https://app.example.com:443/",
                "https://app.example.com:443/",
            ),
            ("/billing?ok=1", "https://app.example.com/base/billing?ok=1"),
            ("http://app.example.com/x", "https://app.example.com/base"),
            (
                "https://app.example.com:8443/x",
                "https://app.example.com/base",
            ),
            ("https://evil.example/x", "https://app.example.com/base"),
            (
                "https://app.example.com.evil.example",
                "https://app.example.com/base",
            ),
            (
                "https://app.example.com@evil.example/",
                "https://app.example.com/base",
            ),
            (
                "https://u:p@app.example.com/",
                "https://app.example.com/base",
            ),
            ("//evil.example/x", "https://app.example.com/base"),
            ("/\\evil.example", "https://app.example.com/base"),
            ("/\t/evil.example", "https://app.example.com/base"),
            ("javascript:alert(1)", "https://app.example.com/base"),
            ("billing", "https://app.example.com/base"),
            ("", "https://app.example.com/base"),
        ] {
            assert_eq!(
                urls.checked(Some(asked)).as_deref(),
                Some(passed),
                "{asked}"
            );
        }
        assert_eq!(urls.checked(None), None);
        let nowhere = ReturnUrls::new(None, Vec::new());
        assert_eq!(nowhere.checked(Some("https://app.example.com")), None);
        let local = ReturnUrls::new(
            Some(Url::parse("http://localhost:3000").unwrap()),
            Vec::new(),
        );
        assert_eq!(
            local.checked(Some("http://localhost:3000/a")).as_deref(),
            Some("http://localhost:3000/a")
        );
        let known = Some("https://app.example.com");
        assert_eq!(urls.embedding(known).as_deref(), known);
        assert_eq!(urls.embedding(Some("https://evil.example")), None);
    }
}
