//! The dependency graph of files, and its cycles.

use crate::{
    modules::{Crate, Target},
    references::{Kind, RECEIVER, Reference, references, type_of_block},
};
use std::collections::{BTreeMap, BTreeSet};
use syn::{ImplItem, Item, TraitItem};

/// For each pair of files: the items of the second that the first uses, each with its first line.
pub(crate) type Edges = BTreeMap<(String, String), BTreeMap<String, usize>>;

/// The module of each method, by its type and its name.
type Methods = BTreeMap<(Target, String), usize>;

/// Returns which files of a crate use items of which others. Modules, re-exports and tests do not
/// count as uses.
pub(crate) fn edges(krate: &Crate) -> Edges {
    let (methods, of_traits) = (methods(krate), methods_of_traits(krate));
    let mut found = Edges::new();
    for reference in references(krate) {
        if reference.kind == Kind::Reexport {
            continue;
        }
        let Some(Target::Item { module, name }) = target(krate, &methods, &of_traits, &reference)
        else {
            continue;
        };
        let mut add = |to: usize, item: &str| {
            let (from, to) = (krate.path(reference.module), krate.path(to));
            if from != to {
                let items = found.entry((from.to_owned(), to.to_owned())).or_default();
                items.entry(item.to_owned()).or_insert(reference.line);
            }
        };
        add(module, &name);
        if let [_, .., method] = reference.path.as_slice() {
            let method = (Target::Item { module, name }, method.clone());
            if let Some(&module) = methods.get(&method) {
                add(module, &method.1);
            }
        }
    }
    found
}

/// Returns the item that a reference names. The type of a receiver is unknown, but the name of a
/// method identifies it if no other type and no trait has that name. Such a method matters only if
/// it is in another file than its type.
fn target(
    krate: &Crate,
    methods: &Methods,
    of_traits: &BTreeSet<String>,
    reference: &Reference,
) -> Option<Target> {
    match reference.path.as_slice() {
        [receiver, method] if receiver == RECEIVER => {
            if of_traits.contains(method) {
                return None;
            }
            let mut found = methods.iter().filter(|((_, name), _)| name == method);
            let ((own, _), module) = found.next().filter(|_| found.next().is_none())?;
            let Target::Item { module: of_type, .. } = own else { return None };
            (krate.path(*of_type) != krate.path(*module)).then(|| own.clone())
        }
        _ => reference.target(krate),
    }
}

/// Returns the module of each method of a type. It may differ from the module of the type.
fn methods(krate: &Crate) -> Methods {
    let mut found = BTreeMap::new();
    for (module, content) in krate.modules.iter().enumerate() {
        for item in &content.items {
            let Item::Impl(block) = item else { continue };
            let Some(own_type) = type_of_block(krate, module, block) else { continue };
            if block.trait_.is_some() {
                continue;
            }
            let names = block.items.iter().filter_map(|item| match item {
                ImplItem::Fn(item) => Some(item.sig.ident.to_string()),
                ImplItem::Const(item) => Some(item.ident.to_string()),
                _ => None,
            });
            found.extend(names.map(|name| ((own_type.clone(), name), module)));
        }
    }
    found
}

fn methods_of_traits(krate: &Crate) -> BTreeSet<String> {
    let items = krate.modules.iter().flat_map(|module| &module.items);
    let traits =
        items.filter_map(|item| if let Item::Trait(item) = item { Some(item) } else { None });
    let names = traits.flat_map(|item| &item.items).filter_map(|item| match item {
        TraitItem::Fn(item) => Some(item.sig.ident.to_string()),
        _ => None,
    });
    names.collect()
}

/// Returns each set of files that use one another, directly or indirectly.
pub(crate) fn cycles(edges: &Edges) -> BTreeSet<BTreeSet<String>> {
    let mut next: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (from, to) in edges.keys() {
        next.entry(from).or_default().insert(to);
    }
    let reached_from = |file| {
        let mut reached = BTreeSet::new();
        let mut open = vec![file];
        while let Some(file) = open.pop() {
            let further = next.get(file).into_iter().flatten();
            open.extend(further.filter(|file| reached.insert(**file)));
        }
        reached
    };
    let reached: BTreeMap<_, _> = next.keys().map(|&file| (file, reached_from(file))).collect();
    let mut found = BTreeSet::new();
    for (file, others) in &reached {
        let leads_back =
            |other: &&&str| reached.get(**other).is_some_and(|back| back.contains(file));
        let cycle: BTreeSet<_> =
            others.iter().filter(leads_back).map(|&file| file.to_owned()).collect();
        if !cycle.is_empty() {
            found.insert(cycle);
        }
    }
    found
}

/// Describes a cycle, with one line for each edge.
pub(crate) fn describe(cycle: &BTreeSet<String>, edges: &Edges) -> String {
    let within = |(from, to): &(String, String)| cycle.contains(from) && cycle.contains(to);
    let lines = edges.iter().filter(|(files, _)| within(files)).map(|((from, to), items)| {
        let items: Vec<_> =
            items.iter().map(|(name, line)| format!("{name} (line {line})")).collect();
        format!("    {from} → {to}: {}\n", items.join(", "))
    });
    format!("a cycle of {} files:\n{}", cycle.len(), lines.collect::<String>())
}
