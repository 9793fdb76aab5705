//! Two wishes side by side, field by field, for people.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::model::{Custom, Service, Wish};

/// One field that changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Field {
    /// Its name as a deployment file has it.
    pub field: String,
    /// What it was; nothing when it was not set.
    pub before: Option<String>,
    /// What it becomes; nothing when it is unset.
    pub after: Option<String>,
}

impl Field {
    /// A field that changes from `before` to `after`.
    #[must_use]
    pub fn new(field: &str, before: Option<String>, after: Option<String>) -> Self {
        Self {
            field: field.to_owned(),
            before,
            after,
        }
    }
}

/// Every field in which `after` differs from `before`.
#[must_use]
pub fn difference(before: &Wish, after: &Wish) -> Vec<Field> {
    let mut fields = Vec::new();
    let mut compare = |field: &str, before: Option<String>, after: Option<String>| {
        if before != after {
            fields.push(Field::new(field, before, after));
        }
    };
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    compare(
        "runtime",
        text(before.runtime.as_str()),
        text(after.runtime.as_str()),
    );
    let (old, new) = (before.link.as_ref(), after.link.as_ref());
    compare(
        "driver",
        old.map(|l| l.driver.as_str().to_owned()),
        new.map(|l| l.driver.as_str().to_owned()),
    );
    compare(
        "interface",
        old.and_then(|l| text(&l.parent)),
        new.and_then(|l| text(&l.parent)),
    );
    compare(
        "net",
        old.map(|l| l.subnet.to_string()),
        new.map(|l| l.subnet.to_string()),
    );
    compare(
        "gw",
        old.and_then(|l| l.gateway).map(|ip| ip.to_string()),
        new.and_then(|l| l.gateway).map(|ip| ip.to_string()),
    );
    compare(
        "archetype",
        before.archetype.clone(),
        after.archetype.clone(),
    );
    compare("distro", before.distro.clone(), after.distro.clone());
    compare(
        "nmap_os",
        before.family.map(|f| f.slug().to_owned()),
        after.family.map(|f| f.slug().to_owned()),
    );
    compare(
        "services",
        text(&slugs(&before.services)),
        text(&slugs(&after.services)),
    );
    for (service, key) in setting_names(before).union(&setting_names(after)) {
        compare(
            &format!("{service}.{key}"),
            setting(before, *service, key),
            setting(after, *service, key),
        );
    }
    let names: BTreeSet<&str> = [before, after]
        .into_iter()
        .flat_map(|w| w.customs.iter().map(|c| c.name.as_str()))
        .collect();
    for name in names {
        compare(
            &format!("custom-{name}"),
            custom(before, name),
            custom(after, name),
        );
    }
    compare(
        "mutate_interval",
        before.mutate_interval.map(|n| n.to_string()),
        after.mutate_interval.map(|n| n.to_string()),
    );
    fields
}

/// `redis,http`.
#[must_use]
pub fn slugs(services: &[Service]) -> String {
    let slugs: Vec<&str> = services.iter().map(|s| s.slug()).collect();
    slugs.join(",")
}

fn setting_names(wish: &Wish) -> BTreeSet<(Service, String)> {
    wish.settings
        .iter()
        .flat_map(|(service, values)| values.keys().map(|key| (*service, key.clone())))
        .collect()
}

fn setting(wish: &Wish, service: Service, key: &str) -> Option<String> {
    let value = wish.settings.get(&service)?.get(key)?;
    Some(value.to_string())
}

fn custom(wish: &Wish, name: &str) -> Option<String> {
    let Custom {
        image, exec, ports, ..
    } = wish.customs.iter().find(|c| c.name == name)?;
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    let mut text = image.clone();
    if !exec.is_empty() {
        text = format!("{text} {}", exec.join(" "));
    }
    if !ports.is_empty() {
        text = format!("{text} on {}", ports.join(","));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Runtime;

    #[test]
    fn every_changed_field_is_named_and_no_other() {
        let before = Wish {
            services: vec![Service::Http],
            mutate_interval: Some(30),
            ..Wish::default()
        };
        let mut after = before.clone();
        assert!(difference(&before, &after).is_empty());
        after.services.push(Service::Ftp);
        after.runtime = Runtime::Docker;
        after.mutate_interval = None;
        after.settings.insert(
            Service::Ftp,
            [("anonymous".to_owned(), serde_json::json!(false))].into(),
        );
        let fields = difference(&before, &after);
        let lines: Vec<(&str, Option<&str>, Option<&str>)> = fields
            .iter()
            .map(|f| (f.field.as_str(), f.before.as_deref(), f.after.as_deref()))
            .collect();
        assert_eq!(
            lines,
            [
                ("runtime", Some("local"), Some("docker")),
                ("services", Some("http"), Some("http,ftp")),
                ("ftp.anonymous", None, Some("false")),
                ("mutate_interval", Some("30"), None),
            ]
        );
    }
}
