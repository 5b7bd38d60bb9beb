//! The file of declared keys (TOML): its entries, with the secrets that they name.
//!
//! An error names the file and the line, and quotes no value of the file.

use super::{failure::Failure, secret_file, values::rfc3339};
use portcullis::{KeyId, Network, Networks, Prefix, Rate, Secret};
use portcullis_admin::rfc3339::parse_expiry;
use serde_json::{Map, Value, json};
use std::{
    env,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};
use zeroize::Zeroizing;

/// The entry of a key's metadata with the name of the entry that declares the key.
pub(crate) const MARK: &str = "declared";

const MAX_FILE_BYTES: u64 = 1 << 20;
/// More than the longest key and a line break.
const MAX_SECRET_BYTES: u64 = 256;
const MAX_ENTRY_NAME: usize = 64;
const FIELDS: &str =
    "name, owner, scopes, networks, rate, expires_at, metadata, and secret_file or secret_env";

/// A key that must exist.
pub(crate) struct Entry {
    /// The name of its table: `keys.NAME`.
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) id: KeyId,
    /// The fields of the key as the API has them, with the mark, in the form of a response.
    pub(crate) fields: Map<String, Value>,
    secret: Zeroizing<String>,
}

impl Entry {
    /// Returns the line of an import with these fields and the secret.
    pub(crate) fn import_line(&self, mut fields: Map<String, Value>) -> String {
        fields.insert("key".into(), self.secret.as_str().into());
        Value::Object(fields).to_string()
    }
}

/// Reads the entries of a file, in the order of their names. `prefix` is that of the store.
pub(crate) fn read(path: &Path, prefix: Prefix) -> Result<Vec<Entry>, Failure> {
    let reading = || format!("reading {}", path.display());
    let mut text = String::new();
    let file = File::open(path).map_err(Failure::io(reading()))?;
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(Failure::io(reading()))?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(Failure::usage(format!("{} is larger than 1 MiB", path.display())));
    }
    let source = Source { path, text: &text, prefix };
    if let Some(line) = (1..).zip(text.lines()).find(|(_, line)| Secret::occurs_in(line)) {
        return Err(Failure::usage(format!(
            "{}: line {}: has the text of a key; move it to a file of its own, and replace the key if others \
             could have read it",
            path.display(),
            line.0
        )));
    }
    source.entries()
}

/// A value with its place in the file.
type Placed<'t> = Spanned<DeValue<'t>>;

struct Source<'t> {
    path: &'t Path,
    text: &'t str,
    prefix: Prefix,
}

