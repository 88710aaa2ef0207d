//! `polar-jobs mail …`

use chrono::{TimeDelta, Utc};
use clap::{Args, Subcommand, ValueEnum};
use jobs::mail::{Links, MailData, Money, Rendered, Template, render};

use super::output;
use super::{AppContext, Exit, Failure};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Print a mail as it would be sent, filled with an example
    Preview(Preview),
}

#[derive(Args)]
pub(super) struct Preview {
    #[arg(value_parser = template, help = format!("The mail: {}", names()))]
    template: Template,
    /// The part of it
    #[arg(long, value_enum, default_value_t)]
    part: Part,
    /// Language and region of the customer, such as en-GB: how amounts and dates are written
    #[arg(long)]
    locale: Option<String>,
    /// As it is sent while there is no invoice
    #[arg(long)]
    without_invoice: bool,
}

/// A part of a mail.
#[derive(Clone, Copy, Default, ValueEnum)]
pub(super) enum Part {
    /// For a browser
    Html,
    /// Subject and text, for a terminal
    #[default]
    Text,
}

fn template(name: &str) -> Result<Template, String> {
    Template::parse(name).ok_or_else(|| format!("the mails are {}", names()))
}

fn names() -> String {
    Template::ALL.map(Template::name).join(", ")
}

pub(super) fn run(command: Command, app: &AppContext) -> Result<Exit, Failure> {
    let Command::Preview(preview) = command;
    let links = Links {
        billing: app.config.app.url.as_ref().map(ToString::to_string),
    };
    let invoice = (!preview.without_invoice).then_some("SELF-0001");
    let Rendered {
        subject,
        html,
        text,
    } = render(preview.template, &example(preview.locale), invoice, &links)
        .map_err(anyhow::Error::from)?;
    match preview.part {
        Part::Html => output::line(&html)?,
        Part::Text => output::line(&format!("Subject: {subject}\n\n{text}"))?,
    }
    Ok(Exit::Done)
}

fn example(locale: Option<String>) -> MailData {
    let now = Utc::now();
    MailData {
        plan: "Pro".to_owned(),
        organization: "Acme".to_owned(),
        locale,
        amount: Some(Money {
            amount: 2175,
            currency: "usd".to_owned(),
        }),
        period_start: Some(now),
        period_end: Some(now + TimeDelta::days(30)),
        ends_at: Some(now + TimeDelta::days(30)),
        has_ended: false,
    }
}
