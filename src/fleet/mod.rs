//! What a fleet should look like: names, addresses, the deployment INI, and the
//! difference between what is wanted and what the rows say. Values in, values out.

pub mod ask;
mod custom;
pub mod difference;
pub mod edit;
pub mod ini;
pub mod mutation;
pub mod outline;
pub mod plan;
pub mod pool;
pub mod progress;
pub mod state;

pub use ask::{Ask, Ground};
pub use difference::Field;
pub use plan::{Action, Change, Mode, Plan, Pools, Wanted};
pub use pool::Pool;

/// Most deckies one deploy may name.
pub const MAX_DECKIES: usize = 1000;
/// Longest decky name.
const NAME_MAX: usize = 63;

/// Checks a decky name: it becomes a directory, a topic segment and the HOST of event
/// lines.
///
/// # Errors
/// What is wrong with it, ready to print.
pub fn check_name(name: &str) -> Result<(), String> {
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    let fits = name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if name.len() <= NAME_MAX && starts_well && fits {
        return Ok(());
    }
    Err(format!(
        "'{name}' is not a decky name: use up to {NAME_MAX} letters, digits, '-' and '_', beginning with a letter or digit"
    ))
}

/// Name of the `n`th decky of a deploy by count, from 1.
#[must_use]
pub fn default_name(n: usize) -> String {
    format!("decky-{n:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_escape_are_refused() {
        for bad in ["", "../x", "a/b", "a.b", "-a", "a b", &"x".repeat(64)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        for good in ["decky-01", "A_b-9"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
    }
}
