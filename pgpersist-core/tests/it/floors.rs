//! Code stands on what it uses: an import never goes up a floor.
//!
//! Reads every path that begins with `crate::` (or climbs to the root with `super::`) in `src/`, in code and in unit tests,
//! not in comments and strings.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use pgpersist_core::fs::walk::Walk;

/// The floor of each module of the crate's root. The root itself is the top floor and is imported by nobody.
const FLOORS: &[(u8, &[&str])] = &[
    (1, &["pg", "retention", "progress", "secret", "clock", "quantity", "web_url", "wording"]),
    (2, &["error"]),
    (3, &["fs", "workers", "schedule", "encryption"]),
    (4, &["store", "data_directory"]),
    (5, &["server", "key_ring", "repo"]),
    (6, &["logical", "temporary"]),
    (7, &["init", "migrate", "health", "backup", "restore", "export"]),
    (8, &["config", "drill"]),
    (9, &["report"]),
    (10, &["agent"]),
    (11, &["configured"]),
];

/// Arrows that go down and are still wrong.
const FORBIDDEN: &[(&str, &str, &str)] = &[("server", "store", "a server never speaks to a store")];

fn floor(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(_, modules)| modules.contains(&module)).map(|(floor, _)| *floor)
}

/// Finds what is wrong with a set of source files, given by their paths below `src`.
fn violations(files: &BTreeMap<String, String>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut arrows = BTreeSet::new();
    for (file, text) in files {
        if file == "lib.rs" {
            continue;
        }
        let home = module_path(file);
        let module = home[0].as_str();
        let Some(own_floor) = floor(module) else {
            wrong.push(format!("{file}: give `{module}` a floor"));
            continue;
        };
        let tokens = tokens(text);
        let children = if file.ends_with("/mod.rs") { declared_modules(&tokens) } else { BTreeSet::new() };
        for (line, path) in paths(&tokens, &home, &children) {
            let shown = path.join("::");
            let Some(target) = path.first() else { continue };
            let Some(target_floor) = floor(target) else {
                let why = if files.keys().any(|f| module_path(f).first() == Some(target)) {
                    "has no floor: give it a floor"
                } else {
                    "comes through the root: import it from the file that defines it"
                };
                wrong.push(format!("{file}:{line}: crate::{shown} {why}"));
                continue;
            };
            if target_floor > own_floor {
                wrong.push(format!("{file}:{line}: crate::{shown} goes up, from floor {own_floor} to {target_floor}"));
            }
            if let Some((_, _, why)) = FORBIDDEN.iter().find(|(from, to, _)| (*from, *to) == (module, target)) {
                wrong.push(format!("{file}:{line}: crate::{shown}: {why}"));
            }
            if target == module
                && let Some(child) = path.get(1).filter(|second| children.contains(*second))
                && uses_its_mod(files, module, child, &children)
            {
                wrong.push(format!("{file}:{line}: crate::{shown}: a mod.rs never uses a child that uses it"));
            }
            if target != module {
                arrows.insert((module.to_owned(), target.clone()));
            }
        }
    }
    for (from, to) in &arrows {
        if from < to && arrows.contains(&(to.clone(), from.clone())) {
            wrong.push(format!("{from} and {to} import each other"));
        }
    }
    wrong
}

/// `fs/walk.rs` is `fs::walk`, `fs/mod.rs` is `fs`.
fn module_path(file: &str) -> Vec<String> {
    let path = file.trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    path.split('/').map(str::to_owned).collect()
}

/// A word or a sign of the source, with its line.
#[derive(Debug, PartialEq)]
struct Token<'a> {
    line: usize,
    text: &'a str,
}

