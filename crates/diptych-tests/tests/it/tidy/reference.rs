//! Rules over the pages of reference. Each public error and each option of the code has a row on
//! its page, each row belongs to something in the code, and each default is that of the code.

use std::collections::{BTreeMap, BTreeSet};

use quote::ToTokens;
use syn::{Expr, ExprLit, Fields, Item, Lit, Visibility, visit::Visit};

/// Differences between the public errors of these crates and the rows of a page. A row stands under
/// the crate's name as a heading, and that of an enum also under the enum's name.
pub(crate) fn errors_out_of_step(sources: &[(String, String)], page: &str) -> Vec<String> {
    let code = errors(sources);
    let page: BTreeSet<String> = rows(page).into_iter().map(|row| row.name).collect();
    let missing = code.difference(&page).map(|name| format!("{name} has no row on the page"));
    let gone = page.difference(&code).map(|name| format!("{name} is no error of the code"));
    missing.chain(gone).collect()
}

/// Differences between the options of these crates and the rows of a page: fields without a row,
/// rows without a field or constant, and other defaults.
///
/// A row names a field (under its type as a heading) or a constant (`Type::NAME`, or `file::NAME`
/// for one without a type). Each field of options and each public constant needs a row.
pub(crate) fn limits_out_of_step(sources: &[(String, String)], page: &str) -> Vec<String> {
    let code = Options::of(sources);
    let mut named = BTreeSet::new();
    let mut problems = Vec::new();
    for row in rows(page) {
        let is_constant = |name: &str| name.rsplit("::").next().is_some_and(is_upper);
        let found = code.defaults.get(&row.name).or_else(|| code.constants.get(&row.name));
        match found {
            Some(default) if !default.is_shown_by(&row.value) => {
                problems.push(format!("{} is {default} and not {}", row.name, row.value));
            }
            Some(_) => {}
            None if is_constant(&row.name) || code.has_type(&row.name) => {
                problems.push(format!("{} is not in the code", row.name));
            }
            // A setting of a builder: its constants have rows of their own.
            None => {}
        }
        named.insert(row.name);
    }
    let needed = code.defaults.keys().chain(&code.public_constants);
    let is_of_one_call =
        |name: &str| OF_ONE_CALL.iter().any(|options| name.contains(&format!(" {options}::")));
    let missing = needed.filter(|name| !named.contains(*name) && !is_of_one_call(name));
    problems.extend(missing.map(|name| format!("{name} has no row on the page")));
    problems
}

/// A row of a table: the name of its first cell after the names of its headings, and its second
/// cell. A first cell with several names gives several rows.
struct Row {
    name: String,
    value: String,
}

/// The rows of all tables whose first cells have names in code.
fn rows(page: &str) -> Vec<Row> {
    let (mut area, mut type_name) = (None, None);
    let mut rows = Vec::new();
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            (area, type_name) = (code_of(heading).into_iter().next(), None);
        } else if let Some(heading) = line.strip_prefix("### ") {
            type_name = code_of(heading).into_iter().next();
        } else if let (Some(row), Some(area)) = (cells_of(line), area) {
            let mut cells = row.split(" | ").map(str::trim);
            let (names, value) = (cells.next().unwrap_or(""), cells.next().unwrap_or(""));
            for name in code_of(names) {
                let name = match type_name {
                    Some(type_name) if !name.contains("::") => format!("{type_name}::{name}"),
                    _ => name.to_owned(),
                };
                rows.push(Row { name: format!("{area} {name}"), value: value.to_owned() });
            }
        }
    }
    rows
}

/// A row of a table without its outer bars.
fn cells_of(line: &str) -> Option<&str> {
    line.strip_prefix("| ").map(|row| row.trim_end_matches('|').trim_end())
}

