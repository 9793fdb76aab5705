//! The plan of a deploy as a diff: one line per decky, one per field that changes.

use crate::cli::output;
use crate::fleet::difference::slugs;
use crate::fleet::{Action, Change, Field};
use crate::model::Wish;

/// Prints what would change, and how many of each.
pub(super) fn diff(changes: &[Change]) -> anyhow::Result<()> {
    let colour = output::colour();
    for change in changes {
        for line in lines(change) {
            output::line(painted(change.action, &line, colour))?;
        }
    }
    output::line(sentence(changes))?;
    Ok(())
}

fn lines(change: &Change) -> Vec<String> {
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
        wish.family.map(crate::model::Family::slug),
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
        output::safe(&shown(&field.before)),
        output::safe(&shown(&field.after))
    )
}

fn painted(action: Action, line: &str, colour: bool) -> String {
    let code = match action {
        Action::Add => 32,
        Action::Remove => 31,
        Action::Change | Action::Replace => 33,
        Action::Keep => 0,
    };
    if colour && !line.starts_with(' ') {
        format!("\u{1b}[{code}m{line}\u{1b}[0m")
    } else {
        line.to_owned()
    }
}

/// `1 to add, 2 to change, 4 as they are`.
fn sentence(changes: &[Change]) -> String {
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
