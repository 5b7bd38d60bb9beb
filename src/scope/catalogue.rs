//! Scopes for key management, which every store has, and a preset for financial data.

use super::name::Scope;

/// Passes the scopes of this module to a macro. Each has the name of its type (in `web`), the name of its
/// constant, its text, and a description of the acts that it allows.
macro_rules! known_scopes {
    ($macro:ident) => {
        $macro! {
            FINANCIAL_DATA {
                AdminAccountCreate ADMIN_ACCOUNT_CREATE = "admin.account.create", "create new business accounts";
                AdminAccountList ADMIN_ACCOUNT_LIST = "admin.account.list", "list existing business accounts";
                AdminAccountUpdate ADMIN_ACCOUNT_UPDATE = "admin.account.update", "change an existing business account, for example deactivate it";
                AdminConnectionDisconnect ADMIN_CONNECTION_DISCONNECT = "admin.connection.disconnect", "disconnect an API connection that a business user has authorised";
                AdminConnectionHealth ADMIN_CONNECTION_HEALTH = "admin.connection.health", "detailed status of the API connectivity of business accounts";
                AdminEmbedToken ADMIN_EMBED_TOKEN = "admin.embed.token", "generate embed tokens";
                ApiRead API_READ = "api.read", "read everything in the Data API";
                ApiWrite API_WRITE = "api.write", "write everything in the Data API";
            }
            KEY_MANAGEMENT {
                AdminKeyCreate ADMIN_KEY_CREATE = "admin.key.create", "create API keys";
                AdminKeyList ADMIN_KEY_LIST = "admin.key.list", "list API keys, scopes and the audit log";
                AdminKeyUpdate ADMIN_KEY_UPDATE = "admin.key.update", "change, deactivate and rotate API keys";
                AdminKeyDelete ADMIN_KEY_DELETE = "admin.key.delete", "delete inactive API keys permanently";
                AdminKeyVerify ADMIN_KEY_VERIFY = "admin.key.verify", "verify keys, and see why one is not valid";
                AdminKeyOwner ADMIN_KEY_OWNER = "admin.key.owner", "create and rotate keys for any owner, and hand keys over";
            }
        }
    };
}

macro_rules! constants {
    ($($list:ident { $($_type:ident $name:ident = $text:literal, $about:literal;)* })*) => {
        $(
            $(
                #[doc = concat!("`", $text, "`: ", $about, ".")]
                pub const $name: Scope = Scope::from_static($text);
            )*
            pub(super) const $list: &[(Scope, &str)] = &[$(($name, $about)),*];
        )*
    };
}

known_scopes!(constants);
#[cfg(feature = "axum")]
pub(crate) use known_scopes;

/// The preset for services that open financial data: the scopes that do not manage keys, with their
/// descriptions.
///
/// ```
/// use portcullis::{Store, scope::catalogue};
/// let store = Store::builder().scopes(catalogue::financial_data()).in_memory()?;
/// assert!(store.scopes(["api.read", "admin.key.list"]).is_ok());
/// # Ok::<(), portcullis::Error>(())
/// ```
pub fn financial_data() -> impl Iterator<Item = (Scope, String)> {
    FINANCIAL_DATA.iter().map(|(scope, about)| (scope.clone(), (*about).to_owned()))
}

/// Whether a scope is for key management.
pub(crate) fn is_key_management(scope: &Scope) -> bool {
    KEY_MANAGEMENT.iter().any(|(known, _)| known == scope)
}

/// The description of a scope of this module.
pub(super) fn description(scope: &Scope) -> Option<&'static str> {
    let known = FINANCIAL_DATA.iter().chain(KEY_MANAGEMENT).find(|(known, _)| known == scope);
    known.map(|(_, about)| *about)
}
