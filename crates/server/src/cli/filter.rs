//! The filters of commands for several keys.

use super::{
    failure::Failure,
    values::{YesNo, moment, seconds},
};
use clap::Args;
use serde_json::{Map, Value};
use std::{io::Read, time::Duration};

/// Far more than the longest name or key.
const MAX_TEXT_BYTES: u64 = 4096;

/// Which keys a command selects. Without a filter it selects all.
#[derive(Args, Default)]
#[command(next_help_heading = "Filters")]
pub(crate) struct Filter {
    /// Only active, or only inactive keys.
    #[arg(long, value_name = "YES|NO")]
    pub(crate) active: Option<YesNo>,
    /// Only keys that expired, or only the others.
    #[arg(long, value_name = "YES|NO")]
    pub(crate) expired: Option<YesNo>,
    /// Only keys that another key replaced, or only the others.
    #[arg(long, value_name = "YES|NO")]
    pub(crate) replaced: Option<YesNo>,
    /// Only keys of other systems, or only the others.
    #[arg(long, value_name = "YES|NO")]
    pub(crate) imported: Option<YesNo>,
    /// Only keys that live longer than the policy lets a key that is created now, or only the others.
    #[arg(long, value_name = "YES|NO")]
    pub(crate) exceeds_policy: Option<YesNo>,
    /// Only keys that were used, or only those that never were.
    #[arg(long, value_name = "YES|NO")]
    pub(crate) used: Option<YesNo>,
    /// Only keys that were not used for this long and are older, such as 90d.
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    pub(crate) unused_for: Option<u32>,
    /// Only active keys that expire within this time, such as 30d, and were not replaced.
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    pub(crate) expiring_within: Option<u32>,
    /// Only keys that were created at this time or later, such as 2030-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) created_from: Option<String>,
    /// Only keys that were created before this time.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) created_until: Option<String>,
    /// Only keys that this actor created: the id of a key, local:UID or host.
    #[arg(long, value_name = "ACTOR")]
    pub(crate) created_by: Option<String>,
    /// Only keys with this scope.
    #[arg(long)]
    pub(crate) scope: Option<String>,
    /// Only keys of this owner.
    #[arg(long)]
    pub(crate) owner: Option<String>,
    /// Only keys with this text in their name or id; the beginning pcl_… of a key selects that key. With -,
    /// the text is read from standard input, where it may be a whole key.
    #[arg(long, value_name = "TEXT")]
    pub(crate) search: Option<String>,
}

impl Filter {
    /// Returns the filters as the API has them.
    pub(crate) fn fields(&self) -> Result<Map<String, Value>, Failure> {
        let flag = |flag: Option<YesNo>| flag.map(|flag| Value::from(flag == YesNo::Yes));
        let text = |text: &Option<String>| text.clone().map(Value::from);
        let since = |age: u32| {
            jiff::Timestamp::now()
                .checked_sub(Duration::from_secs(age.into()))
                .map(|since| Value::from(since.to_string()))
                .map_err(|_| Failure::usage("--unused-for: too long"))
        };
        let fields = [
            ("active", flag(self.active)),
            ("expired", flag(self.expired)),
            ("replaced", flag(self.replaced)),
            ("imported", flag(self.imported)),
            ("exceeds_policy", flag(self.exceeds_policy)),
            ("used", flag(self.used)),
            ("unused_since", self.unused_for.map(since).transpose()?),
            ("expires_within_seconds", self.expiring_within.map(Value::from)),
            ("created_from", text(&self.created_from)),
            ("created_until", text(&self.created_until)),
            ("created_by", text(&self.created_by)),
            ("scope", text(&self.scope)),
            ("owner", text(&self.owner)),
            ("q", self.text()?.map(Value::from)),
        ];
        let given = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Ok(given.collect())
    }

    fn text(&self) -> Result<Option<String>, Failure> {
        if self.search.as_deref() != Some("-") {
            return Ok(self.search.clone());
        }
        let mut text = String::with_capacity(2 * usize::try_from(MAX_TEXT_BYTES).unwrap_or(0));
        let read = std::io::stdin().lock().take(MAX_TEXT_BYTES).read_to_string(&mut text);
        read.map_err(Failure::io("reading the text from standard input"))?;
        Ok(Some(text.trim().to_owned()))
    }
}