impl Source<'_> {
    fn entries(&self) -> Result<Vec<Entry>, Failure> {
        let table = DeTable::parse(self.text).map_err(|error| {
            self.wrong(error.span().map_or(0, |span| span.start), error.message())
        })?;
        let mut entries = Vec::new();
        for (name, keys) in table.get_ref() {
            let at = name.span().start;
            if name.get_ref() != "keys" {
                return Err(self.wrong(at, "unknown field; each key has a table [keys.NAME]"));
            }
            let tables = keys.get_ref().as_table();
            for (name, fields) in tables.ok_or_else(|| self.wrong(at, "keys must be a table"))? {
                let at = name.span().start;
                let fields = fields.get_ref().as_table();
                let fields = fields.ok_or_else(|| self.wrong(at, "must be a table [keys.NAME]"))?;
                entries.push(self.entry(name.get_ref(), at, fields)?);
            }
        }
        Ok(entries)
    }

    fn entry(&self, name: &str, at: usize, table: &DeTable<'_>) -> Result<Entry, Failure> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if !(1..=MAX_ENTRY_NAME).contains(&name.len()) || !name.bytes().all(is_plain) {
            let what = "the name of an entry is 1 to 64 of A-Z a-z 0-9 - _ .";
            return Err(self.wrong(at, what));
        }
        let mut fields = Map::new();
        for (field, empty) in [("networks", json!([])), ("owner", Value::Null)] {
            fields.insert(field.into(), empty);
        }
        for field in ["rate", "expires_at"] {
            fields.insert(field.into(), Value::Null);
        }
        fields.insert("name".into(), name.into());
        fields.insert("active".into(), true.into());
        let (mut metadata, mut source) = (Map::new(), None);
        for (field, value) in table {
            let place = field.span().start;
            let read = match &**field.get_ref() {
                "name" | "owner" => self.text(value)?.into(),
                "scopes" => self.scopes(value)?,
                "networks" => self.networks(value)?,
                "rate" => self.rate(value)?,
                "expires_at" => self.expiry(value)?,
                "metadata" => {
                    metadata = self.metadata(value)?;
                    continue;
                }
                "secret_file" | "secret_env" if source.is_some() => {
                    return Err(self.wrong(place, "give secret_file or secret_env, not both"));
                }
                name @ ("secret_file" | "secret_env") => {
                    source = Some((place, name == "secret_file", self.text(value)?));
                    continue;
                }
                _ => return Err(self.wrong(place, &format!("unknown field; a key has {FIELDS}"))),
            };
            fields.insert(field.get_ref().to_string(), read);
        }
        if !fields.contains_key("scopes") {
            return Err(self.wrong(at, "scopes is missing; [] grants none"));
        }
        let (place, is_file, source) = source.ok_or_else(|| {
            self.wrong(
                at,
                "secret_file or secret_env is missing; portcullis key generate prints a new key",
            )
        })?;
        let secret = if is_file {
            self.secret_of_file(place, &source)?
        } else {
            self.secret_of_variable(place, &source)?
        };
        let id = self.id_within(place, &secret)?;
        metadata.insert(MARK.into(), name.into());
        fields.insert("metadata".into(), metadata.into());
        Ok(Entry { name: name.into(), line: self.line(at), id, fields, secret })
    }

    fn scopes(&self, value: &Placed<'_>) -> Result<Value, Failure> {
        let mut scopes = self.texts(value)?;
        if scopes.iter().any(|scope| scope == "*") {
            let what = "a root key is not declared; create one with key create --root";
            return Err(self.wrong(value.span().start, what));
        }
        scopes.sort_unstable();
        scopes.dedup();
        Ok(scopes.into())
    }

    fn networks(&self, value: &Placed<'_>) -> Result<Value, Failure> {
        let parse = |text: &String| {
            text.parse::<Network>()
                .map_err(|error| self.wrong(value.span().start, &error.to_string()))
        };
        let networks: Networks = self.texts(value)?.iter().map(parse).collect::<Result<_, _>>()?;
        Ok(networks.iter().map(Network::to_string).collect())
    }

    fn rate(&self, value: &Placed<'_>) -> Result<Value, Failure> {
        let at = value.span().start;
        let what = "must be a table such as { requests = 100, seconds = 60 }";
        let table = value.get_ref().as_table().filter(|table| table.len() == 2);
        let number = |name: &str| {
            let entry = table?.iter().find(|(field, _)| field.get_ref() == name);
            let number = entry?.1.get_ref().as_integer()?;
            u32::from_str_radix(number.as_str(), number.radix()).ok()
        };
        let (Some(requests), Some(seconds)) = (number("requests"), number("seconds")) else {
            return Err(self.wrong(at, what));
        };
        Rate::new(requests, seconds).map_err(|error| self.wrong(at, &error.to_string()))?;
        Ok(json!({"requests": requests, "seconds": seconds}))
    }

    fn expiry(&self, value: &Placed<'_>) -> Result<Value, Failure> {
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Datetime(time) => time.to_string(),
            _ => String::new(),
        };
        let what = "must be a time such as 2030-01-31T12:00:00Z, or a date, which means the midnight at its end (UTC)";
        let end = parse_expiry(&text).ok_or_else(|| self.wrong(value.span().start, what))?;
        Ok(rfc3339(end).into())
    }

    fn metadata(&self, value: &Placed<'_>) -> Result<Map<String, Value>, Failure> {
        let table = value.get_ref().as_table();
        let table =
            table.ok_or_else(|| self.wrong(value.span().start, "must be a table of texts"))?;
        let mut metadata = Map::new();
        for (name, value) in table {
            if name.get_ref() == MARK {
                let what = "the metadata entry declared is reserved: it has the name of the entry";
                return Err(self.wrong(name.span().start, what));
            }
            metadata.insert(name.get_ref().to_string(), self.text(value)?.into());
        }
        Ok(metadata)
    }

    fn text(&self, value: &Placed<'_>) -> Result<String, Failure> {
        let text = value.get_ref().as_str().map(str::to_owned);
        text.ok_or_else(|| self.wrong(value.span().start, "must be a text"))
    }

    fn texts(&self, value: &Placed<'_>) -> Result<Vec<String>, Failure> {
        let texts = value.get_ref().as_array();
        let texts =
            texts.ok_or_else(|| self.wrong(value.span().start, "must be a list of texts"))?;
        texts.iter().map(|text| self.text(text)).collect()
    }

    /// Reads a secret file. A relative path starts at the directory of the TOML file.
    fn secret_of_file(&self, at: usize, name: &str) -> Result<Zeroizing<String>, Failure> {
        let path: PathBuf = self.path.parent().unwrap_or(Path::new("")).join(name);
        let bytes = secret_file::read(&path, "secret file", MAX_SECRET_BYTES)
            .map_err(|failure| failure.with_context(|text| self.at_line(at, &text)))?;
        let other = |_| self.wrong(at, "the secret file does not have the text of a key");
        Ok(Zeroizing::new(String::from_utf8(bytes).map_err(other)?))
    }

    fn secret_of_variable(&self, at: usize, name: &str) -> Result<Zeroizing<String>, Failure> {
        let is_name = !name.is_empty() && !name.contains(['=', '\0']);
        let value = is_name.then(|| env::var_os(name)).flatten();
        let value = value.ok_or_else(|| {
            self.wrong(at, &format!("the environment variable {name} of secret_env is not set"))
        })?;
        let other = |_| self.wrong(at, "the environment variable does not have the text of a key");
        Ok(Zeroizing::new(value.into_string().map_err(other)?))
    }

    /// Returns the id in the text of a key. Only the store's own form has one.
    fn id_within(&self, at: usize, secret: &str) -> Result<KeyId, Failure> {
        let prefix = self.prefix.as_str();
        let remedy = format!("create one with: portcullis key generate --prefix {prefix}");
        if !Secret::is_well_formed(secret) {
            return Err(self.wrong(at, &format!("the secret is not the text of a key; {remedy}")));
        }
        self.prefix.id_within(secret).ok_or_else(|| {
            let what = format!("the prefix of the secret is not {prefix}, which this store has");
            self.wrong(at, &format!("{what}; {remedy}"))
        })
    }

    fn wrong(&self, at: usize, what: &str) -> Failure {
        Failure::usage(self.at_line(at, what))
    }

    fn at_line(&self, at: usize, what: &str) -> String {
        format!("{}: line {}: {what}", self.path.display(), self.line(at))
    }

    /// Returns the number of the line with this byte, from 1.
    fn line(&self, at: usize) -> usize {
        1 + self.text.bytes().take(at).filter(|byte| *byte == b'\n').count()
    }
}
