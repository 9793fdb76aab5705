//! A job: something that was asked and takes a while. What one of the fleet wants of each
//! decky is a row version; how far it is follows from the decky rows. An export counts the
//! rows it has written.

use serde::{Deserialize, Serialize};

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobKind {
    /// Deckies added, changed or removed by a deployment file.
    Deploy,
    /// One decky removed.
    Teardown,
    /// One decky started anew.
    Redeploy,
    /// A service of one decky added, removed or configured.
    Service,
    /// Findings written into a file.
    Export,
}

impl JobKind {
    /// The word in rows and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            JobKind::Deploy => "deploy",
            JobKind::Teardown => "teardown",
            JobKind::Redeploy => "redeploy",
            JobKind::Service => "service",
            JobKind::Export => "export",
        }
    }
}

/// How it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobStatus {
    /// Known, but nothing is written yet.
    #[default]
    Queued,
    /// Written; the reconciler makes it so.
    Running,
    /// Everything is as it was asked.
    Succeeded,
    /// Something is not.
    Failed,
}

impl JobStatus {
    /// The word in rows and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            JobStatus::Queued => "queued",
            JobStatus::Running => "running",
            JobStatus::Succeeded => "succeeded",
            JobStatus::Failed => "failed",
        }
    }

    /// From the word; one that a newer version wrote is over for us.
    #[must_use]
    pub fn parse(word: &str) -> Self {
        match word {
            "queued" => JobStatus::Queued,
            "running" => JobStatus::Running,
            "succeeded" => JobStatus::Succeeded,
            _ => JobStatus::Failed,
        }
    }

    /// Whether nothing more comes.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, JobStatus::Succeeded | JobStatus::Failed)
    }
}

/// What a job wants of one decky.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Version its row has once the job is written.
    pub version: i64,
    /// It is to go.
    #[serde(default)]
    pub gone: bool,
}

/// How one decky of a job stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct JobItem {
    /// Its name.
    pub name: String,
    /// A decky's state, or `removed`.
    pub state: String,
    /// Why it is not as it was asked.
    pub detail: Option<String>,
}