/// Cuts source into words and signs; comments, strings and characters are left out, `::` is one sign.
fn tokens(source: &str) -> Vec<Token<'_>> {
    let bytes = source.as_bytes();
    let is_word = |at: usize| bytes.get(at).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_' || !b.is_ascii());
    let (mut tokens, mut at, mut line, mut counted) = (Vec::new(), 0, 1, 0);
    while at < bytes.len() {
        line += bytes[counted..at].iter().filter(|b| **b == b'\n').count();
        counted = at;
        let rest = &bytes[at..];
        at += match rest {
            [b'/', b'/', ..] => rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()),
            [b'/', b'*', ..] => block_comment(rest),
            [b'"', ..] => string(rest),
            // A character ends with its quote; a lifetime has none.
            [b'\'', b'\\', _, more @ ..] => 3 + more.iter().position(|b| *b == b'\'').map_or(more.len(), |end| end + 1),
            [b'\'', ..] => source[at + 1..].chars().next().map_or(1, |c| {
                let end = at + 1 + c.len_utf8();
                if bytes.get(end) == Some(&b'\'') { end + 1 - at } else { 1 }
            }),
            [b':', b':', ..] => {
                tokens.push(Token { line, text: "::" });
                2
            }
            [first, ..] if first.is_ascii_whitespace() => 1,
            _ if is_word(at) => {
                let mut end = at;
                while is_word(end) {
                    end += 1;
                }
                let word = &source[at..end];
                let hashes = bytes[end..].iter().take_while(|b| **b == b'#').count();
                let raw = matches!(word, "r" | "br" | "cr") && bytes.get(end + hashes) == Some(&b'"');
                if raw {
                    let close = format!("\"{}", "#".repeat(hashes));
                    let body = end + hashes + 1;
                    source[body..].find(&close).map_or(source.len(), |found| body + found + close.len()) - at
                } else if matches!(word, "b" | "c") && bytes.get(end) == Some(&b'"') {
                    end - at
                } else {
                    tokens.push(Token { line, text: word });
                    end - at
                }
            }
            _ => {
                tokens.push(Token { line, text: &source[at..=at] });
                1
            }
        };
    }
    tokens
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Whether a child module imports from the `mod.rs` above it, so that an import the other way closes a circle.
fn uses_its_mod(files: &BTreeMap<String, String>, module: &str, child: &str, siblings: &BTreeSet<String>) -> bool {
    files.iter().filter(|(file, _)| module_path(file).get(..2).is_some_and(|path| path == [module, child])).any(|(file, text)| {
        paths(&tokens(text), &module_path(file), &BTreeSet::new()).iter().any(|(_, path)| {
            path.first().is_some_and(|first| first == module) && path.get(1).is_none_or(|second| !siblings.contains(second))
        })
    })
}

/// The names of `mod name;`.
fn declared_modules(tokens: &[Token<'_>]) -> BTreeSet<String> {
    tokens.windows(3).filter(|w| w[0].text == "mod" && w[2].text == ";").map(|w| w[1].text.to_owned()).collect()
}

/// All paths in a file that lead through the root, from there on; braces are taken apart. For a `mod.rs`, also those that
/// begin with a child of its own.
fn paths(tokens: &[Token<'_>], home: &[String], children: &BTreeSet<String>) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    // The modules around the token: those of the file, then `mod name { … }` with the depth of braces it began at.
    let (mut depth, mut inline): (usize, Vec<(usize, String)>) = (0, Vec::new());
    for at in 0..tokens.len() {
        let text = |offset: usize| tokens.get(at + offset).map_or("", |t| t.text);
        let after_path = at > 0 && tokens[at - 1].text == "::";
        match text(0) {
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                inline.retain(|(began, _)| *began < depth);
            }
            "mod" if text(2) == "{" => inline.push((depth, text(1).to_owned())),
            _ => {}
        }
        if text(1) != "::" || after_path {
            continue;
        }
        let around: Vec<String> = home.iter().cloned().chain(inline.iter().map(|(_, name)| name.clone())).collect();
        let (base, rest) = match text(0) {
            "crate" => (Vec::new(), at + 2),
            "self" if !children.is_empty() => (around, at + 2),
            "super" => {
                let climbed = (0..).take_while(|step| text(2 * step) == "super" && text(2 * step + 1) == "::").count();
                (around[..around.len().saturating_sub(climbed)].to_vec(), at + 2 * climbed)
            }
            word if children.contains(word) => (home.to_vec(), at),
            _ => continue,
        };
        let mut leaves = Vec::new();
        leaves_of(tokens, rest, &base, &mut leaves);
        found.extend(leaves.into_iter().map(|(at, path)| (tokens[at].line, path)));
    }
    found
}

/// Reads a path or a tree of paths from a token on; returns the token behind it.
fn leaves_of(tokens: &[Token<'_>], mut at: usize, base: &[String], leaves: &mut Vec<(usize, Vec<String>)>) -> usize {
    let mut path = base.to_vec();
    while let Some(token) = tokens.get(at) {
        match token.text {
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|t| t.text != "}") {
                    let next = leaves_of(tokens, at, &path, leaves);
                    // Over `as name` and commas.
                    at = next.max(at + 1);
                }
                return at + 1;
            }
            "super" => {
                path.pop();
            }
            "self" => {}
            word if word.starts_with(|c: char| c.is_alphanumeric() || c == '_') => path.push(word.to_owned()),
            "*" => path.push("*".to_owned()),
            _ => return at,
        }
        at += 1;
        if tokens.get(at).is_none_or(|t| t.text != "::") {
            break;
        }
        at += 1;
    }
    leaves.push((at.saturating_sub(1).min(tokens.len() - 1), path));
    at
}

#[test]
fn no_import_goes_up() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = BTreeMap::new();
    for entry in Walk::new(&src).unwrap().map(|entry| entry.unwrap()) {
        if entry.relative.extension().is_some_and(|extension| extension == "rs") {
            files.insert(entry.relative.to_str().unwrap().to_owned(), std::fs::read_to_string(&entry.path).unwrap());
        }
    }
    assert!(files.len() > 10, "the sources were found");
    let wrong = violations(&files);
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

