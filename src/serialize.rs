//! Public values in the formats of serde, with the feature `serde`.
//!
//! Ids, scopes, actors and networks are their text; a time is its milliseconds since the Unix epoch. A grant is the
//! list of its scopes, and `["*"]` for a root key. An expiry is a time, and nothing for a key that does
//! not expire.

use crate::{
    id::KeyId,
    imported::Imported,
    network::Network,
    networks::Networks,
    rate::Rate,
    record::{Actor, Expiry, Record},
    scope::{Grant, Scope, ScopeSet},
    store::Count,
    time::Timestamp,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error, ser::SerializeStruct};
use std::borrow::Cow;

macro_rules! serialize_as_text {
    ($($type:ty),*) => {
        $(
            impl Serialize for $type {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    serializer.collect_str(self)
                }
            }
        )*
    };
}

macro_rules! deserialize_from_text {
    ($($type:ty),*) => {
        $(
            impl<'de> Deserialize<'de> for $type {
                fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    Cow::<str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
                }
            }
        )*
    };
}

serialize_as_text!(Actor, KeyId, Network, Scope);
deserialize_from_text!(KeyId, Network, Scope);

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_millis().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(Self::from_millis)
    }
}

impl Serialize for Expiry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::At(end) => serializer.serialize_some(end),
            Self::Never => serializer.serialize_none(),
        }
    }
}

impl<'de> Deserialize<'de> for Expiry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::deserialize(deserializer).map(|end| end.map_or(Self::Never, Self::At))
    }
}

impl Serialize for ScopeSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl Serialize for Imported {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl Serialize for Networks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Rate", 2)?;
        out.serialize_field("requests", &self.requests())?;
        out.serialize_field("seconds", &self.seconds())?;
        out.end()
    }
}

impl Serialize for Grant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => ["*"].serialize(serializer),
            Self::Scopes(scopes) => scopes.serialize(serializer),
        }
    }
}

/// Writes a struct with these fields.
macro_rules! serialize_fields {
    ($type:ident: $($field:ident),*) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let Self { $($field),* } = self;
                let fields = [$(stringify!($field)),*].len();
                let mut out = serializer.serialize_struct(stringify!($type), fields)?;
                $(out.serialize_field(stringify!($field), $field)?;)*
                out.end()
            }
        }
    };
}

serialize_fields!(Count: active, inactive);
serialize_fields!(Record: id, name, grant, active, expiry, owner, metadata, networks, rate, imported,
    created_at, created_by, updated_at, updated_by, inactive_since, replaces, replaced_by, revision);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{record::NewKey, store::Store};
    use serde_json::{from_value, json, to_value};

    #[test]
    fn record_is_an_object_of_plain_values() {
        let store =
            Store::builder().scopes(crate::scope::catalogue::financial_data()).in_memory().unwrap();
        let expiry = Expiry::At(Timestamp::from_secs(4_000_000_000));
        let new = NewKey::new("Till 4", store.scopes(["api.read"]).unwrap(), expiry);
        let record = store.issue(new.with_owner("shop-17")).unwrap().record;
        let value = to_value(&*record).unwrap();
        assert_eq!(value["id"], record.id.to_string());
        assert_eq!(value["grant"], json!(["api.read"]));
        assert_eq!(value["expiry"], 4_000_000_000_000_u64);
        assert_eq!((&value["created_by"], &value["replaces"]), (&json!("host"), &json!(null)));
        assert_eq!(value.as_object().unwrap().len(), 18);
        assert_eq!(value["networks"], json!([]));
        assert_eq!((&value["rate"], &value["imported"]), (&json!(null), &json!(null)));
        assert_eq!(to_value(Grant::All).unwrap(), json!(["*"]));
        assert_eq!(to_value(store.count()).unwrap(), json!({"active": 1, "inactive": 0}));
    }

    #[test]
    fn values_with_a_text_or_a_number_are_read_back() {
        let id: KeyId = from_value(json!("key_8fK2mQ9xZ1a")).unwrap();
        assert_eq!(to_value(id).unwrap(), "key_8fK2mQ9xZ1a");
        assert!(from_value::<KeyId>(json!("pcl_8fK2mQ9xZ1a")).is_err());
        assert_eq!(from_value::<Scope>(json!("api.read")).unwrap().as_str(), "api.read");
        assert!(from_value::<Scope>(json!("api read")).is_err());
        assert_eq!(from_value::<Timestamp>(json!(7)).unwrap(), Timestamp::from_millis(7));
        assert_eq!(from_value::<Expiry>(json!(null)).unwrap(), Expiry::Never);
        let end = Expiry::At(Timestamp::from_millis(7));
        assert_eq!(from_value::<Expiry>(to_value(end).unwrap()).unwrap(), end);
    }
}
