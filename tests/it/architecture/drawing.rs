//! Draws the dependencies of the crates, and of the modules of the domain, into `docs/architecture/dependencies.md`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    path::Path,
};

use super::{dependencies, imports, packages, sources_of};

/// Set it to write the drawing anew.
const UPDATE: &str = "UPDATE_DRAWING";

type Graph = BTreeMap<String, BTreeSet<String>>;

#[test]
fn the_drawing_of_the_dependencies_is_the_one_of_the_code() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/architecture/dependencies.md");
    let drawing = drawing();
    if std::env::var_os(UPDATE).is_some() {
        fs::write(&file, drawing).unwrap();
        return;
    }
    let drawn = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        drawn == drawing,
        "{} is stale; write it anew with {UPDATE}=1 cargo test -p punctual-tests drawing",
        file.display()
    );
}

fn drawing() -> String {
    let packages = packages();
    let name = |package: &serde_json::Value| package["name"].as_str().unwrap().to_owned();
    let siblings: BTreeSet<String> = packages.iter().map(name).collect();
    let crates: Graph = packages
        .iter()
        .map(|package| (name(package), &dependencies(package) & &siblings))
        .filter(|(name, _)| name != "punctual-tests")
        .collect();
    let modules = imports(&sources_of("domain"));
    format!(
        "# Dependencies\n\nThe tests write this file from the code, and fail when it is stale: \
         `{UPDATE}=1 cargo test -p punctual-tests drawing`.\n\n\
         ## Crates\n\nAn arrow means \"depends on\". Where a longer way leads to the same crate, the direct arrow is left \
         out; the list has them all.\n\n{}{}\n\
         ## Folders of `domain`\n\nAn arrow means \"imports\"; the list has every module.\n\n{}{}",
        mermaid(&without_detours(&crates)),
        list(&crates),
        mermaid(&without_detours(&folders(&modules))),
        list(&modules),
    )
}

/// The folders of modules.
fn folders(modules: &Graph) -> Graph {
    let folder = |module: &String| module.split("::").next().unwrap_or_default().to_owned();
    let mut folders = Graph::new();
    for (module, targets) in modules {
        let own = folder(module);
        let others = targets.iter().map(folder).filter(|other| *other != own);
        let others: Vec<String> = others.collect();
        folders.entry(own).or_default().extend(others);
    }
    folders
}

/// The graph without the arrows to what other arrows lead to.
fn without_detours(graph: &Graph) -> Graph {
    let reached = |from: &String| {
        let mut reached = BTreeSet::new();
        let mut to_visit = vec![from];
        while let Some(next) = to_visit.pop() {
            for target in &graph[next] {
                if reached.insert(target.clone()) {
                    to_visit.push(target);
                }
            }
        }
        reached
    };
    let direct = |targets: &BTreeSet<String>| {
        let beyond: BTreeSet<String> = targets.iter().flat_map(reached).collect();
        targets - &beyond
    };
    let nodes = graph.iter();
    nodes.map(|(from, to)| (from.clone(), direct(to))).collect()
}

fn mermaid(graph: &Graph) -> String {
    let mut text = "```mermaid\ngraph TD\n".to_owned();
    for (from, targets) in graph {
        for target in targets {
            writeln!(text, "    {from} --> {target}").unwrap();
        }
    }
    text + "```\n\n"
}

fn list(graph: &Graph) -> String {
    let mut text = "```text\n".to_owned();
    for (from, targets) in graph {
        let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
        let line = format!("{from} -> {}", targets.join(", "));
        writeln!(text, "{}", line.trim_end()).unwrap();
    }
    text + "```\n"
}

#[test]
fn an_arrow_to_what_others_lead_to_is_left_out() {
    let to = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let graph = Graph::from([
        ("a".to_owned(), to(&["b", "c"])),
        ("b".to_owned(), to(&["c"])),
        ("c".to_owned(), to(&[])),
    ]);
    let drawn = mermaid(&without_detours(&graph));
    assert!(
        drawn.contains("a --> b") && drawn.contains("b --> c"),
        "{drawn}"
    );
    assert!(!drawn.contains("a --> c"), "{drawn}");
}