fn planted(files: &[(&str, &str)]) -> Vec<String> {
    violations(&files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect())
}

#[test]
fn every_kind_of_wrong_import_is_caught() {
    for (file, text, expected) in [
        ("pg/lsn.rs", "use crate::error::Error;", "pg/lsn.rs:1: crate::error::Error goes up, from floor 1 to 2"),
        ("fs/walk.rs", "\n\nuse crate::{error::Error, store::{local, Key as K}};", "fs/walk.rs:3: crate::store::local goes up"),
        ("fs/walk.rs", "fn f() -> crate::server::cluster::Cluster {}", "crate::server::cluster::Cluster goes up"),
        ("error.rs", "#[cfg(test)]\nmod tests { use crate::fs::durable; }", "error.rs:2: crate::fs::durable goes up"),
        ("pg/lsn.rs", "#[cfg(test)]\nmod tests { use super::super::super::fs::durable; }", "crate::fs::durable goes up"),
        ("clock.rs", "use super::workers;", "crate::workers goes up"),
        ("error.rs", "let c = '\"'; let s: &'static str = \"\\\"\"; use crate::fs::walk;", "crate::fs::walk goes up"),
        ("error.rs", "let r = r#\"a \" b\"#; use crate::fs::walk;", "crate::fs::walk goes up"),
        ("error.rs", "macro_rules! m { () => { $crate::fs::walk::f() } }", "crate::fs::walk::f goes up"),
        ("fs/walk.rs", "use crate::Error;", "crate::Error comes through the root"),
        ("fs/walk.rs", "use crate::{Error, pg::lsn::Lsn};", "crate::Error comes through the root"),
        ("fs/walk.rs", "use crate::*;", "crate::* comes through the root"),
        ("server/cluster.rs", "use crate::store::local;", "a server never speaks to a store"),
        ("attic.rs", "", "give `attic` a floor"),
        (
            "store/mod.rs",
            "pub mod local;\npub use local::LocalStore;",
            "store/mod.rs:2: crate::store::local::LocalStore: a mod.rs never uses",
        ),
        ("store/mod.rs", "pub mod local;\npub use self::local::LocalStore;", "a mod.rs never uses a child"),
        ("store/mod.rs", "pub mod local;\nuse crate::store::local::LocalStore;", "a mod.rs never uses a child"),
        ("store/mod.rs", "pub mod local;\n#[cfg(test)] mod tests { use super::local::X; }", "a mod.rs never uses a child"),
    ] {
        let wrong = planted(&[(file, text), ("store/local.rs", "use crate::store::BackupStore;")]);
        assert_eq!(wrong.iter().filter(|line| line.contains(expected)).count(), 1, "{text}\n{wrong:?}");
    }
    let value_type = [("store/mod.rs", "pub mod url;\nuse crate::store::url::StoreUrl;"), ("store/url.rs", "use crate::error::Error;")];
    assert_eq!(planted(&value_type), [] as [&str; 0], "a trait may speak of the value types beside it");
    let attic = planted(&[("attic.rs", ""), ("fs/walk.rs", "use crate::attic::Dust;")]);
    assert!(attic.iter().any(|line| line.contains("fs/walk.rs:1: crate::attic::Dust has no floor: give it a floor")), "{attic:?}");
    let circle = planted(&[("init.rs", "use crate::health::a;"), ("health.rs", "use crate::init::b;")]);
    assert_eq!(circle, ["health and init import each other"]);
}

#[test]
fn right_imports_pass() {
    for (file, text) in [
        (
            "server/cluster.rs",
            "use crate::data_directory::{self, placement::Verdict, state::{State, *}};\nuse crate::error::{Error, Result};",
        ),
        ("fs/walk.rs", "use super::mounts::Mount; pub(super) fn f() {} pub(crate) struct S; #[cfg(test)] mod tests { use super::*; }"),
        (
            "error.rs",
            "// use crate::fs;\n/// [`crate::fs::durable`]\n/* crate::fs /* nested crate::fs */ crate::fs */ const A: &str = \"crate::fs::x\";",
        ),
        (
            "error.rs",
            "const A: &str = r##\"crate::fs \"# crate::fs\"##; const B: &[u8] = b\"\\\"crate::fs\"; fn f<'a>(_: &'a str) -> char { 'x' }",
        ),
        ("store/mod.rs", "pub mod local;\nuse crate::error::Result;\nuse std::local::thing;\n#[cfg(test)] mod tests { use super::*; }"),
        ("lib.rs", "pub use error::Error; use crate::server::x;"),
    ] {
        assert_eq!(planted(&[(file, text)]), Vec::<String>::new(), "{text}");
    }
}
