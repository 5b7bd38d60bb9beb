//! `policy`: shows and sets how long keys may live, and what happens to unused keys.

use super::{client::Client, failure::Failure, output, table::aligned, values::seconds};
use axum::http::Method;
use clap::{ArgGroup, Args, Subcommand};
use serde::{Deserialize, Serialize};
use std::process::ExitCode;

#[derive(Subcommand)]
pub(crate) enum PolicyCommand {
    /// Show the policy.
    Show,
    /// Replace the whole policy: what is not given is not limited.
    Set(SetPolicy),
    /// Remove the policy: nothing is limited.
    Clear,
    /// Show the unused keys, and which of them are deactivated next.
    Unused,
}

/// A policy, as the API has it.
#[derive(Args, Default, Deserialize, Serialize)]
#[command(group = ArgGroup::new("limits").required(true).multiple(true))]
pub(crate) struct SetPolicy {
    /// The longest lifetime of keys without a scope of the Administration API, such as 365d; an expiry is then
    /// required.
    #[arg(long, value_name = "DURATION", value_parser = seconds, group = "limits")]
    #[serde(rename = "max_lifetime_seconds", skip_serializing_if = "Option::is_none")]
    max_lifetime: Option<u32>,
    /// The lifetime of such a key that is created without an expiry.
    #[arg(long, value_name = "DURATION", value_parser = seconds, group = "limits")]
    #[serde(rename = "default_lifetime_seconds", skip_serializing_if = "Option::is_none")]
    default_lifetime: Option<u32>,
    /// Require an expiry of such keys.
    #[arg(long, group = "limits")]
    #[serde(rename = "expiry_required")]
    require_expiry: bool,
    /// The longest lifetime of keys with a scope of the Administration API, except root keys.
    #[arg(long, value_name = "DURATION", value_parser = seconds, group = "limits")]
    #[serde(rename = "admin_max_lifetime_seconds", skip_serializing_if = "Option::is_none")]
    admin_max_lifetime: Option<u32>,
    /// The lifetime of such a key that is created without an expiry.
    #[arg(long, value_name = "DURATION", value_parser = seconds, group = "limits")]
    #[serde(rename = "admin_default_lifetime_seconds", skip_serializing_if = "Option::is_none")]
    admin_default_lifetime: Option<u32>,
    /// Require an expiry of such keys.
    #[arg(long, group = "limits")]
    #[serde(rename = "admin_expiry_required")]
    admin_require_expiry: bool,
    /// The time without a use after which an active key is unused, such as 90d; at least a day.
    #[arg(long, value_name = "DURATION", value_parser = seconds, group = "limits")]
    #[serde(rename = "unused_after_seconds", skip_serializing_if = "Option::is_none")]
    unused_after: Option<u32>,
    /// Deactivate unused keys: at most 1 % of the active keys a day, but at least one. See `policy unused`.
    #[arg(long, requires = "unused_after")]
    deactivate_unused: bool,
}

/// Shows the policy, or sets it and shows it.
pub(crate) async fn run(
    client: &mut Client,
    command: &PolicyCommand,
    json: bool,
) -> Result<ExitCode, Failure> {
    let none = SetPolicy::default();
    let new = match command {
        PolicyCommand::Show => None,
        PolicyCommand::Set(new) => Some(new),
        PolicyCommand::Clear => Some(&none),
        PolicyCommand::Unused => return unused(client, json).await,
    };
    let answer = match new {
        None => client.send(Method::GET, "/v1/policy", None).await?,
        Some(new) => {
            let body = serde_json::to_value(new).unwrap_or_default();
            client.send(Method::PUT, "/v1/policy", Some(&body)).await?
        }
    };
    if json {
        output::line(answer.bytes())?;
    } else {
        let policy: SetPolicy = answer.read()?;
        output::print(table(&policy).as_bytes())?;
    }
    let exceeding = exceeding(client).await?;
    if exceeding > 0 {
        let keys = output::keys(exceeding);
        output::say(&format!(
            "{keys} may be used longer than the policy allows: key list --active yes --exceeds-policy yes"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows the unused keys.
async fn unused(client: &mut Client, json: bool) -> Result<ExitCode, Failure> {
    #[derive(Deserialize)]
    struct Unused {
        total: u64,
        next: Vec<String>,
        blocked: Option<String>,
    }
    let answer = client.send(Method::GET, "/v1/policy/unused", None).await?;
    if json {
        output::line(answer.bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let Unused { total, next, blocked } = answer.read()?;
    for id in &next {
        output::line(id.as_bytes())?;
    }
    let (keys, are) = (output::keys(total), if total == 1 { "is" } else { "are" });
    output::say(&match blocked {
        Some(reason) => format!("{keys} {are} unused; none is deactivated now: {reason}"),
        None => format!("{keys} {are} unused; those listed are deactivated next"),
    });
    Ok(ExitCode::SUCCESS)
}

/// The number of active keys that exceed the policy.
async fn exceeding(client: &mut Client) -> Result<u64, Failure> {
    #[derive(Deserialize)]
    struct Page {
        total: u64,
    }
    let path = "/v1/keys?active=true&exceeds_policy=true&total=true&page_size=1";
    let page: Page = client.send(Method::GET, path, None).await?.read()?;
    Ok(page.total)
}

fn table(policy: &SetPolicy) -> String {
    let text = |text: &str| text.to_owned();
    let span = |span: Option<u32>| span.map_or_else(|| text("no limit"), duration);
    let default = |span: Option<u32>| span.map_or_else(|| text("none"), duration);
    let required = |max: Option<u32>, required: bool| {
        text(if required || max.is_some() { "yes" } else { "no" })
    };
    let rows = [
        [text(""), text("administrator keys"), text("other keys")],
        [text("longest lifetime"), span(policy.admin_max_lifetime), span(policy.max_lifetime)],
        [
            text("default lifetime"),
            default(policy.admin_default_lifetime),
            default(policy.default_lifetime),
        ],
        [
            text("expiry required"),
            required(policy.admin_max_lifetime, policy.admin_require_expiry),
            required(policy.max_lifetime, policy.require_expiry),
        ],
    ];
    let unused = match policy.unused_after {
        None => text("no key"),
        Some(after) if policy.deactivate_unused => {
            format!("deactivated after {}", duration(after))
        }
        Some(after) => format!("listed after {}", duration(after)),
    };
    let lifetimes = aligned(rows.iter(), None);
    format!("{lifetimes}{}", aligned([[text("unused keys"), unused]].iter(), None))
}

/// Formats seconds as an option takes them, in the largest unit that is exact.
fn duration(seconds: u32) -> String {
    let units = [(86_400, 'd'), (3600, 'h'), (60, 'm')];
    let unit = units.into_iter().find(|(unit, _)| seconds.is_multiple_of(*unit));
    let (unit, letter) = unit.unwrap_or((1, 's'));
    format!("{}{letter}", seconds / unit)
}
