//! The texts, compared to the last byte with files: whoever changes one sees what people will read. After a
//! change `UPDATE_SNAPSHOTS=1 cargo test --test mail snapshots` writes them anew.

use std::path::Path;

use chrono::{DateTime, Utc};
use jobs::mail::{Links, MailData, Money, Template, render};

fn at(text: &str) -> Option<DateTime<Utc>> {
    Some(text.parse().unwrap())
}

fn data() -> MailData {
    MailData {
        plan: "Pro".to_owned(),
        organization: "Acme".to_owned(),
        locale: None,
        amount: Some(Money {
            amount: 2175,
            currency: "usd".to_owned(),
        }),
        period_start: at("2026-11-21T09:00:00Z"),
        period_end: at("2026-12-21T09:00:00Z"),
        ends_at: at("2026-12-21T09:00:00Z"),
        has_ended: false,
    }
}

/// Compares, or writes.
fn compare(name: &str, template: Template, data: &MailData, invoice: Option<&str>) {
    let links = Links {
        billing: Some("https://app.example.com/billing".to_owned()),
    };
    let mail = render(template, data, invoice, &links).unwrap();
    let text = format!("Subject: {}\n\n{}\n", mail.subject, mail.text);
    for (ending, found) in [("txt", text), ("html", format!("{}\n", mail.html))] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/mail/snapshots")
            .join(format!("{name}.{ending}"));
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            std::fs::write(&path, &found).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(kept, found, "{}", path.display());
    }
}

#[test]
fn every_mail_reads_as_its_snapshot() {
    for template in Template::ALL {
        let invoice = matches!(
            template,
            Template::SubscriptionConfirmation | Template::SubscriptionCycled
        );
        compare(
            template.name(),
            template,
            &data(),
            invoice.then_some("SELF-0001"),
        );
    }
}

#[test]
fn mails_without_an_invoice_or_a_date_say_neither() {
    let bare = MailData {
        ends_at: None,
        ..data()
    };
    let confirmation = Template::SubscriptionConfirmation;
    compare("confirmation_without_invoice", confirmation, &bare, None);
    compare(
        "cancellation_without_date",
        Template::SubscriptionCancellation,
        &bare,
        None,
    );
    let ended = MailData {
        has_ended: true,
        ..data()
    };
    compare(
        "cancellation_that_has_ended",
        Template::SubscriptionCancellation,
        &ended,
        None,
    );
}

#[test]
fn amounts_and_days_are_written_as_the_customer_writes_them() {
    let german = MailData {
        locale: Some("de-DE".to_owned()),
        amount: Some(Money {
            amount: 123_450,
            currency: "eur".to_owned(),
        }),
        ..data()
    };
    compare(
        "renewal_in_germany",
        Template::SubscriptionCycled,
        &german,
        Some("SELF-0002"),
    );
    let kuwaiti = MailData {
        locale: Some("en-GB".to_owned()),
        amount: Some(Money {
            amount: 21_750,
            currency: "kwd".to_owned(),
        }),
        ..data()
    };
    compare(
        "renewal_in_dinars",
        Template::SubscriptionCycled,
        &kuwaiti,
        None,
    );
    let japanese = MailData {
        locale: Some("ja-JP".to_owned()),
        amount: Some(Money {
            amount: 2175,
            currency: "jpy".to_owned(),
        }),
        ..data()
    };
    compare(
        "renewal_in_yen",
        Template::SubscriptionCycled,
        &japanese,
        None,
    );
}

#[test]
fn what_people_typed_is_neither_markup_nor_a_header_nor_a_template() {
    let typed = MailData {
        organization:
            "<script>alert(1)</script>\r\nBcc: everybody@example.com\n\nNew paragraph {{ plan }}"
                .to_owned(),
        plan: "\"Pro\" & <b>more</b>\nsubject: Another".to_owned(),
        ..data()
    };
    for template in Template::ALL {
        let mail = render(template, &typed, Some("<i>1</i>"), &Links::default()).unwrap();
        assert!(
            !mail.html.contains("<script>") && !mail.html.contains("<b>"),
            "{template}"
        );
        assert!(!mail.html.contains("<i>1"), "{template}");
        assert!(!mail.subject.contains(['\r', '\n']), "{template}");
        assert!(mail.text.contains("New paragraph {{ plan }}"), "{template}");
    }
}
