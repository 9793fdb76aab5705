//! What a run did, one line per step, printed as it happens and kept for `--json`.

use serde::Serialize;

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Made true; perhaps with a word.
    Done(String),
    /// True already, or not for this host.
    Skip(String),
    /// The operator's version was kept.
    Kept(String),
    /// A dry run would do it.
    Would,
    /// It did not work.
    Fail(String),
}

impl Outcome {
    pub(super) fn done() -> Self {
        Self::Done(String::new())
    }

    pub(super) fn skip(why: &str) -> Self {
        Self::Skip(why.to_owned())
    }
}

/// One line.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// `file`, `user`, `unit`, …
    pub step: &'static str,
    /// Its object.
    pub what: String,
    /// `ok`, `skip`, `kept`, `would` or `fail`.
    pub result: &'static str,
    /// Reason or remark.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tag = match self.result {
            "ok" => "[ OK ]",
            "fail" => "[FAIL]",
            "would" => "[PLAN]",
            _ => "[SKIP]",
        };
        write!(f, "{tag} {}", self.step)?;
        if !self.what.is_empty() {
            write!(f, " {}", self.what)?;
        }
        match (self.detail.is_empty(), self.result) {
            (true, _) => Ok(()),
            (false, "skip" | "kept") => write!(f, " ({})", self.detail),
            (false, _) => write!(f, ": {}", self.detail),
        }
    }
}

/// Everything a run did.
#[derive(Default, Serialize)]
pub struct Report {
    /// Per step.
    pub steps: Vec<Line>,
    /// What the operator should know beyond the steps.
    pub notes: Vec<String>,
    /// A step failed.
    pub failed: bool,
    /// The files are right, but a unit did not come up.
    pub unit_down: bool,
    #[serde(skip)]
    printer: Option<fn(&str)>,
}

impl Report {
    /// A report that hands each line to `printer` at once.
    #[must_use]
    pub fn new(printer: Option<fn(&str)>) -> Self {
        Self {
            printer,
            ..Self::default()
        }
    }

    pub(super) fn add(&mut self, step: &'static str, what: &str, outcome: Outcome) {
        let (result, detail) = match outcome {
            Outcome::Done(detail) => ("ok", detail),
            Outcome::Skip(detail) => ("skip", detail),
            Outcome::Kept(detail) => ("kept", detail),
            Outcome::Would => ("would", String::new()),
            Outcome::Fail(detail) => ("fail", detail),
        };
        self.failed |= result == "fail";
        let line = Line {
            step,
            what: what.to_owned(),
            result,
            detail,
        };
        if let Some(print) = self.printer {
            print(&line.to_string());
        }
        self.steps.push(line);
    }

    pub(super) fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        if let Some(print) = self.printer {
            print(&format!("note: {text}"));
        }
        self.notes.push(text);
    }

    /// Steps that changed something or would.
    #[must_use]
    pub fn changes(&self) -> usize {
        self.steps
            .iter()
            .filter(|l| matches!(l.result, "ok" | "would"))
            .count()
    }
}
