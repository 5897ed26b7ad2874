//! Import circles between the modules of a crate.
//!
//! # Rule
//!
//! Modules with the same parent are compared, each with everything below it: an arrow leads from `a` to `b` where `a` or a module
//! below it uses `b` or a module below that. Several siblings that all lead to each other are a circle, and a fault. A parent
//! and its child may use each other: the child's items are part of the parent, and `use super::Item` names what the parent
//! defines. A child that names a sibling's item through the parent (`use super::Item`, which the parent imports) uses the
//! sibling.
//!
//! So every module can be read after those it uses, and a circle is never longer than the modules of one folder. What counts as
//! a use is said in [`super::modules`].

use super::modules::{ModulePath, ModuleUse, Modules};
use crate::Failure;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Modules of one parent that lead to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Circle {
    parent: ModulePath,
    members: BTreeSet<String>,
    /// A use for each arrow between members.
    arrows: Vec<(String, String, String)>,
}

/// Returns a sentence for each circle.
///
/// # Errors
///
/// A file does not parse.
pub(super) fn faults(files: &[(PathBuf, String)]) -> Result<Vec<String>, Failure> {
    let mut crates: BTreeMap<&Path, Vec<(&Path, &str)>> = BTreeMap::new();
    for (path, text) in files {
        let folder = path.ancestors().skip(1).find(|folder| folder.ends_with("src"));
        if let Some((folder, inside)) = folder.and_then(|folder| Some((folder, path.strip_prefix(folder).ok()?))) {
            crates.entry(folder).or_default().push((inside, text.as_str()));
        }
    }
    let mut faults = Vec::new();
    for (folder, sources) in crates {
        let found = circles(&arrows(&Modules::read(folder, &sources)?.uses()));
        faults.extend(found.iter().map(|circle| format!("{}: {}", folder.display(), sentence(circle))));
    }
    Ok(faults)
}

fn sentence(circle: &Circle) -> String {
    let arrows: Vec<String> =
        circle.arrows.iter().map(|(user, used, place)| format!("{user} uses {used} ({place})")).collect();
    format!("circle in crate::{}: {}", circle.parent.join("::"), arrows.join(", "))
}

/// For each parent, the arrows between its children, with the first use of each.
type Arrows = BTreeMap<ModulePath, BTreeMap<(String, String), String>>;

fn arrows(uses: &[ModuleUse]) -> Arrows {
    let mut arrows = Arrows::new();
    for ModuleUse { user, used, place } in uses {
        let common = user.iter().zip(used).take_while(|(one, other)| one == other).count();
        if let (Some(user_child), Some(used_child)) = (user.get(common), used.get(common)) {
            let arrow = (user_child.clone(), used_child.clone());
            arrows.entry(user[..common].to_vec()).or_default().entry(arrow).or_insert_with(|| place.clone());
        }
    }
    arrows
}

fn circles(arrows: &Arrows) -> Vec<Circle> {
    arrows.iter().flat_map(|(parent, arrows)| circles_below(parent, arrows)).collect()
}

