//! Rows of other systems → the lines that an import reads.

use clap::ValueEnum;
use serde_json::{Map, Value, json};

/// The system that the rows are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Preset {
    /// The fields of POST /v1/keys, with key, or with digest and algorithm.
    Plain,
    /// Rows of Unkey.
    Unkey,
    /// Rows of the table of Laravel Sanctum.
    Sanctum,
    /// Rows of the table of better-auth.
    BetterAuth,
    /// Rows of djangorestframework-api-key 3, or of a dump by Django.
    DrfApiKey,
}

type Row = Map<String, Value>;

/// Converts a row. The error does not repeat its values.
pub(crate) fn line_of(preset: Preset, row: &str, scopes: &[String]) -> Result<String, String> {
    let mut row: Row = serde_json::from_str(row)
        .map_err(|error| format!("is not a JSON object: look at column {}", error.column()))?;
    let mut line = match preset {
        Preset::Plain => std::mem::take(&mut row),
        Preset::Unkey => unkey(&mut row, scopes.is_empty())?,
        Preset::Sanctum => sanctum(&mut row, scopes.is_empty())?,
        Preset::BetterAuth => better_auth(&mut row)?,
        Preset::DrfApiKey => drf(&mut row)?,
    };
    if !scopes.is_empty() {
        line.insert("scopes".into(), json!(scopes));
    } else if preset != Preset::Plain && !line.contains_key("scopes") {
        return Err("has no scopes; give those of all imported keys with --scope".into());
    }
    Ok(Value::Object(line).to_string())
}

fn unkey(row: &mut Row, reads_scopes: bool) -> Result<Row, String> {
    let mut line = Row::new();
    put(&mut line, "digest", text(row, &["hash"]));
    put(&mut line, "algorithm", Some("sha256".into()));
    put(&mut line, "name", text(row, &["name", "start", "id"]));
    put(&mut line, "owner", text(row, &["externalId", "external_id", "ownerId", "owner_id"]));
    put(&mut line, "metadata", metadata(row, &["meta"])?);
    if reads_scopes {
        put(&mut line, "scopes", names(row, &["permissions"])?);
    }
    put(&mut line, "expires_at", time(row, &["expires", "expires_at"])?);
    put(&mut line, "active", flag(row, &["enabled"]));
    Ok(line)
}

fn sanctum(row: &mut Row, reads_scopes: bool) -> Result<Row, String> {
    let mut line = Row::new();
    put(&mut line, "digest", text(row, &["token"]));
    put(&mut line, "algorithm", Some("sha256-after-bar".into()));
    put(&mut line, "name", text(row, &["name"]));
    put(&mut line, "owner", text(row, &["tokenable_id"]));
    if reads_scopes {
        put(&mut line, "scopes", names(row, &["abilities"])?);
    }
    put(&mut line, "expires_at", time(row, &["expires_at"])?);
    Ok(line)
}

fn better_auth(row: &mut Row) -> Result<Row, String> {
    let mut line = Row::new();
    put(&mut line, "digest", text(row, &["key"]));
    put(&mut line, "algorithm", Some("sha256".into()));
    put(&mut line, "name", text(row, &["name", "start", "id"]));
    put(&mut line, "owner", text(row, &["userId", "user_id", "referenceId"]));
    put(&mut line, "metadata", metadata(row, &["metadata"])?);
    put(&mut line, "expires_at", time(row, &["expiresAt", "expires_at"])?);
    put(&mut line, "active", flag(row, &["enabled"]));
    Ok(line)
}

fn drf(row: &mut Row) -> Result<Row, String> {
    let mut line = Row::new();
    // A dump of the framework has the columns apart.
    if let Some(Value::Object(fields)) = row.remove("fields") {
        *row = fields;
    }
    put(&mut line, "digest", text(row, &["hashed_key"]));
    put(&mut line, "name", text(row, &["name", "prefix"]));
    put(&mut line, "expires_at", time(row, &["expiry_date"])?);
    let revoked = flag(row, &["revoked"]).and_then(|revoked| revoked.as_bool());
    put(&mut line, "active", revoked.map(|revoked| Value::Bool(!revoked)));
    Ok(line)
}

fn put(line: &mut Row, name: &str, value: Option<Value>) {
    if let Some(value) = value {
        line.insert(name.into(), value);
    }
}

/// Takes the first of these columns that has a value.
fn take(row: &mut Row, names: &[&str]) -> Option<Value> {
    let found = names.iter().find_map(|name| row.remove(*name).filter(|value| !value.is_null()));
    found.filter(|value| value.as_str() != Some(""))
}

fn text(row: &mut Row, names: &[&str]) -> Option<Value> {
    take(row, names).map(|value| match value {
        Value::Number(number) => number.to_string().into(),
        value => value,
    })
}

fn flag(row: &mut Row, names: &[&str]) -> Option<Value> {
    take(row, names).map(|value| match value.as_u64() {
        Some(number) => Value::Bool(number != 0),
        None => value,
    })
}

