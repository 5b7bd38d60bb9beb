//! All paths in the code of a crate.

use crate::{
    modules::{Crate, Target},
    reading::is_punct,
};
use proc_macro2::{TokenStream, TokenTree};
use syn::{
    spanned::Spanned,
    visit::{self, Visit},
};

pub(crate) const RECEIVER: &str = ".";

/// A path in the code of a module.
pub(crate) struct Reference {
    pub(crate) module: usize,
    /// A path from `::` begins with an empty name. A call of a method begins with `Self`, or with
    /// [`RECEIVER`] where the type of the receiver is not known.
    pub(crate) path: Vec<String>,
    pub(crate) line: usize,
    pub(crate) kind: Kind,
    /// The type that `Self` stands for.
    pub(crate) own_type: Option<Target>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Import,
    Reexport,
    Code,
}

impl Reference {
    pub(crate) fn target(&self, krate: &Crate) -> Option<Target> {
        match self.path.first() {
            Some(first) if first == "Self" => self.own_type.clone(),
            _ => krate.resolve(self.module, &self.path),
        }
    }
}

/// All references of a crate.
pub(crate) fn references(krate: &Crate) -> Vec<Reference> {
    let mut found = Vec::new();
    for (module, content) in krate.modules.iter().enumerate() {
        found.extend(content.imports.iter().map(|import| Reference {
            module,
            path: import.path.clone(),
            line: import.line,
            kind: if import.is_reexport { Kind::Reexport } else { Kind::Import },
            own_type: None,
        }));
        let mut walk = Walk { krate, module, own_type: None, found: &mut found };
        for item in &content.items {
            walk.visit_item(item);
        }
    }
    found
}

/// The type of an `impl` block, if it is one of this crate.
pub(crate) fn type_of_block(krate: &Crate, module: usize, block: &syn::ItemImpl) -> Option<Target> {
    match &*block.self_ty {
        syn::Type::Path(path) => krate.resolve(module, &names(&path.path)),
        _ => None,
    }
}

fn names(path: &syn::Path) -> Vec<String> {
    let outside = path.leading_colon.map(|_| String::new());
    let inner = path.segments.iter().map(|segment| segment.ident.to_string());
    outside.into_iter().chain(inner).collect()
}

struct Walk<'a> {
    krate: &'a Crate,
    module: usize,
    own_type: Option<Target>,
    found: &'a mut Vec<Reference>,
}

impl Walk<'_> {
    fn add(&mut self, path: Vec<String>, line: usize) {
        let (module, own_type) = (self.module, self.own_type.clone());
        self.found.push(Reference { module, path, line, kind: Kind::Code, own_type });
    }

    /// Adds the paths among the arguments of a macro or an attribute.
    fn add_tokens(&mut self, code: TokenStream) {
        let tokens: Vec<_> = code.into_iter().collect();
        let mut rest = tokens.as_slice();
        let mut is_field = false;
        while let [first, after @ ..] = rest {
            rest = after;
            match first {
                TokenTree::Group(group) => self.add_tokens(group.stream()),
                TokenTree::Ident(name) if !is_field => {
                    let mut path = vec![name.to_string()];
                    while let [one, two, TokenTree::Ident(next), after @ ..] = rest {
                        if !is_punct(one, ':') || !is_punct(two, ':') {
                            break;
                        }
                        path.push(next.to_string());
                        rest = after;
                    }
                    self.add(path, name.span().start().line);
                }
                _ => {}
            }
            is_field = is_punct(first, '.');
        }
    }
}

impl<'ast> Visit<'ast> for Walk<'_> {
    // The module's imports have them.
    fn visit_item_use(&mut self, _: &'ast syn::ItemUse) {}

    fn visit_vis_restricted(&mut self, visibility: &'ast syn::VisRestricted) {
        if visibility.in_token.is_some() {
            visit::visit_vis_restricted(self, visibility);
        }
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        let path = vec![String::new(), item.ident.to_string()];
        self.add(path, item.ident.span().start().line);
    }

    fn visit_item_impl(&mut self, block: &'ast syn::ItemImpl) {
        let outer = self.own_type.take();
        self.own_type = type_of_block(self.krate, self.module, block);
        visit::visit_item_impl(self, block);
        self.own_type = outer;
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.add(names(path), path.span().start().line);
        visit::visit_path(self, path);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        let is_own = matches!(&*call.receiver, syn::Expr::Path(path) if path.path.is_ident("self"));
        let receiver = if is_own { "Self" } else { RECEIVER };
        let path = vec![receiver.to_owned(), call.method.to_string()];
        self.add(path, call.method.span().start().line);
        visit::visit_expr_method_call(self, call);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.add_tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if let syn::Meta::List(list) = &attribute.meta
            && !["cfg", "cfg_attr", "expect", "allow"].iter().any(|is| list.path.is_ident(is))
        {
            self.add_tokens(list.tokens.clone());
        }
    }
}
