//! The scopes that every store knows.

use super::name::Scope;

/// Passes the built-in scopes to a macro, in the order of their numbers. Each has the name of its type
/// (in `web`), the name of its constant, its text, and a description of the acts that it allows.
macro_rules! built_in_scopes {
    ($macro:ident) => {
        $macro! {
            AdminAccountCreate ADMIN_ACCOUNT_CREATE = "admin.account.create", "create new business accounts";
            AdminAccountList ADMIN_ACCOUNT_LIST = "admin.account.list", "list existing business accounts";
            AdminAccountUpdate ADMIN_ACCOUNT_UPDATE = "admin.account.update", "change an existing business account, for example deactivate it";
            AdminConnectionDisconnect ADMIN_CONNECTION_DISCONNECT = "admin.connection.disconnect", "disconnect an API connection that a business user has authorised";
            AdminConnectionHealth ADMIN_CONNECTION_HEALTH = "admin.connection.health", "detailed status of the API connectivity of business accounts";
            AdminEmbedToken ADMIN_EMBED_TOKEN = "admin.embed.token", "generate embed tokens";
            ApiRead API_READ = "api.read", "read everything in the Data API";
            ApiWrite API_WRITE = "api.write", "write everything in the Data API";
            AdminKeyCreate ADMIN_KEY_CREATE = "admin.key.create", "create API keys";
            AdminKeyList ADMIN_KEY_LIST = "admin.key.list", "list API keys, scopes and the audit log";
            AdminKeyUpdate ADMIN_KEY_UPDATE = "admin.key.update", "change, deactivate and rotate API keys";
            AdminKeyDelete ADMIN_KEY_DELETE = "admin.key.delete", "delete inactive API keys permanently";
            AdminKeyVerify ADMIN_KEY_VERIFY = "admin.key.verify", "verify keys, and see why one is not valid";
        }
    };
}

macro_rules! constants {
    ($($_type:ident $name:ident = $text:literal, $about:literal;)*) => {
        $(
            #[doc = concat!("`", $text, "`: ", $about, ".")]
            pub const $name: Scope = Scope::from_static($text);
        )*

        /// The scopes and what each allows, in the order of their numbers.
        pub(super) const BUILT_IN: &[(Scope, &str)] = &[$(($name, $about)),*];
    };
}

built_in_scopes!(constants);
#[cfg(feature = "axum")]
pub(crate) use built_in_scopes;
