//! The modules of each crate, and the resolution of paths within a crate.

use crate::reading::{Source, read, workspace};
use proc_macro2::Span;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};
use syn::{Item, UseTree, visit::Visit};

/// The sources of a crate. Module 0 is its root.
#[derive(Default)]
pub(crate) struct Crate {
    pub(crate) sources: Vec<Source>,
    pub(crate) modules: Vec<Module>,
}

/// A module: a whole file, or a block within one.
pub(crate) struct Module {
    /// An index into [`Crate::sources`].
    source: usize,
    pub(crate) parent: Option<usize>,
    /// In the order of the file.
    pub(crate) children: Vec<(String, usize)>,
    pub(crate) items: Vec<Item>,
    pub(crate) imports: Vec<Import>,
    defined: BTreeSet<String>,
}

/// A leaf of a `use` item. The name is `*` for all names of the path.
#[derive(Clone)]
pub(crate) struct Import {
    pub(crate) name: String,
    pub(crate) path: Vec<String>,
    pub(crate) line: usize,
    pub(crate) is_reexport: bool,
}

/// The target of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    Module(usize),
    Item { module: usize, name: String },
}

impl Crate {
    /// Reads the tree of modules below the file `root`. `read` returns the text of a file.
    pub(crate) fn read(root: &str, read: &mut dyn FnMut(&str) -> Option<String>) -> Self {
        let mut found = Self::default();
        found.add_file(root, "crate", None, true, read);
        found
    }

    fn add_file(
        &mut self,
        path: &str,
        name: &str,
        parent: Option<usize>,
        owns_its_folder: bool,
        read: &mut dyn FnMut(&str) -> Option<String>,
    ) -> usize {
        let text = read(path).unwrap_or_else(|| panic!("{path} cannot be read"));
        let source = Source::new(path, &text);
        let file: syn::File = syn::parse2(source.code.clone()).unwrap_or_else(|error| {
            panic!("{path}:{}: without tests: {error}", error.span().start().line)
        });
        self.sources.push(source);
        let folder = match Path::new(path).parent().zip(Path::new(path).file_stem()) {
            Some((folder, _)) if owns_its_folder => folder.to_owned(),
            Some((folder, stem)) => folder.join(stem),
            None => PathBuf::new(),
        };
        let module = self.add_module(name, self.sources.len() - 1, parent);
        self.add_items(module, file.items, &folder, path, read);
        module
    }

    fn add_module(&mut self, name: &str, source: usize, parent: Option<usize>) -> usize {
        self.modules.push(Module {
            source,
            parent,
            children: Vec::new(),
            items: Vec::new(),
            defined: BTreeSet::new(),
            imports: Vec::new(),
        });
        let module = self.modules.len() - 1;
        if let Some(parent) = parent {
            self.modules[parent].children.push((name.to_owned(), module));
        }
        module
    }

    fn add_items(
        &mut self,
        module: usize,
        items: Vec<Item>,
        folder: &Path,
        file: &str,
        read: &mut dyn FnMut(&str) -> Option<String>,
    ) {
        let source = self.modules[module].source;
        let mut kept = Vec::new();
        for item in items {
            if let Item::Mod(block) = item {
                let name = block.ident.to_string();
                if let Some((_, items)) = block.content {
                    let child = self.add_module(&name, source, Some(module));
                    self.add_items(child, items, &folder.join(&name), file, read);
                } else if let Some(given) = path_attribute(&block.attrs) {
                    let path = Path::new(file).parent().unwrap_or(Path::new("")).join(given);
                    self.add_file(&plain(&path), &name, Some(module), true, read);
                } else {
                    let alone = plain(&folder.join(format!("{name}.rs")));
                    let within = plain(&folder.join(&name).join("mod.rs"));
                    let is_alone = read(&alone).is_some();
                    let path = if is_alone { alone } else { within };
                    self.add_file(&path, &name, Some(module), !is_alone, read);
                }
            } else {
                self.modules[module].defined.extend(name_of(&item));
                kept.push(item);
            }
        }
        let mut uses = Uses::default();
        for item in &kept {
            uses.visit_item(item);
        }
        self.modules[module].imports = uses.0;
        self.modules[module].items = kept;
    }

    pub(crate) fn path(&self, module: usize) -> &str {
        &self.sources[self.modules[module].source].path
    }

    /// Returns the top-level module that contains this one; `None` for the root.
    pub(crate) fn top_level_module(&self, module: usize) -> Option<usize> {
        match self.modules[module].parent? {
            0 => Some(module),
            parent => self.top_level_module(parent),
        }
    }

    /// Resolves a path within a module; `None` if it refers to another crate.
    pub(crate) fn resolve(&self, module: usize, path: &[String]) -> Option<Target> {
        self.resolve_once(module, path, &mut BTreeSet::new())
    }

    /// Returns whether a single name within a module refers to this crate.
    pub(crate) fn knows(&self, module: usize, name: &str) -> bool {
        self.resolve(module, &[name.to_owned()]).is_some()
    }

