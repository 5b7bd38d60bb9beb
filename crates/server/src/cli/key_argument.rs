//! The key that an argument names: by its id, by the beginning of its text, or by its name.

use super::{
    client::Client,
    failure::Failure,
    filter::Filter,
    key_args::List,
    key_pages::each_page,
    output::{self, Key},
};
use portcullis::KeyId;
use std::{
    io::{self, IsTerminal},
    ops::ControlFlow,
};

/// A key of the store.
pub(crate) struct Named {
    pub(crate) id: KeyId,
    /// Its name, if the argument is the name.
    name: Option<String>,
}

impl Named {
    /// Returns the path of the key in the API.
    pub(crate) fn path(&self) -> String {
        format!("/v1/keys/{}", self.id)
    }
}

/// Finds the key that an argument names: `key_…`, the beginning `pcl_…` of its text, or else its exact
/// name if no other key has it. The error does not repeat the argument, which could be a secret.
pub(crate) async fn find(client: &mut Client, argument: &str) -> Result<Named, Failure> {
    if let Ok(id) = argument.parse() {
        return Ok(Named { id, name: None });
    }
    if let Some(id) = id_of_hint(argument) {
        return Ok(Named { id, name: None });
    }
    let mut found: Vec<Key> = Vec::new();
    let filter = Filter { search: Some(argument.to_owned()), ..Filter::default() };
    let search = List { filter, ..List::default() };
    each_page(client, &search, |page| {
        let keys = page.iter().filter_map(|key| serde_json::from_str::<Key>(key.get()).ok());
        found.extend(keys.filter(|key| key.name == argument));
        Ok(ControlFlow::Continue(()))
    })
    .await?;
    match found.as_slice() {
        [] => Err(Failure::usage(
            "ID: no key has this id or name; an id is key_ and 11 letters or digits, and \
             `portcullis key list` shows the ids",
        )),
        [one] => {
            let id = one.id.parse().map_err(|error| Failure::failed(format!("{error}")))?;
            Ok(Named { id, name: Some(one.name.clone()) })
        }
        several => {
            let ids: Vec<&str> = several.iter().map(|key| key.id.as_str()).collect();
            Err(Failure::usage(format!(
                "ID: {} keys have this name; give the id of one: {}",
                several.len(),
                ids.join(", ")
            )))
        }
    }
}

/// Returns the id in the beginning of a key's text, such as `pcl_8fK2mQ9xZ1a`.
fn id_of_hint(text: &str) -> Option<KeyId> {
    let (prefix, digits) = text.trim_end_matches('_').split_once('_')?;
    portcullis::Prefix::new(prefix).ok()?;
    format!("key_{digits}").parse().ok()
}

/// Asks on the terminal whether to destroy something. Without a terminal `--yes` is required.
pub(crate) fn confirm(act: &str, is_confirmed: bool) -> Result<(), Failure> {
    if is_confirmed {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::usage(format!("{act} cannot be undone; confirm it with --yes")));
    }
    output::say(&format!("{act} cannot be undone. Type yes to confirm:"));
    let mut line = String::new();
    io::stdin().read_line(&mut line).map_err(Failure::io("reading the confirmation"))?;
    if line.trim() == "yes" { Ok(()) } else { Err(Failure::failed("nothing was changed")) }
}

/// Returns the text by which the user recognizes the key.
impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{} ({name})", self.id),
            None => write!(f, "{}", self.id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginning_of_a_key_names_its_id() {
        let id = "key_8fK2mQ9xZ1a".parse().ok();
        assert_eq!(id_of_hint("pcl_8fK2mQ9xZ1a"), id);
        assert_eq!(id_of_hint("pcl_8fK2mQ9xZ1a_"), id);
        for other in ["pcl_8fK2mQ9xZ1", "Till 4", "_8fK2mQ9xZ1a", "pcl_8fK2mQ9xZ1a_abc", "pcl"] {
            assert_eq!(id_of_hint(other), None, "{other}");
        }
    }
}
