//! Rust idioms that reviewers stumble over: `match` on a bool, `let` of a tuple literal, closures where a function would do; and the
//! names of all types.
//!
//! Parses with syn and resolves nothing. What is not seen: code inside macro calls, and types that macros make.

use super::Place;
use crate::Failure;
use proc_macro2::{Span, TokenStream, TokenTree};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use syn::visit::{self, Visit};

/// Places of the idioms in the files read so far.
#[derive(Default)]
pub(super) struct Idioms {
    pub(super) bool_matches: Vec<Place>,
    pub(super) tuple_lets: Vec<Place>,
    pub(super) closures: Vec<Place>,
}

impl Idioms {
    /// Adds the places of one file, and returns the types that it defines: `text` is the name.
    pub(super) fn read(&mut self, path: &Path, text: &str) -> Result<Vec<Place>, Failure> {
        let file = syn::parse_file(text).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut visitor = Visitor { path: path.to_owned(), idioms: self, types: Vec::new(), bindings: Vec::new() };
        visitor.visit_file(&file);
        Ok(visitor.types)
    }
}

struct Visitor<'a> {
    path: PathBuf,
    idioms: &'a mut Idioms,
    types: Vec<Place>,
    /// Names bound anywhere in the function that is being visited, each as often as it is bound; innermost function last.
    bindings: Vec<Vec<String>>,
}

impl Visitor<'_> {
    fn place(&self, span: Span, text: impl Into<String>) -> Place {
        Place { path: self.path.clone(), line: span.start().line, text: text.into() }
    }

    fn type_name(&mut self, name: &syn::Ident) {
        let place = self.place(name.span(), name.to_string());
        self.types.push(place);
    }

    fn function(&mut self, signature: &syn::Signature, block: &syn::Block, walk: impl FnOnce(&mut Self)) {
        let mut names = Names::default();
        names.visit_signature(signature);
        names.visit_block(block);
        self.bindings.push(names.bound);
        walk(self);
        self.bindings.pop();
    }

    /// Returns true if a closure uses a name that the function around it binds, apart from the `let` of the closure itself.
    fn captures(&self, closure: &syn::ExprClosure, own_name: &str) -> bool {
        let mut inside = Names::default();
        inside.visit_expr_closure(closure);
        let mut outside = self.bindings.last().cloned().unwrap_or_default();
        if let Some(index) = outside.iter().position(|name| name == own_name) {
            outside.swap_remove(index);
        }
        outside.iter().any(|name| inside.used.contains(name) && !inside.bound.contains(name))
    }
}

impl<'ast> Visit<'ast> for Visitor<'_> {
    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.type_name(&item.ident);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.type_name(&item.ident);
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.type_name(&item.ident);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.type_name(&item.ident);
        visit::visit_item_trait(self, item);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, &item.block, |visitor| visit::visit_item_fn(visitor, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, &item.block, |visitor| visit::visit_impl_item_fn(visitor, item));
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig, block, |visitor| visit::visit_trait_item_fn(visitor, item));
        }
    }

    fn visit_expr_match(&mut self, matched: &'ast syn::ExprMatch) {
        if is_bool(matched) {
            let place = self.place(matched.match_token.span, "match on a bool");
            self.idioms.bool_matches.push(place);
        }
        visit::visit_expr_match(self, matched);
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        if let (syn::Pat::Tuple(names), Some(init)) = (untyped(&local.pat), &local.init)
            && init.diverge.is_none()
            && matches!(*init.expr, syn::Expr::Tuple(_))
        {
            let place = self.place(local.let_token.span, format!("let of {} values", names.elems.len()));
            self.idioms.tuple_lets.push(place);
        }
        if let (syn::Pat::Ident(name), Some(init)) = (untyped(&local.pat), &local.init)
            && let Some(closure) = closure(&init.expr)
            && !self.captures(closure, &name.ident.to_string())
        {
            let place = self.place(local.let_token.span, name.ident.to_string());
            self.idioms.closures.push(place);
        }
        visit::visit_local(self, local);
    }
}

/// The pattern of `pattern: Type`.
fn untyped(pattern: &syn::Pat) -> &syn::Pat {
    match pattern {
        syn::Pat::Type(typed) => &typed.pat,
        plain => plain,
    }
}

/// The closure of an expression that is one, or a reference to one.
fn closure(expression: &syn::Expr) -> Option<&syn::ExprClosure> {
    match expression {
        syn::Expr::Closure(closure) => Some(closure),
        syn::Expr::Reference(reference) => closure(&reference.expr),
        syn::Expr::Paren(inner) => closure(&inner.expr),
        _ => None,
    }
}

/// Returns true if a `match` decides by a bool: an arm is `true` or `false`, or the matched expression compares, joins or negates.
fn is_bool(matched: &syn::ExprMatch) -> bool {
    use syn::BinOp::{And, Eq, Ge, Gt, Le, Lt, Ne, Or};
    let literal = matched.arms.iter().any(|arm| is_bool_literal(&arm.pat));
    let decides = match &*matched.expr {
        syn::Expr::Binary(binary) => {
            matches!(binary.op, And(_) | Or(_) | Eq(_) | Ne(_) | Lt(_) | Le(_) | Gt(_) | Ge(_))
        }
        syn::Expr::Unary(unary) => matches!(unary.op, syn::UnOp::Not(_)) && matched.arms.len() == 2,
        _ => false,
    };
    literal || decides
}