/// The pieces of code in a text.
fn code_of(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The public error types, each as `crate Type`, or `crate Type::Variant` for each variant.
fn errors(sources: &[(String, String)]) -> BTreeSet<String> {
    let mut found = Errors::default();
    each_file(sources, |package, _, file| {
        package.clone_into(&mut found.package);
        found.visit_file(file);
    });
    let public = found.types.into_iter().filter(|(name, _)| found.errors.contains(name));
    public.flat_map(|(_, rows)| rows).collect()
}

#[derive(Default)]
struct Errors {
    package: String,
    /// Public types with their rows, by package and name.
    types: BTreeMap<String, Vec<String>>,
    /// Types that implement `Error`.
    errors: BTreeSet<String>,
}

impl Errors {
    fn add(&mut self, item: (&syn::Ident, &Visibility, &[syn::Attribute]), variants: &[String]) {
        let (ident, visibility, attributes) = item;
        let name = format!("{} {ident}", self.package);
        let is_error = attributes.iter().any(|attribute| {
            let text = attribute.to_token_stream().to_string();
            attribute.path().is_ident("derive") && text.contains("thiserror :: Error")
        });
        if is_error {
            self.errors.insert(name.clone());
        }
        if matches!(visibility, Visibility::Public(_)) {
            let rows = variants.iter().map(|variant| format!("{name}::{variant}")).collect();
            self.types.insert(name.clone(), if variants.is_empty() { vec![name] } else { rows });
        }
    }
}

impl<'ast> Visit<'ast> for Errors {
    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        let variants: Vec<_> = item.variants.iter().map(|one| one.ident.to_string()).collect();
        self.add((&item.ident, &item.vis, &item.attrs), &variants);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.add((&item.ident, &item.vis, &item.attrs), &[]);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let of_trait = item.trait_.as_ref().and_then(|(path, ..)| last_of(path));
        if of_trait.is_some_and(|name| name == "Error")
            && let Some(name) = type_name(&item.self_ty)
        {
            self.errors.insert(format!("{} {name}", self.package));
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_for_tests(&item.attrs) {
            syn::visit::visit_item_mod(self, item);
        }
    }
}

/// A value of the code, as far as a page can show it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Number(u128),
    Micros(u128),
    /// A variant, or the type whose defaults count.
    Name(String),
    /// A value without a default.
    Required,
}

impl Value {
    fn is_shown_by(&self, cell: &str) -> bool {
        match self {
            Value::Number(number) => numbers(cell).is_some_and(|shown| shown == *number),
            Value::Micros(micros) => duration(cell).is_some_and(|shown| shown == *micros),
            Value::Name(name) if name == "None" => cell == "none",
            Value::Name(name) => code_of(cell).contains(&name.as_str()),
            Value::Required => cell == "required",
        }
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Number(number) => write!(f, "{number}"),
            Value::Micros(micros) => write!(f, "{micros} microseconds"),
            Value::Name(name) => write!(f, "`{name}`"),
            Value::Required => f.write_str("required"),
        }
    }
}

/// The number in a cell such as `65,536` or `4 MiB`.
fn numbers(cell: &str) -> Option<u128> {
    let (digits, unit) = cell.split_once(' ').unwrap_or((cell, ""));
    let number: u128 = digits.replace(',', "").parse().ok()?;
    match unit {
        "" => Some(number),
        "KiB" => Some(number << 10),
        "MiB" => Some(number << 20),
        _ => None,
    }
}

/// The microseconds in a cell such as `250 ms` or `5 min`.
fn duration(cell: &str) -> Option<u128> {
    let (digits, unit) = cell.split_once(' ')?;
    let number: u128 = digits.replace(',', "").parse().ok()?;
    let of_unit = match unit {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "min" => 60_000_000,
        "h" => 3_600_000_000,
        _ => return None,
    };
    Some(number * of_unit)
}

/// The options of one command or query. None of them bounds anything.
const OF_ONE_CALL: [&str; 3] = ["AskOptions", "ExecuteOptions", "ExplainOptions"];

