//! The plan of a deploy as a diff: one line per decky, one per field that changes.

use crate::cli::output;
use crate::fleet::outline::{lines, sentence};
use crate::fleet::{Action, Change};

/// Prints what would change, and how many of each.
pub(super) fn diff(changes: &[Change]) -> anyhow::Result<()> {
    let colour = output::colour();
    for change in changes {
        for line in lines(change) {
            output::line(painted(change.action, &output::safe(&line), colour))?;
        }
    }
    output::line(sentence(changes))?;
    Ok(())
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
