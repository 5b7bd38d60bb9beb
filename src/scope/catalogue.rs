//! The scopes that every store knows.

use super::Scope;

macro_rules! scopes {
    ($list:ident: $($name:ident = $text:literal, $about:literal;)*) => {
        $(#[doc = concat!("`", $text, "`: ", $about, ".")] pub const $name: Scope = Scope::from_static($text);)*
        pub(super) const $list: &[(Scope, &str)] = &[$(($name, $about)),*];
    };
}

scopes! { DOCUMENTED:
    ADMIN_ACCOUNT_CREATE = "admin.account.create", "create new business accounts";
    ADMIN_ACCOUNT_LIST = "admin.account.list", "list existing business accounts";
    ADMIN_ACCOUNT_UPDATE = "admin.account.update", "change an existing business account, for example deactivate it";
    ADMIN_CONNECTION_DISCONNECT = "admin.connection.disconnect", "disconnect an API connection that a business user has authorised";
    ADMIN_CONNECTION_HEALTH = "admin.connection.health", "detailed status of the API connectivity of business accounts";
    ADMIN_EMBED_TOKEN = "admin.embed.token", "generate embed tokens";
    API_READ = "api.read", "read everything in the Data API";
    API_WRITE = "api.write", "write everything in the Data API";
}

scopes! { KEY_MANAGEMENT:
    ADMIN_KEY_CREATE = "admin.key.create", "make API keys";
    ADMIN_KEY_LIST = "admin.key.list", "list API keys, scopes and the audit trail";
    ADMIN_KEY_UPDATE = "admin.key.update", "change, deactivate and rotate API keys";
    ADMIN_KEY_DELETE = "admin.key.delete", "delete inactive API keys for good";
    ADMIN_KEY_VERIFY = "admin.key.verify", "ask whether a key is valid, and why not";
}

/// The name of the scope and what it allows, in the order of their numbers.
pub(super) fn built_in() -> impl Iterator<Item = &'static (Scope, &'static str)> {
    DOCUMENTED.iter().chain(KEY_MANAGEMENT)
}
