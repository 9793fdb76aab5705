//! axe-core looks at every page: no serious or critical accessibility violation.

use std::path::PathBuf;

use crate::driver::Browser;

/// axe-core as `scripts/install-test-tools.sh` unpacked it.
fn source() -> Option<String> {
    let cache = std::fs::read_dir("/var/cache/decnet-test").ok()?;
    let mut all: Vec<PathBuf> = cache
        .filter_map(|entry| Some(entry.ok()?.path().join("package/axe.min.js")))
        .filter(|path| path.exists())
        .collect();
    all.sort();
    std::fs::read_to_string(all.pop()?).ok()
}

/// What axe-core finds serious on the page that is open: rule, element and reason.
pub(crate) async fn violations(browser: &Browser) -> Vec<String> {
    let Some(axe) = source() else {
        println!("skipped: axe-core is not installed; run scripts/install-test-tools.sh");
        return Vec::new();
    };
    browser.run(&axe).await;
    let found = browser
        .run_async(
            "const done = arguments[0];
             axe.run(document, {resultTypes: ['violations']}).then(
                 r => done(r.violations.filter(v => ['serious', 'critical'].includes(v.impact))
                     .flatMap(v => v.nodes.map(n => v.id + ' ' + n.target + ': ' + n.failureSummary))),
                 e => done(['axe failed: ' + e]));",
        )
        .await;
    let found = found.as_array().cloned().unwrap_or_default();
    let text = |v: &serde_json::Value| v.as_str().unwrap_or_default().to_owned();
    found.iter().map(text).collect()
}
