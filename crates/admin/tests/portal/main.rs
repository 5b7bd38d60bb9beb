//! Tests of the portal through its router: its pages and its forms.

#![expect(clippy::unwrap_used, reason = "helper functions fail a test by panicking")]

mod pages;