    fn resolve_once(
        &self,
        module: usize,
        path: &[String],
        seen: &mut BTreeSet<(usize, String)>,
    ) -> Option<Target> {
        let (first, rest) = path.split_first()?;
        let mut target = match first.as_str() {
            "crate" => Target::Module(0),
            "self" => Target::Module(module),
            "super" => Target::Module(self.modules[module].parent?),
            name => self.lookup(module, name, seen)?,
        };
        for name in rest {
            target = match target {
                Target::Module(module) if name == "super" => {
                    Target::Module(self.modules[module].parent?)
                }
                Target::Module(module) if name == "self" => Target::Module(module),
                Target::Module(module) => self.lookup(module, name, seen)?,
                item @ Target::Item { .. } => return Some(item),
            };
        }
        Some(target)
    }

    fn lookup(
        &self,
        module: usize,
        name: &str,
        seen: &mut BTreeSet<(usize, String)>,
    ) -> Option<Target> {
        if !seen.insert((module, name.to_owned())) {
            return None;
        }
        let Module { children, defined, imports, .. } = &self.modules[module];
        if let Some((_, child)) = children.iter().find(|(child, _)| child == name) {
            return Some(Target::Module(*child));
        }
        if defined.contains(name) {
            return Some(Target::Item { module, name: name.to_owned() });
        }
        let named = imports.iter().filter(|import| import.name == name);
        let mut named = named.filter_map(|import| self.resolve_once(module, &import.path, seen));
        if let Some(target) = named.next() {
            return Some(target);
        }
        let mut globs = imports.iter().filter(|import| import.name == "*");
        globs.find_map(|import| match self.resolve_once(module, &import.path, seen)? {
            Target::Module(other) => self.lookup(other, name, seen),
            Target::Item { .. } => None,
        })
    }
}

/// Collects the leaves of all `use` items, also of those within functions.
#[derive(Default)]
struct Uses(Vec<Import>);

impl Visit<'_> for Uses {
    fn visit_item_use(&mut self, item: &syn::ItemUse) {
        let is_reexport = !matches!(item.vis, syn::Visibility::Inherited);
        let mut before = item.leading_colon.map(|_| String::new()).into_iter().collect();
        leaves(&item.tree, &mut before, is_reexport, &mut self.0);
    }
}

fn leaves(tree: &UseTree, before: &mut Vec<String>, is_reexport: bool, found: &mut Vec<Import>) {
    let mut add = |name: String, last: Option<String>, span: Span, before: &[String]| {
        let path = before.iter().cloned().chain(last).collect();
        found.push(Import { name, path, line: span.start().line, is_reexport });
    };
    match tree {
        UseTree::Path(path) => {
            before.push(path.ident.to_string());
            leaves(&path.tree, before, is_reexport, found);
            before.pop();
        }
        UseTree::Name(leaf) if leaf.ident == "self" => {
            let name = before.last().cloned().unwrap_or_default();
            add(name, None, leaf.ident.span(), before);
        }
        UseTree::Name(leaf) => {
            let name = leaf.ident.to_string();
            add(name.clone(), Some(name), leaf.ident.span(), before);
        }
        UseTree::Rename(leaf) => {
            let last = Some(leaf.ident.to_string()).filter(|last| last != "self");
            add(leaf.rename.to_string(), last, leaf.ident.span(), before);
        }
        UseTree::Glob(leaf) => {
            add("*".to_owned(), None, leaf.star_token.spans[0], before);
        }
        UseTree::Group(group) => {
            for tree in &group.items {
                leaves(tree, before, is_reexport, found);
            }
        }
    }
}

fn name_of(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

fn path_attribute(attributes: &[syn::Attribute]) -> Option<String> {
    let given = attributes.iter().find(|attribute| attribute.path().is_ident("path"))?;
    match &given.meta {
        syn::Meta::NameValue(syn::MetaNameValue { value: syn::Expr::Lit(literal), .. }) => {
            match &literal.lit {
                syn::Lit::Str(text) => Some(text.value()),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Resolves the `..` of a path without the file system.
fn plain(path: &Path) -> String {
    let mut parts: Vec<_> = Vec::new();
    for part in path.components() {
        match part.as_os_str().to_string_lossy() {
            part if part == ".." => drop(parts.pop()),
            part => parts.push(part.into_owned()),
        }
    }
    parts.join("/")
}

/// Crates that only tests use. They have no layers, and they use sled directly to damage its files.
pub(crate) const FOR_TESTS: &[&str] = &["crates/needs", "crates/testkit"];

/// Returns every crate of the product with the path of its root. A package may have a library and a
/// program.
pub(crate) fn crates() -> impl Iterator<Item = (String, Crate)> {
    let others = fs::read_dir(workspace().join("crates")).into_iter().flatten().flatten();
    let others = others.filter(|entry| entry.path().join("Cargo.toml").exists());
    let others = others.map(|entry| format!("crates/{}", entry.file_name().to_string_lossy()));
    let others = others.filter(|folder| !FOR_TESTS.contains(&folder.as_str()));
    let others = others.map(|folder| format!("{folder}/src"));
    let folders = others.chain(["src".to_owned()]);
    let roots = folders
        .flat_map(|folder| ["lib.rs", "main.rs"].map(|root| format!("{folder}/{root}")))
        .filter(|root| workspace().join(root).exists());
    roots.map(|root| {
        let krate = Crate::read(&root, &mut read);
        (root, krate)
    })
}
