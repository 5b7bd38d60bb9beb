//! The scopes that every store knows.

use super::Scope;

/// Calls a macro with the list of scopes: the name of its constant, the name of its type in
/// `web::scopes`, its text, and what it allows.
macro_rules! built_in_scopes {
    ($callback:ident) => {
        $callback! {
            documented {
            ADMIN_ACCOUNT_CREATE, AdminAccountCreate = "admin.account.create", "create new business accounts";
            ADMIN_ACCOUNT_LIST, AdminAccountList = "admin.account.list", "list existing business accounts";
            ADMIN_ACCOUNT_UPDATE, AdminAccountUpdate = "admin.account.update", "change an existing business account, for example deactivate it";
            ADMIN_CONNECTION_DISCONNECT, AdminConnectionDisconnect = "admin.connection.disconnect", "disconnect an API connection that a business user has authorised";
            ADMIN_CONNECTION_HEALTH, AdminConnectionHealth = "admin.connection.health", "detailed status of the API connectivity of business accounts";
            ADMIN_EMBED_TOKEN, AdminEmbedToken = "admin.embed.token", "generate embed tokens";
            API_READ, ApiRead = "api.read", "read everything in the Data API";
            API_WRITE, ApiWrite = "api.write", "write everything in the Data API";
            }
            key_management {
            ADMIN_KEY_CREATE, AdminKeyCreate = "admin.key.create", "create API keys";
            ADMIN_KEY_LIST, AdminKeyList = "admin.key.list", "list API keys, scopes and the audit log";
            ADMIN_KEY_UPDATE, AdminKeyUpdate = "admin.key.update", "change, deactivate and rotate API keys";
            ADMIN_KEY_DELETE, AdminKeyDelete = "admin.key.delete", "delete inactive API keys permanently";
            ADMIN_KEY_VERIFY, AdminKeyVerify = "admin.key.verify", "verify keys, and see why one is not valid";
            }
        }
    };
}
#[cfg(feature = "axum")]
pub(crate) use built_in_scopes;

macro_rules! constants {
    (
        documented { $($documented:ident, $_documented:ident = $documented_text:literal, $documented_about:literal;)* }
        key_management { $($key:ident, $_key:ident = $key_text:literal, $key_about:literal;)* }
    ) => {
        constants! { $($documented = $documented_text, $documented_about;)* $($key = $key_text, $key_about;)* }
        pub(super) const DOCUMENTED: &[(Scope, &str)] = &[$(($documented, $documented_about)),*];
        pub(super) const KEY_MANAGEMENT: &[(Scope, &str)] = &[$(($key, $key_about)),*];
    };
    ($($name:ident = $text:literal, $about:literal;)*) => {
        $(
            #[doc = concat!("`", $text, "`: ", $about, ".")]
            pub const $name: Scope = Scope::from_static($text);
        )*
    };
}

built_in_scopes!(constants);

/// The scopes and what each allows, in the order of their numbers.
pub(super) fn built_in() -> impl Iterator<Item = &'static (Scope, &'static str)> {
    DOCUMENTED.iter().chain(KEY_MANAGEMENT)
}