fn is_bool_literal(pattern: &syn::Pat) -> bool {
    match pattern {
        syn::Pat::Lit(literal) => matches!(literal.lit, syn::Lit::Bool(_)),
        syn::Pat::Guard(guarded) => is_bool_literal(&guarded.pat),
        _ => false,
    }
}

/// Names that a piece of code binds, and names that it uses as values. Does not enter functions inside it.
#[derive(Default)]
struct Names {
    bound: Vec<String>,
    used: BTreeSet<String>,
}

impl Names {
    /// Takes every identifier of a macro call for a use, and so those of its format strings.
    fn tokens(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Ident(name) => _ = self.used.insert(name.to_string()),
                TokenTree::Literal(literal) => {
                    let text = literal.to_string();
                    let arguments = text.split('{').skip(1);
                    let names = arguments.filter_map(|rest| rest.split(['}', ':']).next());
                    self.used.extend(names.map(str::to_owned));
                }
                TokenTree::Punct(_) => {}
            }
        }
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item(&mut self, _: &'ast syn::Item) {}

    fn visit_receiver(&mut self, _: &'ast syn::Receiver) {
        self.bound.push("self".to_owned());
    }

    fn visit_pat_ident(&mut self, pattern: &'ast syn::PatIdent) {
        let name = pattern.ident.to_string();
        // `None` and constants parse as names too.
        if !name.starts_with(char::is_uppercase) {
            self.bound.push(name);
        }
        visit::visit_pat_ident(self, pattern);
    }

    fn visit_expr_path(&mut self, path: &'ast syn::ExprPath) {
        if let Some(name) = path.path.get_ident() {
            self.used.insert(name.to_string());
        }
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.tokens(call.tokens.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Idioms {
        let mut idioms = Idioms::default();
        idioms.read(Path::new("a.rs"), &format!("fn f(&self, outer: u8) {{\n{body}\n}}")).unwrap();
        idioms
    }

    #[test]
    fn matches_on_a_bool_are_found() {
        fn check(body: &str, expected: usize) {
            assert_eq!(read(body).bool_matches.len(), expected, "{body}");
        }
        check("match a() { true => 1, false => 2 };", 1);
        check("match a { true if b => 1, _ => 2 };", 1);
        check("match a == b { x => 1 };", 1);
        check("match !a { _ => 1, true => 2 };", 1);
        check("match a { Some(true) => 1, _ => 2 };", 0);
        check("match (a, b) { (true, _) => 1, _ => 2 };", 0);
        check("match a + b { 1 => 1, _ => 2 };", 0);
    }

    #[test]
    fn lets_of_a_tuple_literal_are_found() {
        fn check(body: &str, expected: usize) {
            assert_eq!(read(body).tuple_lets.len(), expected, "{body}");
        }
        check("let (a, b) = (1, 2);", 1);
        check("let (mut a, b): (u8, u8) = (1, 2);", 1);
        check("let (a, b) = pair();", 0);
        check("let pair = (1, 2);", 0);
        check("let (Some(a), Some(b)) = (a(), b()) else { return };", 0);
        check("let a = || { let (a, b) = (1, 2); };", 1);
    }

    #[test]
    fn closures_without_captures_are_found() {
        fn check(body: &str, expected: &[&str]) {
            let found: Vec<String> = read(body).closures.into_iter().map(|place| place.text).collect();
            assert_eq!(found, expected, "{body}");
        }
        check("let add = |a: u8, b: u8| a + b;", &["add"]);
        check("let add = |a: u8| a + outer;", &[]);
        check("let show = |a: u8| format!(\"{a} {outer:?}\");", &[]);
        check("let show = |a: u8| println!(\"{a}\");", &["show"]);
        check("let send = || self.send();", &[]);
        check("let send = &async move |a: u8| send(a).await;", &["send"]);
        check("let one = |outer: u8| outer; let two = |a: u8| one(a);", &["one"]);
        check("let is = |a: Option<u8>| matches!(a, None); match outer { None => {} }", &["is"]);
        check("let built = |a: u8| Built { a, outer };", &[]);
        check("fn inner() { let outer_free = |a: u8| outer; }", &["outer_free"]);
        check("call(|a| a + 1);", &[]);
    }

    #[test]
    fn names_of_types_are_found_with_their_lines() {
        let text = "struct A;\nmod m { enum B {} }\ntype C = u8;\nfn f() { trait D {} }\nimpl A {}\n";
        let types = Idioms::default().read(Path::new("a.rs"), text).unwrap();
        let types: Vec<(usize, &str)> = types.iter().map(|place| (place.line, place.text.as_str())).collect();
        assert_eq!(types, [(1, "A"), (2, "B"), (3, "C"), (4, "D")]);
    }
}
