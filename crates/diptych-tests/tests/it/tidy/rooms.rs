//! Rules over the inside of a crate: uses between its files, and the names of its types. The files
//! of a crate are its rooms.

use std::collections::{BTreeMap, BTreeSet};

use syn::{
    Attribute, Ident, Item, ItemImpl, ItemMod, ItemUse, UseTree, Visibility,
    punctuated::Punctuated, visit::Visit,
};

/// A path through the modules of a crate, without `crate` before it.
type Names = Vec<String>;

/// Nouns that end like a participle.
const NOUNS: &[&str] = &["Feed", "Need", "Seed", "Speed", "Embed"];
/// Participles that do not end in `ed`.
const IRREGULAR: &[&str] = &[
    "Begun",
    "Built",
    "Found",
    "Given",
    "Gone",
    "Heard",
    "Held",
    "Kept",
    "Known",
    "Lost",
    "Made",
    "Said",
    "Seen",
    "Sent",
    "Shown",
    "Spent",
    "Taken",
    "Thrown",
    "Told",
    "Understood",
    "Written",
];

/// The files of one crate.
pub(crate) struct House {
    name: String,
    rooms: BTreeMap<Names, Room>,
}

/// One file.
struct Room {
    path: String,
    /// The paths that it uses, as absolute paths.
    uses: BTreeSet<Names>,
    /// The paths that it uses and that lead out of the crate.
    foreign: BTreeSet<Names>,
    /// Names that it re-exports, as paths within the file, each with its origin in this crate. A
    /// name of another crate has none.
    exports: BTreeMap<Names, Option<Names>>,
    types: Vec<String>,
    /// Types that implement `Event` by hand.
    events: BTreeSet<String>,
    /// Modules that are compiled for tests alone, in files of their own.
    tests: Vec<Names>,
}

/// The uses of one file, for rules over the order of rooms.
pub(crate) struct FileUses<'a> {
    pub(crate) path: &'a str,
    /// The module of the file.
    pub(crate) at: &'a [String],
    /// The modules of other files that it uses.
    pub(crate) modules: BTreeSet<&'a Names>,
    /// The paths out of the crate that it uses.
    pub(crate) foreign: &'a BTreeSet<Names>,
}

impl House {
    /// The crate of this name, with the files below `src`.
    pub(crate) fn new(name: &str, src: &str, files: &[(String, String)]) -> syn::Result<House> {
        let own: Vec<_> = files.iter().filter(|(path, _)| path.starts_with(src)).collect();
        let has_library = own.iter().any(|(path, _)| *path == format!("{src}lib.rs"));
        let module = |path: &str| -> Names {
            let within = path.strip_prefix(src).unwrap_or(path);
            let within = within.strip_suffix(".rs").unwrap_or(within);
            let names: Names = within.split('/').map(str::to_owned).collect();
            match names.split_last() {
                Some((last, above)) if last == "mod" || last == "lib" => above.to_vec(),
                Some((last, above)) if last == "main" && !(above.is_empty() && has_library) => {
                    above.to_vec()
                }
                _ => names,
            }
        };
        // A folder with a `main.rs` is a separate program.
        let is_main = |(path, _): &&&(String, String)| path.ends_with("/main.rs");
        let programs: Vec<Names> =
            own.iter().filter(is_main).map(|(path, _)| module(path)).collect();
        let modules: BTreeSet<Names> = own.iter().map(|(path, _)| module(path)).collect();
        let mut rooms = BTreeMap::new();
        for (path, text) in own {
            let at = module(path);
            let root = programs.iter().filter(|program| at.starts_with(program));
            let root = root.max_by_key(|program| program.len()).cloned().unwrap_or_default();
            let room = Room {
                path: path.clone(),
                uses: BTreeSet::new(),
                foreign: BTreeSet::new(),
                exports: BTreeMap::new(),
                types: Vec::new(),
                events: BTreeSet::new(),
                tests: Vec::new(),
            };
            let mut reader =
                Reader { modules: &modules, root, file: at.clone(), at: at.clone(), room };
            reader.visit_file(&syn::parse_file(text)?);
            rooms.insert(at, reader.room);
        }
        Ok(House { name: name.to_owned(), rooms })
    }

