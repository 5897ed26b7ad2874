//! Modules of a crate, and the references between them, read from the sources.
//!
//! Seen are `use` items (grouped, renamed, relative) and paths in code that begin with `crate`, `self`, `super` or the name of a child
//! module, also among the tokens of macro calls and attributes. A name that a module only imports leads on to where it is defined.
//!
//! Not seen: calls of methods, names that come by a glob import (the glob itself counts as a use of its module), and what a
//! macro writes. Code under `#[cfg(test)]` is left out.

use crate::Failure;
use proc_macro2::{TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use syn::visit::{self, Visit};

/// Path of a module from its crate's root, which has an empty one.
pub(super) type ModulePath = Vec<String>;

/// Path in a module's code, made absolute, and its place.
#[derive(Debug)]
struct Reference {
    path: ModulePath,
    file: PathBuf,
    line: usize,
}

#[derive(Debug, Default)]
struct Module {
    children: BTreeSet<String>,
    /// Children that are compiled for tests alone.
    test_children: BTreeSet<String>,
    /// Absolute paths of imported names that belong to this crate.
    imports: BTreeMap<String, ModulePath>,
    references: Vec<Reference>,
}

/// Use of one module by another one of the same crate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ModuleUse {
    pub(super) user: ModulePath,
    pub(super) used: ModulePath,
    /// File and line of the use.
    pub(super) place: String,
}

/// Modules of one crate, by path.
#[derive(Debug, Default)]
pub(super) struct Modules(BTreeMap<ModulePath, Module>);

/// Maximum number of imports that a name is followed through.
const IMPORTS_MAX: usize = 16;

impl Modules {
    /// Reads the sources of one crate: the path below its source folder, and the text.
    ///
    /// # Errors
    ///
    /// A file does not parse.
    pub(super) fn read(folder: &Path, sources: &[(&Path, &str)]) -> Result<Self, Failure> {
        let mut modules = Modules::default();
        for (path, text) in sources {
            let file = folder.join(path);
            let parsed = syn::parse_file(text).map_err(|error| format!("{}: {error}", file.display()))?;
            let mut reader = Reader { modules: &mut modules, here: module_path(path), file };
            reader.module();
            reader.visit_file(&parsed);
        }
        Ok(modules)
    }

    /// Uses between modules that are not compiled for tests alone.
    pub(super) fn uses(&self) -> Vec<ModuleUse> {
        let mut found = Vec::new();
        for (user, module) in &self.0 {
            if self.is_test(user) {
                continue;
            }
            for reference in &module.references {
                let used = self.home(&reference.path);
                if used != *user {
                    let place = format!("{}:{}", reference.file.display(), reference.line);
                    found.push(ModuleUse { user: user.clone(), used, place });
                }
            }
        }
        found
    }

    fn is_test(&self, path: &[String]) -> bool {
        (0..path.len()).any(|length| {
            let parent = self.0.get(&path[..length]);
            parent.is_some_and(|parent| parent.test_children.contains(&path[length]))
        })
    }

    /// Module that defines what an absolute path names, as far as imports tell.
    fn home(&self, path: &[String]) -> ModulePath {
        let mut path = path.to_vec();
        for _ in 0..IMPORTS_MAX {
            let depth = self.depth(&path);
            let imports = self.0.get(&path[..depth]).map(|module| &module.imports);
            let Some(import) = path.get(depth).and_then(|name| imports?.get(name)) else {
                path.truncate(depth);
                return path;
            };
            path = joined(import, &path[depth + 1..]);
        }
        path.truncate(self.depth(&path));
        path
    }

    /// Number of leading segments that name modules.
    fn depth(&self, path: &[String]) -> usize {
        (0..path.len())
            .find(|length| !self.0.get(&path[..*length]).is_some_and(|module| module.children.contains(&path[*length])))
            .unwrap_or(path.len())
    }
}

/// Path of the module that a file below the source folder holds.
fn module_path(file: &Path) -> ModulePath {
    let mut path: ModulePath = file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if path.len() == 1 && matches!(path[0].as_str(), "lib" | "main") || path.last().is_some_and(|name| name == "mod") {
        path.pop();
    }
    path
}

/// Returns a path with another one behind it.
fn joined(start: &[String], rest: &[String]) -> ModulePath {
    [start, rest].concat()
}

