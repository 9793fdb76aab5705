//! How far a job is, from nothing but the decky rows: so it is the same before and after
//! a restart, and whoever asks.

use std::collections::BTreeMap;

use crate::model::job::{JobItem, JobStatus, Target};
use crate::model::{Decky, DeckyState};

/// Longest error text kept of one decky.
const DETAIL_CHARS: usize = 500;
/// Deckies named in a job's own error.
const NAMED: usize = 5;

/// How a job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Every decky, as the job names them.
    pub items: Vec<JobItem>,
    /// Those that are settled, well or badly.
    pub done: usize,
    /// Running until every decky is settled.
    pub status: JobStatus,
    /// Why it failed.
    pub error: Option<String>,
}

/// How one decky stands.
enum Fate {
    Waiting,
    Well,
    Badly,
}

/// Looks at the rows.
#[must_use]
pub fn progress(targets: &[Target], deckies: &[Decky]) -> Progress {
    let rows: BTreeMap<&str, &Decky> = deckies.iter().map(|d| (d.name.as_str(), d)).collect();
    let (mut items, mut bad) = (Vec::new(), Vec::new());
    let mut waiting = 0;
    for target in targets {
        let (fate, item) = one(target, rows.get(target.name.as_str()).copied());
        match fate {
            Fate::Waiting => waiting += 1,
            Fate::Well => {}
            Fate::Badly => bad.push(format!(
                "{}: {}",
                item.name,
                item.detail.as_deref().unwrap_or(&item.state)
            )),
        }
        items.push(item);
    }
    let (status, error) = match (waiting, bad.len()) {
        (0, 0) => (JobStatus::Succeeded, None),
        (0, _) => (JobStatus::Failed, Some(sentence(&bad))),
        _ => (JobStatus::Running, None),
    };
    Progress {
        done: items.len().saturating_sub(waiting),
        items,
        status,
        error,
    }
}

fn sentence(bad: &[String]) -> String {
    let named: Vec<&str> = bad.iter().take(NAMED).map(String::as_str).collect();
    match bad.len().saturating_sub(NAMED) {
        0 => named.join("; "),
        more => format!("{}; and {more} more", named.join("; ")),
    }
}

fn one(target: &Target, row: Option<&Decky>) -> (Fate, JobItem) {
    let (fate, state, detail) = match (target.gone, row) {
        (true, None) => (Fate::Well, "removed", None),
        (true, Some(row)) if row.removed => (Fate::Waiting, row.state.as_str(), None),
        (true, Some(row)) => (
            Fate::Badly,
            row.state.as_str(),
            Some("somebody wanted it again meanwhile".to_owned()),
        ),
        (false, None) => (
            Fate::Badly,
            "removed",
            Some("it was removed meanwhile".to_owned()),
        ),
        (false, Some(row)) if row.removed => (
            Fate::Badly,
            row.state.as_str(),
            Some("it is being removed meanwhile".to_owned()),
        ),
        (false, Some(row)) => stands(target, row),
    };
    let item = JobItem {
        name: target.name.clone(),
        state: state.to_owned(),
        detail,
    };
    (fate, item)
}

/// A decky that is to run.
fn stands(target: &Target, row: &Decky) -> (Fate, &'static str, Option<String>) {
    let error = row
        .last_error
        .as_deref()
        .map(|text| text.chars().take(DETAIL_CHARS).collect());
    let state = row.state.as_str();
    // The row of an older version says nothing about this job yet.
    if row.version < target.version {
        return (Fate::Waiting, "pending", None);
    }
    match row.state {
        DeckyState::Running => (Fate::Well, state, None),
        DeckyState::Degraded => {
            let unbound: Vec<&str> = row
                .listeners
                .iter()
                .filter(|l| l.addr.is_none())
                .map(|l| l.service.slug())
                .collect();
            let why = error.unwrap_or_else(|| format!("not listening: {}", unbound.join(", ")));
            (Fate::Badly, state, Some(why))
        }
        DeckyState::Failed => {
            let why = error.unwrap_or_else(|| "it could not be started".to_owned());
            (Fate::Badly, state, Some(why))
        }
        DeckyState::Pending | DeckyState::TearingDown => (Fate::Waiting, state, error),
    }
}

/// Whether the rows show that what wants `targets` was written: it is written wholly or
/// not at all, so any of them tells.
#[must_use]
pub fn was_written(targets: &[Target], deckies: &[Decky]) -> bool {
    let shows = |target: &Target| match deckies.iter().find(|d| d.name == target.name) {
        Some(row) => row.version >= target.version,
        // A row goes only after it was to go.
        None => target.gone,
    };
    targets.iter().all(shows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Stamp, Wish};

    fn row(name: &str, version: i64, state: DeckyState, error: Option<&str>) -> Decky {
        Decky {
            name: name.into(),
            host: "local".into(),
            ip: "127.77.0.1".parse().unwrap(),
            wish: Wish::default(),
            slot: 1,
            version,
            removed: state == DeckyState::TearingDown,
            state,
            last_error: error.map(Into::into),
            listeners: vec![],
            mutated_at: Stamp(0),
            updated_at: Stamp(0),
        }
    }

    fn target(name: &str, version: i64, gone: bool) -> Target {
        Target {
            name: name.into(),
            version,
            gone,
        }
    }

    #[test]
    fn a_job_is_over_when_every_decky_is_settled_and_tells_their_own_errors() {
        let targets = [target("a", 2, false), target("b", 1, false)];
        let early = [
            row("a", 1, DeckyState::Running, None),
            row("b", 1, DeckyState::Failed, Some("port in use")),
        ];
        let seen = progress(&targets, &early);
        assert_eq!((seen.done, seen.status), (1, JobStatus::Running));
        assert_eq!(seen.items[0].state, "pending", "the old version's state");
        let late = [
            row("a", 2, DeckyState::Running, None),
            row("b", 1, DeckyState::Failed, Some("port in use")),
        ];
        let seen = progress(&targets, &late);
        assert_eq!((seen.done, seen.status), (2, JobStatus::Failed));
        assert_eq!(seen.error.as_deref(), Some("b: port in use"));
        assert_eq!(progress(&[], &late).status, JobStatus::Succeeded);
    }

    #[test]
    fn a_removal_is_done_when_the_row_is_gone() {
        let targets = [target("a", 3, true)];
        let leaving = [row("a", 3, DeckyState::TearingDown, None)];
        assert_eq!(progress(&targets, &leaving).status, JobStatus::Running);
        assert_eq!(progress(&targets, &[]).status, JobStatus::Succeeded);
        let again = [row("a", 4, DeckyState::Pending, None)];
        assert_eq!(progress(&targets, &again).status, JobStatus::Failed);
        let wanted = [target("a", 1, false)];
        assert_eq!(progress(&wanted, &[]).status, JobStatus::Failed);
    }

    #[test]
    fn whether_it_was_written_follows_from_the_versions() {
        let targets = [target("a", 2, false), target("new", 1, false)];
        let before = [row("a", 1, DeckyState::Running, None)];
        assert!(!was_written(&targets, &before));
        let after = [
            row("a", 2, DeckyState::Pending, None),
            row("new", 1, DeckyState::Pending, None),
        ];
        assert!(was_written(&targets, &after));
        assert!(was_written(&[target("gone", 2, true)], &after));
    }

    #[test]
    fn a_long_list_of_errors_is_cut() {
        let targets: Vec<Target> = (0..9).map(|n| target(&format!("d{n}"), 1, false)).collect();
        let error = progress(&targets, &[]).error.unwrap();
        assert!(error.ends_with("; and 4 more"), "{error}");
    }
}
