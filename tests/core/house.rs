//! The house: what may know of what, read from the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use regex::Regex;

/// The code of every Rust file of a folder of `src`, by its path there. Comments are left out.
fn sources(folder: &str) -> BTreeMap<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(folder);
    let comment = Regex::new(r"(?m)(^|\s)//.*$").unwrap();
    let mut sources = BTreeMap::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let code = comment.replace_all(&std::fs::read_to_string(&path).unwrap(), "").into_owned();
                sources.insert(path.strip_prefix(&root).unwrap().to_owned(), code);
            }
        }
    }
    assert!(sources.len() > 10, "{folder}: {sources:?}");
    sources
}

#[test]
fn core_and_metrics_know_nothing_of_kubernetes_nor_of_who_runs_them() {
    let ours = Regex::new(r"\bcrate::(\{|\w+)").unwrap();
    for (folder, known, unknown) in [
        (
            "core",
            "core|last_words|shown",
            r"\b(kube|k8s_openapi|tokio)::|\b(SystemTime|Instant)\b|std::(fs|net|process|thread)",
        ),
        ("metrics", "core|metrics|shown", r"\b(kube|k8s_openapi|tokio)::"),
    ] {
        let unknown = Regex::new(unknown).unwrap();
        let known = Regex::new(&format!("^({known})$")).unwrap();
        for (file, code) in sources(folder) {
            let found: Vec<&str> = unknown.find_iter(&code).map(|found| found.as_str()).collect();
            assert!(found.is_empty(), "src/{folder}/{}: {found:?}", file.display());
            for found in ours.captures_iter(&code) {
                assert!(known.is_match(&found[1]), "src/{folder}/{}: {}", file.display(), &found[0]);
            }
        }
    }
}

/// A file as a module path within its folder.
fn module(file: &Path) -> Vec<String> {
    let mut path: Vec<String> = file.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    path.pop_if(|last| last == "mod");
    path
}

/// Each path that a use declaration names: braces are written out.
fn written_out(tree: &str) -> Vec<String> {
    let Some((prefix, rest)) = tree.split_once('{') else { return vec![tree.trim().to_owned()] };
    let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
    let (mut depth, mut from, mut parts) = (0, 0, Vec::new());
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inner[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&inner[from..]);
    let whole = |part: &str| written_out(&format!("{}{}", prefix.trim(), part.trim()));
    parts.into_iter().filter(|part| !part.trim().is_empty()).flat_map(whole).collect()
}

/// The modules of a folder that each takes something from, by what its code names; a module with children takes from all
/// of them, since it is their face.
fn uses(folder: &str) -> BTreeMap<Vec<String>, BTreeSet<Vec<String>>> {
    let sources = sources(folder);
    let modules: BTreeSet<Vec<String>> = sources.keys().map(|file| module(file)).collect();
    let declaration = Regex::new(r"(?s)\buse\s+([^;]+);").unwrap();
    let inline = Regex::new(r"\b(?:crate|super|self)(?:::\w+)+").unwrap();
    let mut uses = BTreeMap::new();
    for (file, code) in &sources {
        let own = module(file);
        // What only tests take makes no circle.
        let code = code.split("#[cfg(test)]").next().unwrap();
        let declared = declaration.captures_iter(code).flat_map(|found| written_out(&found[1]));
        let named = inline.find_iter(code).map(|found| found.as_str().to_owned());
        let mut targets: BTreeSet<Vec<String>> = modules
            .iter()
            .filter(|other| other.split_last().is_some_and(|(_, parent)| parent == own))
            .cloned()
            .collect();
        for path in declared.chain(named) {
            let mut parts: Vec<&str> = path.split("::").map(str::trim).collect();
            let mut at = own.clone();
            match parts[0] {
                "crate" if parts.get(1) == Some(&folder) => {
                    at = Vec::new();
                    parts.drain(..2);
                }
                "super" => {
                    while parts.first() == Some(&"super") {
                        at.pop();
                        parts.remove(0);
                    }
                }
                "self" => drop(parts.remove(0)),
                first if modules.contains(&[own.as_slice(), &[first.to_owned()]].concat()) => {}
                _ => continue,
            }
            for part in parts {
                let below = [at.as_slice(), &[part.to_owned()]].concat();
                if !modules.contains(&below) {
                    break;
                }
                at = below;
            }
            if at != own {
                targets.insert(at);
            }
        }
        uses.insert(own, targets);
    }
    uses
}

#[test]
fn no_module_of_core_takes_from_one_that_takes_from_it() {
    check_circles("core", 100);
}

#[test]
fn no_module_of_metrics_takes_from_one_that_takes_from_it() {
    check_circles("metrics", 40);
}

/// There are more than `at_least` uses of one module of a folder by another, and no circle of them.
fn check_circles(folder: &str, at_least: usize) {
    let mut uses = uses(folder);
    assert!(uses.values().map(BTreeSet::len).sum::<usize>() > at_least, "{uses:?}");
    // What takes from none that is left is in no circle.
    while let Some(leaf) = uses.iter().find(|(_, targets)| targets.is_empty()).map(|(module, _)| module.clone()) {
        uses.remove(&leaf);
        for targets in uses.values_mut() {
            targets.remove(&leaf);
        }
    }
    // And what none takes from neither.
    while let Some(top) = uses.keys().find(|module| !uses.values().any(|targets| targets.contains(*module))).cloned() {
        uses.remove(&top);
    }
    let circles: Vec<String> = uses
        .iter()
        .map(|(module, targets)| {
            let targets: Vec<String> = targets.iter().map(|target| target.join("::")).collect();
            format!("{} takes from {}", module.join("::"), targets.join(", "))
        })
        .collect();
    assert!(circles.is_empty(), "{}", circles.join("\n"));
}
