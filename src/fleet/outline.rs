//! A plan in lines, as `decnet deploy --dry-run` and the preview of the API show it. What
//! is in them may be anybody's text: who prints it makes it safe.

use crate::fleet::difference::slugs;
use crate::fleet::{Action, Change, Field};
use crate::model::{Family, Wish};

/// One line for the decky, one for each field that changes; none when it stays as it is.
#[must_use]
pub fn lines(change: &Change) -> Vec<String> {
    let (name, ip) = (&change.name, change.ip);
    match change.action {
        Action::Keep => Vec::new(),
        Action::Add => vec![format!("+ {name} {ip} {}", words(&change.wish))],
        Action::Remove => vec![format!("- {name} {ip} {}", words(&change.wish))],
        Action::Change | Action::Replace => {
            let fate = if change.new_persona {
                " becomes another host"
            } else {
                ""
            };
            let fields = change.fields.iter().map(field);
            std::iter::once(format!("~ {name} {ip}{fate}"))
                .chain(fields)
                .collect()
        }
    }
}

/// Runtime, what it is made from, services.
fn words(wish: &Wish) -> String {
    let mut services = slugs(&wish.services);
    for custom in &wish.customs {
        if !services.is_empty() {
            services.push(',');
        }
        services.push_str(&custom.name);
    }
    if services.is_empty() {
        "(1 to 3 services, drawn when it is first deployed)".clone_into(&mut services);
    }
    let made_from = [
        wish.archetype.as_deref(),
        wish.distro.as_deref(),
        wish.family.map(Family::slug),
    ];
    let mut words = vec![wish.runtime.as_str()];
    words.extend(made_from.into_iter().flatten());
    words.push(&services);
    words.join(" ")
}

fn field(field: &Field) -> String {
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "(none)".to_owned());
    format!(
        "    {}: {} -> {}",
        field.field,
        shown(&field.before),
        shown(&field.after)
    )
}

/// `1 to add, 2 to change, 4 as they are`.
#[must_use]
pub fn sentence(changes: &[Change]) -> String {
    let count = |actions: &[Action]| {
        changes
            .iter()
            .filter(|c| actions.contains(&c.action))
            .count()
    };
    let parts: Vec<String> = [
        (count(&[Action::Add]), "to add"),
        (count(&[Action::Change, Action::Replace]), "to change"),
        (count(&[Action::Remove]), "to remove"),
        (count(&[Action::Keep]), "as wanted"),
    ]
    .into_iter()
    .filter(|(n, _)| *n > 0)
    .map(|(n, what)| format!("{n} {what}"))
    .collect();
    parts.join(", ")
}