/// The options and constants of the code, by package and name.
#[derive(Default)]
struct Options {
    package: String,
    stem: String,
    /// Each public field of options, with its default.
    defaults: BTreeMap<String, Value>,
    constants: BTreeMap<String, Value>,
    public_constants: BTreeSet<String>,
    /// The public fields of each public type.
    fields: BTreeMap<String, Vec<String>>,
    /// The default variant of each enum.
    variants: BTreeMap<String, String>,
}

impl Options {
    fn of(sources: &[(String, String)]) -> Options {
        let mut options = Options::default();
        // The declarations come first, because defaults name them.
        each_file(sources, |package, stem, file| options.declarations(package, stem, file));
        each_file(sources, |package, _, file| options.values(package, file));
        for (name, fields) in &options.fields {
            let is_options =
                ["Options", "Limits", "Schedule"].iter().any(|end| name.ends_with(end));
            for field in fields.iter().filter(|_| is_options) {
                options.defaults.entry(format!("{name}::{field}")).or_insert(Value::Required);
            }
        }
        options
    }

    fn has_type(&self, name: &str) -> bool {
        let type_name = name.rsplit_once("::").map_or(name, |(type_name, _)| type_name);
        self.fields.contains_key(type_name)
    }

    fn declarations(&mut self, package: &str, stem: &str, file: &syn::File) {
        package.clone_into(&mut self.package);
        stem.clone_into(&mut self.stem);
        self.visit_file(file);
    }

    /// Reads `impl Default` of each type whose public fields are options.
    fn values(&mut self, package: &str, file: &syn::File) {
        for item in &file.items {
            let Item::Impl(item) = item else { continue };
            let of_trait = item.trait_.as_ref().and_then(|(path, ..)| last_of(path));
            let Some(name) = type_name(&item.self_ty) else { continue };
            let name = format!("{package} {name}");
            let (Some("Default"), Some(fields)) = (of_trait.as_deref(), self.fields.get(&name))
            else {
                continue;
            };
            let mut literal = Literal { fields, found: Vec::new() };
            literal.visit_item_impl(item);
            for (field, value) in literal.found {
                let value = self.value(&value);
                self.defaults.insert(format!("{name}::{field}"), value);
            }
        }
    }

    fn constant(&mut self, owner: &str, name: &syn::Ident, value: &Expr, is_public: bool) {
        let value = self.value(value);
        if matches!(value, Value::Number(_) | Value::Micros(_)) {
            let name = format!("{} {owner}::{name}", self.package);
            if is_public {
                self.public_constants.insert(name.clone());
            }
            self.constants.insert(name, value);
        }
    }

    fn value(&self, expr: &Expr) -> Value {
        if let Some(number) = number(expr) {
            return Value::Number(number);
        }
        if let Expr::MethodCall(text) = expr
            && text.method == "to_owned"
            && let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = &*text.receiver
        {
            return Value::Name(text.value());
        }
        let Expr::Call(call) = expr else { return Value::Name(last_name(expr)) };
        let function = last_name(&call.func);
        let argument = call.args.first();
        let units = [("from_secs", 1_000_000), ("from_millis", 1_000), ("from_micros", 1)];
        let unit = units.iter().find(|(name, _)| *name == function);
        if let (Some((_, unit)), Some(number)) = (unit, argument.and_then(number)) {
            return Value::Micros(number * unit);
        }
        match (function.as_str(), argument) {
            ("default", None) => {
                let owner = owner_name(&call.func);
                let variant = self.variants.get(&owner);
                Value::Name(variant.cloned().unwrap_or(owner))
            }
            // A pointer to the value.
            ("new", Some(argument)) => self.value(argument),
            _ => Value::Name(function),
        }
    }
}