fn circles_below(parent: &ModulePath, arrows: &BTreeMap<(String, String), String>) -> Vec<Circle> {
    let mut reached: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (user, used) in arrows.keys() {
        reached.entry(user).or_default().insert(used);
    }
    // What is reached by one step more, until nothing is added.
    loop {
        let further: Vec<(&str, &str)> = reached
            .iter()
            .flat_map(|(user, near)| near.iter().map(move |step| (*user, *step)))
            .flat_map(|(user, step)| reached.get(step).into_iter().flatten().map(move |far| (user, *far)))
            .filter(|(user, far)| !reached[user].contains(far))
            .collect();
        if further.is_empty() {
            break;
        }
        for (user, far) in further {
            reached.entry(user).or_default().insert(far);
        }
    }
    let mut found: Vec<Circle> = Vec::new();
    for (user, all) in reached.iter().filter(|(user, all)| all.contains(*user)) {
        let back = all.iter().filter(|other| reached.get(*other).is_some_and(|others| others.contains(user)));
        let members: BTreeSet<String> = back.map(|name| (*name).to_owned()).collect();
        if found.iter().any(|circle| circle.members == members) {
            continue;
        }
        let inside = arrows.iter().filter(|((user, used), _)| members.contains(user) && members.contains(used));
        let arrows = inside.map(|((user, used), place)| (user.clone(), used.clone(), place.clone())).collect();
        found.push(Circle { parent: parent.clone(), members, arrows });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(files: &[(&str, &str)]) -> Vec<ModuleUse> {
        let sources: Vec<(&Path, &str)> = files.iter().map(|(path, text)| (Path::new(*path), *text)).collect();
        Modules::read(Path::new("src"), &sources).expect("it parses").uses()
    }

    /// Circles of a crate, as `parent: members`.
    fn found(files: &[(&str, &str)]) -> Vec<String> {
        fn text(circle: Circle) -> String {
            format!("{}: {}", circle.parent.join("::"), circle.members.into_iter().collect::<Vec<_>>().join(" "))
        }
        circles(&arrows(&uses(files))).into_iter().map(text).collect()
    }

    #[track_caller]
    fn check(a: &str, b: &str, expected: &[&str]) {
        let root = "mod a; mod b; pub use b::Other; pub struct Root; pub use std::fmt::Debug;";
        let files =
            [("lib.rs", root), ("a.rs", a), ("b.rs", b), ("b/c.rs", "pub struct C;"), ("a/d.rs", "use super::X;")];
        assert_eq!(found(&files), expected, "{a} | {b}");
    }

    #[test]
    fn siblings_that_use_each_other_are_a_circle() {
        let circle: &[&str] = &[": a b"];
        check("use crate::b::B;", "use crate::a::A;", circle);
        check("use crate::b::B;", "use crate::Root;", &[]);
        check("use super::b::B;", "fn f() -> super::a::A { todo!() }", circle);
        check("use super::{Root, b::{self, B}};", "use super::{a as other};", circle);
        check("use crate::{b::*};", "fn f(a: u8) { crate::a::f(a) }", circle);
        check("fn f() { say!(\"{}\", crate::b::f()) }", "impl From<super::a::A> for B {}", circle);
        check("#[path(body = crate::b::B)] fn f() {}", "use crate::a::A;", circle);
        check("mod d; use crate::b::c::C;", "mod c; use crate::a::d::D;", circle);
    }

    #[test]
    fn a_parent_and_its_child_are_no_circle() {
        check("mod d; use d::D; fn f() { d::g() }", "", &[]);
        check("mod d; use self::d::D; pub(super) fn f() {}", "use crate::a::X;", &[]);
        check("use super::Root;", "use crate::Debug;", &[]);
    }

    #[test]
    fn a_name_that_the_parent_imports_is_its_owners() {
        check("use super::Other;", "use super::a::A;", &[": a b"]);
        check("use crate::Other as B;", "", &[]);
    }

    #[test]
    fn tests_are_left_out() {
        check("use crate::b::B;", "#[cfg(test)] mod tests { use crate::a::A; }", &[]);
        check("#[cfg(test)] mod d; #[cfg(test)] use crate::b::B;", "use crate::a::A;", &[]);
        let files =
            [("lib.rs", "mod a; #[cfg(test)] mod b;"), ("a.rs", "use crate::b::B;"), ("b.rs", "use crate::a::A;")];
        assert_eq!(found(&files), [""; 0]);
    }

    #[test]
    fn circles_of_several_steps_and_inside_folders_are_found() {
        let files = [
            ("main.rs", "mod p;"),
            ("p.rs", "mod a; mod b; mod c; mod d;"),
            ("p/a.rs", "use super::b::B;"),
            ("p/b.rs", "use super::c::C;"),
            ("p/c.rs", "use super::a::A;"),
            ("p/d.rs", "use super::a::A; mod a;"),
            ("p/d/a.rs", "use super::D;"),
        ];
        assert_eq!(found(&files), ["p: a b c"]);
    }

    #[test]
    fn a_sentence_names_the_places() {
        let files = [
            (PathBuf::from("x/src/lib.rs"), "mod a;\nmod b;".to_owned()),
            (PathBuf::from("x/src/a.rs"), "//!\nuse crate::b::B;".to_owned()),
            (PathBuf::from("x/src/b.rs"), "use crate::a::A;".to_owned()),
        ];
        let expected = "x/src: circle in crate::: a uses b (x/src/a.rs:2), b uses a (x/src/b.rs:1)";
        assert_eq!(faults(&files).expect("it parses"), [expected]);
    }
}
