//! The filters and the order of the list of keys, as the portal's forms have them.

use super::{base_path::BasePath, form_body::FormInput};
use crate::{query, rfc3339, scopes};
use maud::{Markup, html};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use portcullis::{Secret, Store, Timestamp, list::ListQuery, web::Problem};
use std::fmt::Write;

const DAY_SECONDS: u64 = 86_400;
const EXPIRING_DAYS: u64 = 30;
const UNUSED_DAYS: u64 = 90;

/// The states that the form offers: value, and text.
const STATES: [(&str, &str); 10] = [
    ("", "All"),
    ("active", "Active"),
    ("inactive", "Inactive"),
    ("expired", "Expired"),
    ("expiring", "Expires within 30 days"),
    ("replaced", "Replaced"),
    ("never-used", "Never used"),
    ("unused", "Unused for 90 days"),
    ("exceeding", "Exceeds the policy"),
    ("imported", "Imported"),
];

/// The orders that the form offers: value, as the API has it, and text.
const ORDERS: [(&str, &str); 4] = [
    ("-created_at", "Newest first"),
    ("name", "Name"),
    ("last_used_at", "Longest unused first"),
    ("expires_at", "Soonest expiry first"),
];

/// The fields of the form. Each is empty unless it is set.
#[derive(Clone, Default)]
pub(crate) struct KeyFilter {
    text: String,
    status: String,
    owner: String,
    scope: String,
    created_by: String,
    /// Dates (UTC); the second one is inclusive.
    created_from: String,
    created_until: String,
    sort: String,
}