impl<'ast> Visit<'ast> for Options {
    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        let Fields::Named(fields) = &item.fields else { return };
        let is_public = |visibility: &Visibility| matches!(visibility, Visibility::Public(_));
        let public = fields.named.iter().filter(|field| is_public(&field.vis));
        let names: Vec<_> =
            public.filter_map(|field| Some(field.ident.as_ref()?.to_string())).collect();
        if is_public(&item.vis) && !names.is_empty() {
            self.fields.insert(format!("{} {}", self.package, item.ident), names);
        }
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        let is_default =
            |one: &&syn::Variant| one.attrs.iter().any(|attr| attr.path().is_ident("default"));
        if let Some(default) = item.variants.iter().find(is_default) {
            self.variants.insert(item.ident.to_string(), default.ident.to_string());
        }
    }

    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        let stem = self.stem.clone();
        self.constant(&stem, &item.ident, &item.expr, false);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let (Some(owner), None) = (type_name(&item.self_ty), &item.trait_) else { return };
        for item in &item.items {
            if let syn::ImplItem::Const(item) = item {
                let is_public = matches!(item.vis, Visibility::Public(_));
                self.constant(&owner, &item.ident, &item.expr, is_public);
            }
        }
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        let is_public = matches!(item.vis, Visibility::Public(_));
        for constant in &item.items {
            if let syn::TraitItem::Const(constant) = constant
                && let Some((_, value)) = &constant.default
            {
                self.constant(&item.ident.to_string(), &constant.ident, value, is_public);
            }
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_for_tests(&item.attrs) {
            syn::visit::visit_item_mod(self, item);
        }
    }

    // Constants within a function are details of that function.
    fn visit_block(&mut self, _: &'ast syn::Block) {}
}

/// Finds the first literal of a struct with these fields.
struct Literal<'a> {
    fields: &'a [String],
    found: Vec<(String, Expr)>,
}

impl<'ast> Visit<'ast> for Literal<'_> {
    fn visit_expr_struct(&mut self, literal: &'ast syn::ExprStruct) {
        if !self.found.is_empty() {
            return;
        }
        for field in &literal.fields {
            let name = field.member.to_token_stream().to_string();
            if self.fields.contains(&name) {
                self.found.push((name, field.expr.clone()));
            }
        }
    }
}

/// The number of a literal, or of literals with an operator between them.
fn number(expr: &Expr) -> Option<u128> {
    match expr {
        Expr::Lit(syn::ExprLit { lit: syn::Lit::Int(number), .. }) => number.base10_parse().ok(),
        Expr::Binary(binary) => {
            let (left, right) = (number(&binary.left)?, number(&binary.right)?);
            match binary.op {
                syn::BinOp::Mul(_) => left.checked_mul(right),
                syn::BinOp::Sub(_) => left.checked_sub(right),
                syn::BinOp::Shl(_) => left.checked_shl(right.try_into().ok()?),
                _ => None,
            }
        }
        Expr::Paren(inner) => number(&inner.expr),
        _ => None,
    }
}

fn last_name(expr: &Expr) -> String {
    let path = match expr {
        Expr::Path(path) => last_of(&path.path),
        Expr::Struct(literal) => last_of(&literal.path),
        _ => None,
    };
    path.unwrap_or_else(|| expr.to_token_stream().to_string())
}

/// The type before the last part of a path.
fn owner_name(expr: &Expr) -> String {
    let Expr::Path(path) = expr else { return String::new() };
    let owner = path.path.segments.iter().rev().nth(1);
    owner.map_or(String::new(), |owner| owner.ident.to_string())
}

fn last_of(path: &syn::Path) -> Option<String> {
    path.segments.last().map(|last| last.ident.to_string())
}

fn type_name(of: &syn::Type) -> Option<String> {
    match of {
        syn::Type::Path(path) => last_of(&path.path),
        _ => None,
    }
}

fn is_upper(name: &str) -> bool {
    name.chars().all(|char| char.is_ascii_uppercase() || char.is_ascii_digit() || char == '_')
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let text = attribute.to_token_stream().to_string();
        attribute.path().is_ident("cfg") && text.contains("(test)")
    })
}