    /// Files that import through the root of the crate, which hides the origin of a name, each with
    /// the number of such names.
    pub(crate) fn imports_through_the_root(&self) -> BTreeMap<String, usize> {
        let Some(root) = self.rooms.get(&Names::new()) else { return BTreeMap::new() };
        let handed_on = |used: &Names| {
            let is_module = used
                .first()
                .is_some_and(|name| self.rooms.contains_key(std::slice::from_ref(name)));
            let export = (1..=used.len()).map(|length| &used[..length]);
            let mut export = export.filter(|names| root.exports.contains_key(*names));
            export.next().filter(|_| !is_module).map(<[String]>::to_vec)
        };
        let rooms = self.rooms.iter().filter(|(at, _)| !at.is_empty());
        let counted = rooms.map(|(_, room)| {
            let names: BTreeSet<Names> = room.uses.iter().filter_map(handed_on).collect();
            (format!("root-import {}", room.path), names.len())
        });
        counted.filter(|(_, count)| *count > 0).collect()
    }

    /// The number of names that the root re-exports, of this crate and of others. Names in modules
    /// within its file are not at the root.
    pub(crate) fn names_at_the_root(&self) -> usize {
        let root = self.rooms.get(&Names::new());
        root.map_or(0, |root| root.exports.keys().filter(|names| names.len() == 1).count())
    }

    /// The uses of each file that is not for tests alone.
    pub(crate) fn uses(&self) -> Vec<FileUses<'_>> {
        let tests: Vec<&Names> = self.rooms.values().flat_map(|room| &room.tests).collect();
        let rooms = self.rooms.iter();
        let rooms = rooms.filter(|(at, _)| !tests.iter().any(|test| at.starts_with(test)));
        rooms
            .map(|(at, room)| FileUses {
                path: &room.path,
                at,
                modules: self.used_by(at, room),
                foreign: &room.foreign,
            })
            .collect()
    }

    /// Files that use each other in a circle, with the number of files in it.
    pub(crate) fn circles(&self) -> BTreeMap<String, usize> {
        let edges: BTreeMap<&Names, BTreeSet<&Names>> =
            self.rooms.iter().map(|(at, room)| (at, self.used_by(at, room))).collect();
        let reached: BTreeMap<_, _> = edges.keys().map(|at| (*at, reachable(at, &edges))).collect();
        let mut circles = BTreeMap::new();
        for (at, room) in &self.rooms {
            let back = |other: &&&Names| reached[*other].contains(at);
            let in_circle = reached[at].iter().filter(back).count();
            if in_circle > 1 {
                circles.insert(format!("circle {}", room.path), in_circle);
            }
        }
        circles
    }

    /// Types whose name is a bare participle, and names that several types share.
    pub(crate) fn names(&self) -> BTreeMap<String, usize> {
        let mut found = self.participles();
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        for name in self.rooms.values().flat_map(|room| &room.types) {
            *places.entry(name).or_default() += 1;
        }
        let twice = places.into_iter().filter(|(_, places)| *places > 1);
        found.extend(twice.map(|(name, places)| (format!("twice {} {name}", self.name), places)));
        found
    }

    /// Types whose name is a bare participle.
    pub(crate) fn participles(&self) -> BTreeMap<String, usize> {
        let mut found = BTreeMap::new();
        for room in self.rooms.values() {
            let types = room.types.iter().filter(|name| !room.events.contains(*name));
            let bare = types.filter(|name| is_participle(name));
            found.extend(bare.map(|name| (format!("participle {} {name}", room.path), 1)));
        }
        found
    }

    /// The rooms that a room uses. A submodule is a part of the modules above it, so uses between
    /// them do not count.
    fn used_by(&self, at: &Names, room: &Room) -> BTreeSet<&Names> {
        let used = room.uses.iter().filter_map(|path| self.room_of(path, 8));
        used.filter(|other| !other.starts_with(at) && !at.starts_with(other)).collect()
    }

    /// The room that defines the item at the end of a path.
    fn room_of(&self, path: &[String], hops: usize) -> Option<&Names> {
        let lengths = (0..=path.len()).rev();
        let (module, room) =
            lengths.filter_map(|length| self.rooms.get_key_value(&path[..length])).next()?;
        let within = &path[module.len()..];
        let handed_on = (1..=within.len()).find_map(|length| {
            let target = room.exports.get(&within[..length])?.as_ref()?;
            Some((target, &within[length..]))
        });
        match handed_on {
            Some((target, rest)) if hops > 0 && target.as_slice() != path => {
                let target = [target.as_slice(), rest].concat();
                self.room_of(&target, hops - 1)
            }
            _ => Some(module),
        }
    }
}

fn reachable<'a>(
    from: &'a Names,
    edges: &BTreeMap<&'a Names, BTreeSet<&'a Names>>,
) -> BTreeSet<&'a Names> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&Names> = edges[from].iter().copied().collect();
    while let Some(at) = next.pop() {
        if reached.insert(at) {
            next.extend(&edges[at]);
        }
    }
    reached
}

