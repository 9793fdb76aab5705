//! The command line as a script or a person meets it, and the documents that repeat
//! its tables.

use std::fs;
use std::path::Path;

use assert_cmd::Command as Assert;

use crate::support::command;
use decnet::model::Service;
use decnet::model::worker::WORKERS;

fn document(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

#[test]
fn the_readme_tables_are_the_registry() {
    let readme = document("README.md");
    for worker in WORKERS {
        let row = format!("| `{}` | {} |", worker.name, worker.summary);
        assert!(readme.contains(&row), "README lacks: {row}");
    }
    for service in Service::ALL {
        let row = format!(
            "| `{}` | {} | {} |",
            service.slug(),
            service.port(),
            service.summary()
        );
        assert!(readme.contains(&row), "README lacks: {row}");
    }
}

#[test]
fn unknown_settings_in_a_file_end_with_78_and_name_the_line() {
    let dir = tempfile::tempdir().unwrap();
    let ini = dir.path().join("decnet.ini");
    fs::write(&ini, "[api]\nprot = 1\n").unwrap();
    let refused = Assert::from(command(dir.path()))
        .env("DECNET_CONFIG", &ini)
        .args(["config", "show"])
        .assert()
        .code(78);
    let text = String::from_utf8_lossy(&refused.get_output().stderr);
    assert!(
        text.contains("decnet.ini: line 2: unknown key 'prot' in [api]"),
        "{text}"
    );
}

#[test]
fn a_worker_with_a_bad_setting_exits_78_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let refused = Assert::from(command(dir.path()))
        .env("DECNET_API_PORT", "many")
        .arg("api")
        .assert()
        .code(78);
    let text = String::from_utf8_lossy(&refused.get_output().stderr);
    assert!(
        text.contains("DECNET_API_PORT (environment) is 'many'"),
        "{text}"
    );
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let script = format!(
        "{} --state-dir {} config keys | head -n 1 >/dev/null; exit ${{PIPESTATUS[0]}}",
        crate::support::decnet().display(),
        dir.path().display()
    );
    let status = std::process::Command::new("bash")
        .args(["-c", &script])
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn secrets_are_masked_in_config_show() {
    let dir = tempfile::tempdir().unwrap();
    let output = command(dir.path())
        .env("DECNET_ADMIN_PASSWORD", "a-real-secret-1")
        .args(["config", "show", "--json"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("***") && !text.contains("a-real-secret-1"),
        "{text}"
    );
}

#[test]
fn the_man_page_and_the_completions_name_every_visible_command() {
    let dir = tempfile::tempdir().unwrap();
    for what in ["man", "bash", "zsh", "fish"] {
        let output = command(dir.path())
            .args(["completions", what])
            .output()
            .unwrap();
        assert!(output.status.success());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        for name in ["deploy", "teardown", "collector", "doctor", "credentials"] {
            assert!(text.contains(name), "{what} lacks {name}");
        }
    }
}

#[test]
fn status_works_where_nothing_was_ever_started() {
    let dir = tempfile::tempdir().unwrap();
    let output = command(dir.path())
        .args(["status", "--json"])
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["workers"].as_array().unwrap().len(), WORKERS.len());
    assert_eq!(report["workers"][0]["heartbeat"], "unknown");
}