/// Collects the references of one file.
struct Reader<'a> {
    modules: &'a mut Modules,
    here: ModulePath,
    file: PathBuf,
}

impl Reader<'_> {
    fn module(&mut self) -> &mut Module {
        self.modules.0.entry(self.here.clone()).or_default()
    }

    fn declare(&mut self, items: &[syn::Item]) {
        let module = self.module();
        for item in items {
            if let syn::Item::Mod(child) = item {
                let name = child.ident.to_string();
                if is_test(&child.attrs) {
                    module.test_children.insert(name.clone());
                }
                module.children.insert(name);
            }
        }
    }

    /// Absolute form of a path, if it leads into this crate.
    fn absolute(&mut self, path: &[String]) -> Option<ModulePath> {
        let first = path.first()?.as_str();
        let mut start = self.here.clone();
        match first {
            "crate" => return Some(path[1..].to_vec()),
            "self" => return Some(joined(&start, &path[1..])),
            "super" => {}
            name => return self.module().children.contains(name).then(|| joined(&start, path)),
        }
        let levels = path.iter().take_while(|segment| *segment == "super").count();
        start.truncate(start.len().saturating_sub(levels));
        Some(joined(&start, &path[levels..]))
    }

    fn refer(&mut self, path: &[String], line: usize) {
        if let Some(path) = self.absolute(path) {
            let file = self.file.clone();
            self.module().references.push(Reference { path, file, line });
        }
    }

    /// Records every name of a `use` item.
    fn import(&mut self, prefix: &[String], tree: &syn::UseTree) {
        match tree {
            syn::UseTree::Path(path) => {
                self.import(&joined(prefix, &[path.ident.to_string()]), &path.tree);
            }
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.import(prefix, item)),
            syn::UseTree::Glob(glob) => self.refer(prefix, glob.star_token.spans[0].start().line),
            syn::UseTree::Name(name) => self.import_name(prefix, &name.ident, &name.ident),
            syn::UseTree::Rename(rename) => self.import_name(prefix, &rename.ident, &rename.rename),
        }
    }

    fn import_name(&mut self, prefix: &[String], name: &syn::Ident, local: &syn::Ident) {
        let path = if name == "self" { prefix.to_vec() } else { joined(prefix, &[name.to_string()]) };
        let local = if local == "self" { path.last().cloned().unwrap_or_default() } else { local.to_string() };
        self.refer(&path, name.span().start().line);
        if let Some(path) = self.absolute(&path) {
            self.module().imports.insert(local, path);
        }
    }

    /// Records paths among tokens that are not parsed.
    fn scan(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => self.scan(group.stream()),
                TokenTree::Ident(first) => {
                    let path = path_at(&tokens[at..]);
                    if path.len() > 1 {
                        self.refer(&path, first.span().start().line);
                    }
                    at += (path.len() - 1) * 3;
                }
                _ => {}
            }
            at += 1;
        }
    }
}

/// Segments of the path that begins with the first token, an identifier.
fn path_at(tokens: &[TokenTree]) -> Vec<String> {
    let mut path = vec![tokens[0].to_string()];
    for link in tokens[1..].chunks_exact(3) {
        match link {
            [TokenTree::Punct(one), TokenTree::Punct(two), TokenTree::Ident(name)]
                if one.as_char() == ':' && two.as_char() == ':' =>
            {
                path.push(name.to_string());
            }
            _ => break,
        }
    }
    path
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_file(&mut self, file: &'ast syn::File) {
        // Declarations come first: paths may begin with the name of a child that is declared below them.
        self.declare(&file.items);
        visit::visit_file(self, file);
    }

    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !is_test(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if let Some((_, items)) = &item.content {
            self.here.push(item.ident.to_string());
            self.declare(items);
            items.iter().for_each(|item| self.visit_item(item));
            self.here.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.import(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if segments.len() > 1 {
            self.refer(&segments, path.segments[0].ident.span().start().line);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.scan(call.tokens.clone());
    }

    fn visit_meta_list(&mut self, list: &'ast syn::MetaList) {
        self.scan(list.tokens.clone());
    }

    /// `pub(super)` uses nothing.
    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {}
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
    })
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
