//! The portal: its pages, and the forms that a browser sends.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, in its helper functions too")]

mod pages;