fn is_participle(name: &str) -> bool {
    let is_one_word = name.chars().filter(char::is_ascii_uppercase).count() == 1;
    let regular = name.ends_with("ed") && !NOUNS.contains(&name);
    is_one_word && (regular || IRREGULAR.contains(&name))
}

/// Reads one file.
struct Reader<'a> {
    modules: &'a BTreeSet<Names>,
    /// The module that `crate` stands for.
    root: Names,
    /// The module of the file.
    file: Names,
    /// The current module, which may be one within the file.
    at: Names,
    room: Room,
}

impl Reader<'_> {
    /// The path from the root of the sources, or `None` if it leads out of the crate.
    fn absolute(&self, names: &[String]) -> Option<Names> {
        let (first, rest) = names.split_first()?;
        let mut at = match first.as_str() {
            "crate" => self.root.clone(),
            "self" => self.at.clone(),
            "super" => self.at.split_last()?.1.to_vec(),
            name => {
                let mut child = self.at.clone();
                child.push(name.to_owned());
                return self.modules.contains(&child).then(|| {
                    child.extend_from_slice(rest);
                    child
                });
            }
        };
        for name in rest {
            match name.as_str() {
                "super" => at = at.split_last()?.1.to_vec(),
                name => at.push(name.to_owned()),
            }
        }
        Some(at)
    }

    fn names_path(&mut self, names: &[String]) {
        match self.absolute(names) {
            Some(path) => self.room.uses.insert(path),
            None => self.room.foreign.insert(names.to_vec()),
        };
    }

    fn use_tree(&mut self, tree: &UseTree, before: &mut Names, is_export: bool) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.use_tree(&path.tree, before, is_export);
                before.pop();
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.use_tree(tree, before, is_export));
            }
            UseTree::Glob(_) => self.names_path(before),
            UseTree::Name(name) => self.used(before, &name.ident, &name.ident, is_export),
            UseTree::Rename(name) => self.used(before, &name.ident, &name.rename, is_export),
        }
    }

    fn used(&mut self, before: &[String], name: &Ident, called: &Ident, is_export: bool) {
        let mut path = before.to_vec();
        if name != "self" {
            path.push(name.to_string());
        }
        self.names_path(&path);
        if is_export {
            let within = self.at.strip_prefix(self.file.as_slice()).unwrap_or(&[]);
            let called = [within, &[called.to_string()]].concat();
            self.room.exports.insert(called, self.absolute(&path));
        }
    }

    fn names_type(&mut self, name: &Ident, attributes: &[Attribute]) {
        if !attributes.iter().any(is_event) {
            self.room.types.push(name.to_string());
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        match item {
            Item::Struct(item) => self.names_type(&item.ident, &item.attrs),
            Item::Enum(item) => self.names_type(&item.ident, &item.attrs),
            Item::Trait(item) => self.names_type(&item.ident, &item.attrs),
            Item::Type(item) => self.names_type(&item.ident, &item.attrs),
            _ => {}
        }
        syn::visit::visit_item(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        let of = item.trait_.as_ref().and_then(|(of, _)| of.segments.last());
        if let (Some(of), syn::Type::Path(event)) = (of, &*item.self_ty)
            && of.ident == "Event"
            && let Some(name) = event.path.get_ident()
        {
            self.room.events.insert(name.to_string());
        }
        syn::visit::visit_item_impl(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if item.attrs.iter().any(is_cfg_test) {
            let name = [item.ident.to_string()];
            self.room.tests.push([self.at.as_slice(), &name].concat());
            return;
        }
        self.at.push(item.ident.to_string());
        syn::visit::visit_item_mod(self, item);
        self.at.pop();
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let is_export = !matches!(item.vis, Visibility::Inherited);
        self.use_tree(&item.tree, &mut Names::new(), is_export);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            let names: Names = path.segments.iter().map(|part| part.ident.to_string()).collect();
            self.names_path(&names);
        }
        syn::visit::visit_path(self, path);
    }
}

fn is_cfg_test(attribute: &Attribute) -> bool {
    let is_test = |list: &syn::MetaList| list.tokens.to_string() == "test";
    attribute.path().is_ident("cfg") && attribute.meta.require_list().is_ok_and(is_test)
}

/// Events are exempt, because their names are participles by design.
fn is_event(attribute: &Attribute) -> bool {
    let derived = |list: &syn::MetaList| {
        let parser = Punctuated::<syn::Path, syn::Token![,]>::parse_terminated;
        let named = list.parse_args_with(parser).unwrap_or_default();
        named
            .iter()
            .any(|path| path.segments.last().is_some_and(|last| is_derive_of_event(&last.ident)))
    };
    attribute.path().is_ident("derive") && attribute.meta.require_list().is_ok_and(derived)
}

fn is_derive_of_event(derive: &Ident) -> bool {
    derive == "Event" || derive == "PublicEvent"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn house(files: &[(&str, &str)]) -> House {
        let owned = |(path, text): &(&str, &str)| (format!("x/src/{path}"), (*text).to_owned());
        let files: Vec<_> = files.iter().map(owned).collect();
        House::new("x", "x/src/", &files).unwrap()
    }

    #[test]
    fn an_import_through_the_root_is_found_in_every_form() {
        let root = (
            "lib.rs",
            "mod a; mod b; mod c; pub use a::App; pub use uuid::{Uuid, Other as Id}; fn f() {} \
             pub mod topic { pub use other::Tag; }",
        );
        for used in [
            "use crate::App;",
            "use crate::{c, App};",
            "fn f() { crate::App::new(); }",
            "use crate::Uuid;",
            "use crate::{c, Id};",
            "use crate::topic::Tag;",
        ] {
            let house = house(&[root, ("a.rs", "pub struct App;"), ("b.rs", used)]);
            let expected = BTreeMap::from([("root-import x/src/b.rs".to_owned(), 1)]);
            assert_eq!(house.imports_through_the_root(), expected, "{used}");
        }
        for used in ["use crate::a::App;", "use crate::f;", "use other::App;", "struct App;"] {
            let house = house(&[root, ("a.rs", "pub struct App;"), ("b.rs", used)]);
            assert!(house.imports_through_the_root().is_empty(), "{used}");
        }
    }

    #[test]
    fn names_of_all_crates_at_the_root_are_counted() {
        let root = "mod a; pub use a::{A, B as C}; pub use other::{D, e::E as F}; use other::G; \
                    pub mod topic { pub use other::H; }";
        assert_eq!(house(&[("lib.rs", root), ("a.rs", "")]).names_at_the_root(), 4);
    }

    #[test]
    fn a_circle_of_files_is_found_also_through_the_root() {
        let root = ("lib.rs", "mod a; mod b; mod c; pub use a::A;");
        let circle = house(&[
            root,
            ("a.rs", "use crate::b::B; pub struct A;"),
            ("b.rs", "use crate::c; pub struct B;"),
            ("c.rs", "use super::A;"),
        ]);
        assert_eq!(circle.circles().into_values().collect::<Vec<_>>(), [3, 3, 3]);
        let line = house(&[
            root,
            ("a.rs", "use crate::b::B; pub struct A;"),
            ("b.rs", "use crate::c; pub struct B;"),
            ("c.rs", "#[cfg(test)] mod tests { use crate::a::A; }"),
        ]);
        assert!(line.circles().is_empty());
    }

    #[test]
    fn uses_between_a_module_and_its_submodules_do_not_count() {
        let house = house(&[
            ("lib.rs", "mod a;"),
            ("a.rs", "mod b; use b::B; pub struct A;"),
            ("a/b.rs", "use super::A; pub struct B;"),
        ]);
        assert!(house.circles().is_empty());
    }

    #[test]
    fn participles_and_shared_names_of_types_are_found() {
        let house = house(&[
            ("lib.rs", "mod a; struct Told; struct Feed; struct Kept<T>(T); enum Line {}"),
            ("a.rs", "trait Line {} type Shown = u8; struct TagRead; enum Outcome { Read }"),
            ("b.rs", "#[derive(Debug, diptych::Event)] struct Opened;"),
            ("c.rs", "struct Closed; impl diptych::Event for Closed { fn a() {} }"),
            ("d.rs", "#[derive(PublicEvent)] struct Sold; impl Clone for Moved {} struct Moved;"),
        ]);
        let names: Vec<_> = house.names().into_keys().collect();
        assert_eq!(
            names,
            [
                "participle x/src/a.rs Shown",
                "participle x/src/d.rs Moved",
                "participle x/src/lib.rs Kept",
                "participle x/src/lib.rs Told",
                "twice x Line",
            ]
        );
    }

    #[test]
    fn a_folder_with_a_main_file_has_its_own_root() {
        let house = house(&[
            ("lib.rs", "pub mod a;"),
            ("a.rs", "pub struct A;"),
            ("p/main.rs", "mod a; mod b;"),
            ("p/a.rs", "use crate::b::B; pub struct A;"),
            ("p/b.rs", "use crate::a::A; pub struct B;"),
        ]);
        let circles: Vec<_> = house.circles().into_keys().collect();
        assert_eq!(circles, ["circle x/src/p/a.rs", "circle x/src/p/b.rs"]);
    }
}