/// Milliseconds since 1970, or a time with a space instead of a T and without a zone (UTC).
fn time(row: &mut Row, names: &[&str]) -> Result<Option<Value>, String> {
    let Some(value) = take(row, names) else { return Ok(None) };
    let unreadable = || format!("{} is not a time", names.first().unwrap_or(&""));
    let at = match &value {
        Value::Number(millis) => {
            let millis = millis.as_i64().ok_or_else(unreadable)?;
            jiff::Timestamp::from_millisecond(millis).map_err(|_| unreadable())?
        }
        Value::String(text) => {
            let text = text.replacen(' ', "T", 1);
            let zoned = text.parse().or_else(|_| format!("{text}Z").parse());
            zoned.map_err(|_| unreadable())?
        }
        _ => return Err(unreadable()),
    };
    Ok(Some(at.to_string().into()))
}

/// A list of names, or its JSON text.
fn names(row: &mut Row, columns: &[&str]) -> Result<Option<Value>, String> {
    let Some(value) = take(row, columns) else { return Ok(None) };
    let value = nested(value);
    let column = columns.first().unwrap_or(&"");
    match value.as_array() {
        Some(names) if names.iter().any(|name| name == "*") => Err(format!(
            "{column} has *, which means everything there; give the scopes of all imported keys with --scope"
        )),
        Some(names) if names.is_empty() => Ok(None),
        Some(_) => Ok(Some(value)),
        None => Err(format!("{column} is not a list of names")),
    }
}

/// An object, or its JSON text, with texts as values.
fn metadata(row: &mut Row, columns: &[&str]) -> Result<Option<Value>, String> {
    let Some(value) = take(row, columns) else { return Ok(None) };
    let Value::Object(entries) = nested(value) else {
        return Err(format!("{} is not an object", columns.first().unwrap_or(&"")));
    };
    let texts = entries.into_iter().map(|(name, value)| {
        let text = match value {
            Value::String(text) => text,
            value => value.to_string(),
        };
        (name, Value::String(text))
    });
    Ok(Some(Value::Object(texts.collect())))
}

fn nested(value: Value) -> Value {
    match value.as_str().and_then(|text| serde_json::from_str(text).ok()) {
        Some(nested) => nested,
        None => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(preset: Preset, row: &Value, scopes: &[&str]) -> Result<Value, String> {
        let scopes: Vec<String> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        line_of(preset, &row.to_string(), &scopes).map(|line| serde_json::from_str(&line).unwrap())
    }

    #[test]
    fn rows_of_each_system_are_converted() {
        for (preset, row, expected) in [
            (
                Preset::Unkey,
                json!({"hash": "aa", "name": "n", "externalId": "shop", "meta": {"a": 1}, "permissions": ["x.y"],
                    "expires": 1_900_000_000_000_i64, "enabled": true}),
                json!({"digest": "aa", "algorithm": "sha256", "name": "n", "owner": "shop",
                    "metadata": {"a": "1"}, "scopes": ["x.y"], "expires_at": "2030-03-17T17:46:40Z", "active": true}),
            ),
            (
                Preset::Sanctum,
                json!({"id": 7, "token": "bb", "name": "n", "tokenable_id": 17, "abilities": "[\"x.y\"]",
                    "expires_at": "2030-01-31 12:00:00"}),
                json!({"digest": "bb", "algorithm": "sha256-after-bar", "name": "n", "owner": "17",
                    "scopes": ["x.y"], "expires_at": "2030-01-31T12:00:00Z"}),
            ),
        ] {
            assert_eq!(converted(preset, &row, &[]).unwrap(), expected, "{preset:?}");
        }
        let row = json!({"key": "cc", "name": null, "start": "abc", "userId": "u", "enabled": 0});
        let expected = json!({"digest": "cc", "algorithm": "sha256", "name": "abc", "owner": "u",
            "active": false, "scopes": ["x.y"]});
        assert_eq!(converted(Preset::BetterAuth, &row, &["x.y"]).unwrap(), expected);
        let row = json!({"model": "m", "fields": {"hashed_key": "sha512$$dd", "name": "n", "revoked": true}});
        let expected =
            json!({"digest": "sha512$$dd", "name": "n", "active": false, "scopes": ["x.y"]});
        assert_eq!(converted(Preset::DrfApiKey, &row, &["x.y"]).unwrap(), expected);
    }

    #[test]
    fn row_that_cannot_be_converted_is_refused_without_its_values() {
        for (preset, row, reason) in [
            (Preset::Sanctum, json!({"token": "secret-x", "abilities": ["*"]}), "--scope"),
            (Preset::Sanctum, json!({"token": "secret-x"}), "has no scopes"),
            (Preset::Unkey, json!({"hash": "secret-x", "meta": 7}), "meta is not an object"),
            (
                Preset::Unkey,
                json!({"hash": "secret-x", "expires": "soon"}),
                "expires is not a time",
            ),
        ] {
            let refused = converted(preset, &row, &[]).unwrap_err();
            assert!(refused.contains(reason) && !refused.contains("secret-x"), "{refused}");
        }
        assert!(line_of(Preset::Plain, "secret-x", &[]).unwrap_err().contains("column 1"));
    }
}
