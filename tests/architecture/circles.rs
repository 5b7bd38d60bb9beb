//! The graph of files, each using items of others, and its circles.

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

/// The uses of items in a crate. Modules, re-exports and tests are no uses.
pub(crate) fn edges(house: &Crate) -> Edges {
    let (methods, of_traits) = (methods(house), methods_of_traits(house));
    let mut found = Edges::new();
    for reference in references(house) {
        if reference.kind == Kind::Reexport {
            continue;
        }
        let Some(Target::Item { module, name }) = target(house, &methods, &of_traits, &reference)
        else {
            continue;
        };
        let mut add = |to: usize, item: &str| {
            let (from, to) = (house.path(reference.module), house.path(to));
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

/// The type of a receiver is not known. But a method that stands in another file than its type, and
/// whose name no other type and no trait has, tells it.
fn target(
    house: &Crate,
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
            (house.path(*of_type) != house.path(*module)).then(|| own.clone())
        }
        _ => reference.target(house),
    }
}

/// The module in which each method of a type stands: it may be another than the type's.
fn methods(house: &Crate) -> Methods {
    let mut found = BTreeMap::new();
    for (module, content) in house.modules.iter().enumerate() {
        for item in &content.items {
            let Item::Impl(block) = item else { continue };
            let Some(own_type) = type_of_block(house, module, block) else { continue };
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

fn methods_of_traits(house: &Crate) -> BTreeSet<String> {
    let items = house.modules.iter().flat_map(|module| &module.items);
    let traits =
        items.filter_map(|item| if let Item::Trait(item) = item { Some(item) } else { None });
    let names = traits.flat_map(|item| &item.items).filter_map(|item| match item {
        TraitItem::Fn(item) => Some(item.sig.ident.to_string()),
        _ => None,
    });
    names.collect()
}

/// Each set of files of which every one uses every other, directly or through others.
pub(crate) fn circles(edges: &Edges) -> BTreeSet<BTreeSet<String>> {
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
        let circle: BTreeSet<_> =
            others.iter().filter(leads_back).map(|&file| file.to_owned()).collect();
        if !circle.is_empty() {
            found.insert(circle);
        }
    }
    found
}

/// The edges of a circle in words, a line for each.
pub(crate) fn in_words(circle: &BTreeSet<String>, edges: &Edges) -> String {
    let within = |(from, to): &(String, String)| circle.contains(from) && circle.contains(to);
    let lines = edges.iter().filter(|(files, _)| within(files)).map(|((from, to), items)| {
        let items: Vec<_> =
            items.iter().map(|(name, line)| format!("{name} (line {line})")).collect();
        format!("    {from} → {to}: {}\n", items.join(", "))
    });
    format!("a circle of {} files:\n{}", circle.len(), lines.collect::<String>())
}
