//! Scopes as types, so that the compiler checks that a route's scope belongs to its plane.

use crate::{Scope, scope::catalogue::known_scopes};

/// The plane of the Administration API, as a type.
pub type Administration = OnPlane<true>;
/// The plane of the Data API, as a type.
pub type Data = OnPlane<false>;

/// A plane as a type; see [`Administration`] and [`Data`].
#[derive(Clone, Copy, Debug)]
pub struct OnPlane<const ADMINISTRATION: bool>;

/// A scope as a type; [`scopes!`](crate::scopes!) defines such types.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the type of a scope",
    label = "not the type of a scope",
    note = "define it with `portcullis::scopes!`, or use one of `portcullis::web::scopes`"
)]
pub trait TypedScope: Copy + Send + Sync + 'static {
    /// The scope.
    const SCOPE: Scope;
}

/// A scope of this plane: [`Administration`] if its name begins with `admin.`, else [`Data`].
#[diagnostic::on_unimplemented(
    message = "the scope `{Self}` is not of the plane of these routes",
    label = "a scope of the other plane",
    note = "`AdministrationApi` has the routes whose scopes begin with `admin.`, `DataApi` all others"
)]
pub trait ScopeOf<Plane>: TypedScope {}

/// Defines a type for each scope, and a function `registry()` that lists all of them for
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
/// A malformed name does not compile:
///
/// ```compile_fail
/// portcullis::scopes! { LedgerClose = "ledger close"; }
/// ```
///
/// This compiles:
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
                const SCOPE: $crate::Scope = $crate::Scope::from_static($text);
            }

            impl
                $crate::web::ScopeOf<
                    $crate::web::OnPlane<
                        {
                            ::core::matches!(
                                $crate::Plane::of($text),
                                $crate::Plane::Administration
                            )
                        },
                    >,
                > for $name
            {
            }

            const _: $crate::Scope = <$name as $crate::web::TypedScope>::SCOPE;
        )+

        /// Returns these scopes with their descriptions.
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

macro_rules! types {
    ($($_list:ident { $($name:ident $_constant:ident = $text:literal, $about:literal;)* })*) => {
        scopes! { $($(pub $name = $text, $about);+);+ }
    };
}

known_scopes!(types);

#[cfg(test)]
mod tests {
    use crate::Store;

    #[test]
    fn every_built_in_scope_has_a_type_with_the_same_description() {
        let scopes = crate::scope::catalogue::financial_data();
        let store = Store::builder().scopes(scopes).in_memory().unwrap();
        let known = store.catalogue().entries().iter();
        let mut known: Vec<_> =
            known.map(|e| (e.scope.clone(), e.description.clone().into_owned())).collect();
        known.rotate_left(6);
        assert_eq!(super::registry(), known);
    }
}
