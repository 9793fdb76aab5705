//! Who may import whom: the table, and the scan of `src/` that holds it. The table is
//! also the best map of the crate. `app` and `cli` may import everything.

use std::fs;
use std::path::{Path, PathBuf};

/// `(module, what it may import)`; everything may import itself.
const ALLOWED: &[(&str, &[&str])] = &[
    // base
    ("model", &[]),
    ("config", &["model"]),
    ("geo", &[]),
    // adapters: one outside thing each
    ("net", &["model", "config"]),
    ("syslog", &["model", "config"]),
    ("bus", &["model", "config", "net"]),
    ("db", &["model", "config", "net", "geo", "persona"]),
    ("systemd", &["model", "config"]),
    ("docker", &["model", "config"]),
    ("netns", &["model", "config", "net"]),
    // domain: values in, values out
    ("persona", &["model"]),
    ("fleet", &["model", "config", "persona"]),
    ("capture", &["model", "persona"]),
    ("export", &["model"]),
    ("canary", &["model", "persona"]),
    // what is asked of the fleet becomes rows, for the command line and the API alike
    (
        "deploy",
        &[
            "model", "config", "net", "netns", "bus", "db", "persona", "fleet", "export", "canary",
            "decoy",
        ],
    ),
    // faces attackers: can speak event lines and nothing else
    ("decoy", &["model", "config", "net", "syslog", "persona"]),
    // roles: meet through db and bus; `worker` is the shared Ctx, Wake and Pulse
    (
        "worker",
        &[
            "model", "config", "net", "netns", "syslog", "bus", "db", "systemd", "docker",
            "persona", "fleet", "capture", "export", "canary", "deploy", "decoy",
        ],
    ),
    (
        "api",
        &[
            "model", "config", "net", "geo", "syslog", "bus", "db", "systemd", "docker", "persona",
            "fleet", "capture", "export", "canary", "deploy", "worker",
        ],
    ),
    ("web", &["model", "config", "net", "worker"]),
    ("init", &["model", "config", "net", "systemd"]),
];

#[test]
fn every_module_imports_only_what_its_row_allows() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for entry in fs::read_dir(&src).unwrap() {
        let path = entry.unwrap().path();
        let module = path.file_stem().unwrap().to_string_lossy().into_owned();
        if ["main", "lib", "app", "cli", "askama"].contains(&module.as_str()) {
            continue;
        }
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!("src/{module} has no row in the table"));
            continue;
        };
        for file in sources(&path) {
            scan(&src, &file, &module, allowed, &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn scan(src: &Path, file: &Path, module: &str, allowed: &[&str], wrong: &mut Vec<String>) {
    let text = fs::read_to_string(file).unwrap();
    let shown = file.strip_prefix(src).unwrap().display().to_string();
    for (index, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        if code.contains("super::super") {
            wrong.push(format!(
                "src/{shown}:{}: super::super hides an import",
                index + 1
            ));
        }
        for imported in imports(code) {
            if imported != module && !allowed.contains(&imported.as_str()) {
                wrong.push(format!("src/{shown}:{}: {module} -> {imported}", index + 1));
            }
        }
    }
}

/// Every `<module>` named as `crate::<module>` or inside `crate::{…}` on this line.
fn imports(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let names = match rest.strip_prefix('{') {
            Some(group) => group.split(',').map(str::trim).collect(),
            None => vec![rest],
        };
        for name in names {
            let name: String = name
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                .collect();
            // Types and functions re-exported at the root do not exist here.
            if !name.is_empty() && name != "self" {
                found.push(name);
            }
        }
    }
    found
}

fn sources(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap().path();
        if entry.is_dir() {
            files.extend(sources(&entry));
        } else if entry.extension().is_some_and(|e| e == "rs") {
            files.push(entry);
        }
    }
    files
}

#[test]
fn the_scan_sees_a_planted_violation() {
    let mut wrong = Vec::new();
    let dir = std::env::temp_dir().join(format!("decnet-layers-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let file = dir.join("x.rs");
    fs::write(
        &file,
        "use crate::{db, model};\n// crate::api is only talked about\n",
    )
    .unwrap();
    scan(&dir, &file, "decoy", &["model"], &mut wrong);
    fs::remove_dir_all(&dir).unwrap();
    assert_eq!(wrong, vec!["src/x.rs:1: decoy -> db".to_owned()]);
}
