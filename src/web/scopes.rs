//! Scopes as types: a route names one, and the compiler sees that it is of the route's own plane.

use crate::{Plane, Scope};

/// The plane of the Administration API, as a type.
pub type Administration = OnPlane<true>;
/// The plane of the Data API, as a type.
pub type Data = OnPlane<false>;

/// A plane as a type; see [`Administration`] and [`Data`].
#[derive(Clone, Copy, Debug)]
pub struct OnPlane<const ADMINISTRATION: bool>;

/// A scope as a type; made by [`scopes!`](crate::scopes!).
pub trait TypedScope: Copy + Send + Sync + 'static {
    /// [`Administration`] or [`Data`], as the name says.
    type Plane;
    /// The scope.
    const SCOPE: Scope;
}

/// Whether a scope of this name belongs to the Administration API; for [`scopes!`](crate::scopes!).
#[doc(hidden)]
pub const fn is_administration(name: &str) -> bool {
    matches!(Plane::of(name), Plane::Administration)
}

/// Makes a type of each scope, and a `registry()` of them all for
/// [`Builder::scopes`](crate::Builder::scopes).
///
/// ```
/// mod scopes {
///     portcullis::scopes! {
///         pub LedgerClose = "ledger.close", "close a year";
///         pub AdminLedgerOpen = "admin.ledger.open", "open a closed year";
///     }
/// }
/// # use axum::routing::post;
/// # use portcullis::{Store, web::Guarded};
/// let store = Store::builder().scopes(scopes::registry()).in_memory()?;
/// let app: axum::Router = Guarded::new(store)
///     .route(scopes::LedgerClose, "/ledgers/{year}/close", post(async || "closed"))
///     .into();
/// # Ok::<(), portcullis::Error>(())
/// ```
///
/// A name that is not well formed does not compile:
///
/// ```compile_fail
/// portcullis::scopes! { LedgerClose = "ledger close"; }
/// ```
///
/// and this does:
///
/// ```
/// portcullis::scopes! { LedgerClose = "ledger.close"; }
/// ```
#[macro_export]
macro_rules! scopes {
    ($($(#[$attribute:meta])* $visibility:vis $name:ident = $text:literal $(, $about:literal)?);+ $(;)?) => {
        $(
            $(#[$attribute])*
            #[doc = concat!("The scope `", $text, "`", $(": ", $about,)? ".")]
            #[derive(Clone, Copy, Debug)]
            $visibility struct $name;

            impl $crate::web::TypedScope for $name {
                type Plane = $crate::web::OnPlane<{ $crate::web::is_administration($text) }>;
                const SCOPE: $crate::Scope = $crate::Scope::from_static($text);
            }

            const _: $crate::Scope = <$name as $crate::web::TypedScope>::SCOPE;
        )+

        /// These scopes, each with what it allows.
        pub(crate) fn registry() -> ::std::vec::Vec<($crate::Scope, ::std::string::String)> {
            ::std::vec![$((
                <$name as $crate::web::TypedScope>::SCOPE,
                ::std::string::String::from(concat!("" $(, $about)?)),
            )),+]
        }

        // A program may use the types alone: this counts as a use of the function.
        const _: fn() -> ::std::vec::Vec<($crate::Scope, ::std::string::String)> = registry;
    };
}

scopes! {
    pub AdminAccountCreate = "admin.account.create", "create new business accounts";
    pub AdminAccountList = "admin.account.list", "list existing business accounts";
    pub AdminAccountUpdate = "admin.account.update", "change an existing business account, for example deactivate it";
    pub AdminConnectionDisconnect = "admin.connection.disconnect", "disconnect an API connection that a business user has authorised";
    pub AdminConnectionHealth = "admin.connection.health", "detailed status of the API connectivity of business accounts";
    pub AdminEmbedToken = "admin.embed.token", "generate embed tokens";
    pub ApiRead = "api.read", "read everything in the Data API";
    pub ApiWrite = "api.write", "write everything in the Data API";
    pub AdminKeyCreate = "admin.key.create", "make API keys";
    pub AdminKeyList = "admin.key.list", "list API keys, scopes and the audit trail";
    pub AdminKeyUpdate = "admin.key.update", "change, deactivate and rotate API keys";
    pub AdminKeyDelete = "admin.key.delete", "delete inactive API keys for good";
    pub AdminKeyVerify = "admin.key.verify", "ask whether a key is valid, and why not";
}

#[cfg(test)]
mod tests {
    use crate::Store;

    #[test]
    fn every_scope_of_a_new_store_has_its_type_and_says_the_same() {
        let store = Store::in_memory().unwrap();
        let known = store.catalogue().entries().iter();
        let known: Vec<_> =
            known.map(|e| (e.scope.clone(), e.description.clone().into_owned())).collect();
        assert_eq!(super::registry(), known);
    }
}