/// Calls `read` with the package, the name and the items of each source file.
fn each_file(sources: &[(String, String)], mut read: impl FnMut(&str, &str, &syn::File)) {
    for (path, text) in sources {
        let package = path.split('/').nth(1).unwrap_or("");
        let stem = path.rsplit('/').next().unwrap_or("").trim_end_matches(".rs");
        match syn::parse_file(text) {
            Ok(file) => read(package, stem, &file),
            Err(error) => panic!("{path} does not parse: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Vec<(String, String)> {
        vec![("crates/one/src/door.rs".to_owned(), text.to_owned())]
    }

    const ERRORS: &str = "
        #[derive(Debug, thiserror::Error)]
        pub enum OpenError { Held { by: String }, Gone }
        #[derive(Debug, thiserror::Error)]
        pub struct Torn;
        #[derive(Debug, thiserror::Error)]
        enum Private { One }
        pub enum NoError { One }
        #[cfg(test)]
        mod tests { #[derive(thiserror::Error)] pub struct OfTests; }";

    const PAGE: &str = "## `one`\n\n| error |\n|---|\n| `Torn` |\n\n### `OpenError`\n
| variant | meaning |\n|---|---|\n| `Held` | a |\n| `Gone` | b |\n";

    #[test]
    fn errors_without_a_row_and_rows_without_an_error_are_found() {
        assert_eq!(errors_out_of_step(&source(ERRORS), PAGE), [""; 0]);
        let lacks = PAGE.replace("| `Gone` | b |\n", "");
        let found = errors_out_of_step(&source(ERRORS), &lacks);
        assert_eq!(found, ["one OpenError::Gone has no row on the page"]);
        let more = format!("{PAGE}| `Lost` | c |\n");
        let found = errors_out_of_step(&source(ERRORS), &more);
        assert_eq!(found, ["one OpenError::Lost is no error of the code"]);
    }

    const OPTIONS: &str = "
        pub struct Limits { pub bytes: usize, pub wait: Duration, pub sync: Sync, other: u8 }
        pub enum Sync { #[default] Each, Never }
        impl Default for Limits {
            fn default() -> Limits {
                Limits { bytes: 4 << 20, wait: Duration::from_secs(2 * 60), sync: Sync::default(),
                         other: 1 }
            }
        }
        impl Door { pub const ANSWERS: usize = 1_000; const HEADS: usize = 3; }
        const LONGEST: Duration = Duration::from_millis(250);";

    const LIMITS: &str = "## `one`\n\n### `Limits`\n
| `bytes` | 4 MiB |\n| `wait` | 2 min |\n| `sync` | `Each` |\n
### Fixed\n\n| `Door::ANSWERS` | 1,000 | events |\n| `door::LONGEST` | 250 ms |\n";

    #[test]
    fn a_field_without_a_row_and_another_default_are_found() {
        assert_eq!(limits_out_of_step(&source(OPTIONS), LIMITS), [""; 0]);
        for (row, other, problem) in [
            ("| `bytes` | 4 MiB |\n", "", "one Limits::bytes has no row on the page"),
            ("4 MiB", "4 KiB", "one Limits::bytes is 4194304 and not 4 KiB"),
            ("2 min", "2 s", "one Limits::wait is 120000000 microseconds and not 2 s"),
            ("`Each`", "`Never`", "one Limits::sync is `Each` and not `Never`"),
            ("`sync`", "`syncs`", "one Limits::syncs is not in the code"),
            ("1,000 |", "100 |", "one Door::ANSWERS is 1000 and not 100"),
            ("250 ms", "25 ms", "one door::LONGEST is 250000 microseconds and not 25 ms"),
            ("door::LONGEST", "door::SHORTEST", "one door::SHORTEST is not in the code"),
        ] {
            let page = LIMITS.replace(row, other);
            let found = limits_out_of_step(&source(OPTIONS), &page);
            assert!(found.contains(&problem.to_owned()), "{problem}: {found:?}");
        }
        let more = OPTIONS.replace("pub wait", "pub more: u8, pub wait");
        let found = limits_out_of_step(&source(&more), LIMITS);
        assert_eq!(found, ["one Limits::more has no row on the page"]);
    }
}