impl KeyFilter {
    /// The names of the fields with their values.
    fn fields(&self) -> [(&'static str, &String); 8] {
        [
            ("q", &self.text),
            ("status", &self.status),
            ("owner", &self.owner),
            ("scope", &self.scope),
            ("created_by", &self.created_by),
            ("from", &self.created_from),
            ("until", &self.created_until),
            ("sort", &self.sort),
        ]
    }

    fn field_mut(&mut self, name: &str) -> Option<&mut String> {
        Some(match name {
            "q" => &mut self.text,
            "status" => &mut self.status,
            "owner" => &mut self.owner,
            "scope" => &mut self.scope,
            "created_by" => &mut self.created_by,
            "from" => &mut self.created_from,
            "until" => &mut self.created_until,
            "sort" => &mut self.sort,
            _ => return None,
        })
    }

    /// Sets a field from the query of a page.
    pub(crate) fn set(&mut self, store: &Store, name: &str, value: &str) {
        if let Some(field) = self.field_mut(name) {
            value.trim().clone_into(field);
        }
        self.forget_key(store);
    }

    /// Reads the fields of a form.
    pub(crate) fn read(store: &Store, input: &mut FormInput) -> Self {
        let mut filter = Self::default();
        for name in filter.fields().map(|(name, _)| name) {
            let value = input.text(name);
            filter.set(store, name, &value);
        }
        filter
    }

    /// Keeps only the id of a pasted key: no page and no address has the key.
    fn forget_key(&mut self, store: &Store) {
        for (name, value) in self.fields().map(|(name, value)| (name, value.clone())) {
            if Secret::occurs_in(&value)
                && let Some(field) = self.field_mut(name)
            {
                let id = store.prefix().id_within(&value).filter(|_| name == "q");
                *field = id.map_or_else(|| "(a pasted key)".to_owned(), |id| id.to_string());
            }
        }
    }

    /// Whether it selects other keys than all.
    pub(crate) fn is_set(&self) -> bool {
        self.fields().iter().any(|(name, value)| *name != "sort" && !value.is_empty())
    }

    /// The address of the list with this filter.
    pub(crate) fn address(&self) -> String {
        let mut address = "/".to_owned();
        for (name, value) in self.fields() {
            if !value.is_empty() {
                let mark = if address.len() == 1 { '?' } else { '&' };
                let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
                let _ = write!(address, "{mark}{name}={value}");
            }
        }
        address
    }

    /// The query of the list.
    pub(crate) fn query(&self, store: &Store) -> Result<ListQuery, Problem> {
        let mut pairs = Vec::new();
        let mut add = |name: &str, value: &str| {
            if !value.is_empty() {
                pairs.push((name.to_owned(), value.to_owned()));
            }
        };
        add("q", &self.text);
        add("owner", &self.owner);
        add("scope", &self.scope);
        add("created_by", &self.created_by);
        add("sort", &self.sort);
        let midnight =
            |day: &str| if day.is_empty() { String::new() } else { format!("{day}T00:00:00Z") };
        add("created_from", &midnight(&self.created_from));
        let end = rfc3339::end_of_day(&self.created_until);
        add("created_until", &end.map_or_else(|| midnight(&self.created_until), rfc3339::format));
        match self.status.as_str() {
            "active" => add("active", "true"),
            "inactive" => add("active", "false"),
            "expired" => add("expired", "true"),
            "expiring" => {
                add("expires_within_seconds", &(EXPIRING_DAYS * DAY_SECONDS).to_string());
            }
            "replaced" => add("replaced", "true"),
            "never-used" => add("used", "false"),
            "imported" => add("imported", "true"),
            "exceeding" => add("exceeds_policy", "true"),
            "unused" => {
                let since = store.now().as_secs().saturating_sub(UNUSED_DAYS * DAY_SECONDS);
                add("unused_since", &rfc3339::format(Timestamp::from_secs(since)));
            }
            _ => {}
        }
        query::of_pairs(store, &pairs)
    }

    /// Renders the fields as hidden inputs, for forms that keep the filter.
    pub(crate) fn hidden(&self) -> Markup {
        html! {
            @for (name, value) in self.fields() {
                @if !value.is_empty() { input type="hidden" name=(name) value=(value); }
            }
        }
    }

    /// Renders the form. It is sent by POST, since a pasted key must not be in an address.
    pub(crate) fn form(&self, store: &Store, base: &BasePath) -> Markup {
        let is_detailed = self
            .fields()
            .iter()
            .any(|(name, value)| !matches!(*name, "q" | "status" | "sort") && !value.is_empty());
        html! {
            form .filters method="post" action=(base.path("/search")) role="search" {
                div {
                    label for="q" { "Search" }
                    input #q name="q" type="search" dir="auto" value=(self.text) placeholder="Name, id or key" autocomplete="off";
                }
                div { (select("status", "Status", &self.status, &STATES)) }
                div { (select("sort", "Order", &self.sort, &ORDERS)) }
                button type="submit" { "Search" }
                @if self.is_set() { a .button .quiet href=(base.path("/")) { "Clear" } }
                details .more open[is_detailed] {
                    summary { "More filters" }
                    div .fields {
                        (text("owner", "Owner", &self.owner, "text"))
                        div {
                            label for="scope" { "Scope" }
                            select #scope name="scope" {
                                option value="" { "Any" }
                                @for entry in scopes::all(store) {
                                    @let name = entry.scope.as_str();
                                    option value=(name) selected[name == self.scope] { (name) }
                                }
                            }
                        }
                        (text("created_by", "Created by (id of a key)", &self.created_by, "text"))
                        (text("from", "Created from", &self.created_from, "date"))
                        (text("until", "Created until", &self.created_until, "date"))
                    }
                }
            }
        }
    }
}

fn select(name: &str, label: &str, chosen: &str, options: &[(&str, &str)]) -> Markup {
    html! {
        label for=(name) { (label) }
        select id=(name) name=(name) {
            @for (value, text) in options {
                option value=(value) selected[*value == chosen] { (text) }
            }
        }
    }
}

fn text(name: &str, label: &str, value: &str, kind: &str) -> Markup {
    html! {
        div {
            label for=(name) { (label) }
            input id=(name) name=(name) type=(kind) dir=[(kind == "text").then_some("auto")] value=(value) autocomplete="off";
        }
    }
}
