//! Fills a template. Each text is written once, as plain paragraphs: the layouts make HTML and text of them,
//! so the two never differ, and nothing that an organization is called becomes markup or a header.

use std::sync::LazyLock;

use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, context};

use super::format::{self, Locale};
use super::{MailData, Template};

/// Where a mail leads.
#[derive(Clone, Debug, Default)]
pub struct Links {
    /// The application's billing settings; without it the mail has no button.
    pub billing: Option<String>,
}

/// A mail's text, filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// One line.
    pub subject: String,
    /// For most people.
    pub html: String,
    /// For those who prefer it.
    pub text: String,
}

/// The parts of a filled template.
struct Parts<'a> {
    subject: &'a str,
    preview: &'a str,
    heading: &'a str,
    action: &'a str,
    paragraphs: Vec<String>,
}

const HTML: &str = "layout.html";
const TEXT: &str = "layout.txt";

static LAYOUTS: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut layouts = Environment::new();
    layouts.set_undefined_behavior(UndefinedBehavior::Strict);
    layouts.set_auto_escape_callback(|name| match name {
        HTML => AutoEscape::Html,
        _ => AutoEscape::None,
    });
    for template in Template::ALL {
        layouts
            .add_template(template.name(), template.source())
            .expect("the templates are part of the program, and tests fill each");
    }
    for (name, source) in [
        (HTML, include_str!("templates/layout.html.jinja")),
        (TEXT, include_str!("templates/layout.txt.jinja")),
    ] {
        layouts
            .add_template(name, source)
            .expect("the layouts are part of the program, and tests fill both");
    }
    layouts
});

/// Fills a template; `invoice` is the number of the attached invoice.
///
/// # Errors
/// If a template asks for something that there is not, which is a mistake in the template.
pub fn render(
    template: Template,
    data: &MailData,
    invoice: Option<&str>,
    links: &Links,
) -> Result<Rendered, minijinja::Error> {
    let locale = Locale::parse(data.locale.as_deref());
    let day = |at: Option<_>| at.map(|at| format::day(at, locale));
    let organization = one_line(&data.organization);
    let values = context! {
        plan => one_line(&data.plan),
        organization => organization.clone(),
        invoice => invoice.map(one_line),
        ends_at => day(data.ends_at),
        has_ended => data.has_ended,
    };
    let filled = LAYOUTS.get_template(template.name())?.render(values)?;
    let parts = Parts::of(&filled);
    let action = links
        .billing
        .as_ref()
        .map(|url| context! { label => parts.action, url => url });
    let values = context! {
        subject => parts.subject,
        preview => parts.preview,
        heading => parts.heading,
        paragraphs => parts.paragraphs,
        rows => rows(template, data, invoice, locale),
        action => action,
        organization => organization,
    };
    Ok(Rendered {
        subject: parts.subject.to_owned(),
        html: LAYOUTS.get_template(HTML)?.render(&values)?,
        text: LAYOUTS.get_template(TEXT)?.render(&values)?,
    })
}

/// What people look up in such a mail.
fn rows(
    template: Template,
    data: &MailData,
    invoice: Option<&str>,
    locale: Locale<'_>,
) -> Vec<Value> {
    let row = |label, value: Option<String>| value.map(|value| context! { label, value });
    let day = |at: Option<_>| at.map(|at| format::day(at, locale));
    let amount = data
        .amount
        .as_ref()
        .map(|amount| format::money(amount, locale));
    let plan = || row("Plan", Some(one_line(&data.plan)));
    let all = match template {
        Template::SubscriptionConfirmation | Template::SubscriptionCycled => vec![
            plan(),
            row("Amount charged", amount),
            row("Invoice", invoice.map(one_line)),
            row("Next renewal", day(data.period_end)),
        ],
        Template::SubscriptionPastDue => vec![plan(), row("Price", amount)],
        Template::SubscriptionCancellation if data.has_ended => {
            vec![plan(), row("Ended on", day(data.ends_at))]
        }
        Template::SubscriptionCancellation => vec![plan(), row("Access until", day(data.ends_at))],
        Template::SubscriptionRevoked => vec![plan(), row("Ended on", day(data.ends_at))],
        Template::StartupWelcome => Vec::new(),
    };
    all.into_iter().flatten().collect()
}

impl<'a> Parts<'a> {
    /// Lines `name: value`, then paragraphs between empty lines.
    fn of(filled: &'a str) -> Self {
        let (head, body) = filled.split_once("\n\n").unwrap_or((filled, ""));
        let value = |name: &str| {
            head.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
                .unwrap_or_default()
        };
        let paragraphs = body
            .split("\n\n")
            .map(|text| text.trim().replace('\n', " "));
        Self {
            subject: value("subject"),
            preview: value("preview"),
            heading: value("heading"),
            action: value("action"),
            paragraphs: paragraphs.filter(|text| !text.is_empty()).collect(),
        }
    }
}

/// Names hold what people typed: a line break in one must not begin a header or a paragraph.
fn one_line(text: &str) -> String {
    let visible = text.replace(char::is_control, " ");
    visible.split_whitespace().collect::<Vec<_>>().join(" ")
}
