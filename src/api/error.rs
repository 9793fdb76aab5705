//! What a client is told when something goes wrong: an RFC 9457 problem document,
//! always, also for what axum itself refuses. Handlers return [`Error`]; `edge` turns
//! it into the document, because only there the request id is known. Internal causes
//! are logged with that id and never sent.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::db;

/// The body of every reply that is not a success (`application/problem+json`).
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Problem {
    /// `urn:decnet:problem:<code>`.
    #[schema(example = "urn:decnet:problem:unauthorized")]
    pub(super) r#type: String,
    /// The kind of problem in words.
    pub(super) title: String,
    /// The HTTP status again.
    pub(super) status: u16,
    /// What happened here and what to do about it.
    pub(super) detail: String,
    /// A stable word for programs.
    #[schema(example = "unauthorized")]
    pub(super) code: String,
    /// The id under which the server's log speaks of this request.
    pub(super) request_id: String,
    /// What exactly is wrong, where that is more than one thing may be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) errors: Vec<Blame>,
}

/// One thing that is wrong with a request.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Blame {
    /// Line of a file, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) line: Option<usize>,
    /// Name of a field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) field: Option<String>,
    /// What is wrong and how to mend it.
    pub(super) message: String,
}

impl std::fmt::Display for Blame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// A refused or failed request.
#[derive(Clone, Debug)]
pub(super) struct Error {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) detail: String,
    pub(super) retry_after: Option<Duration>,
    pub(super) blames: Vec<Blame>,
    /// For the log only.
    pub(super) cause: Option<String>,
}

impl Error {
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            retry_after: None,
            blames: Vec::new(),
            cause: None,
        }
    }

    /// The same, with everything that is wrong.
    pub(super) fn blaming(self, blames: Vec<Blame>) -> Self {
        Self { blames, ..self }
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", detail)
    }

    /// The request is well formed and its values are not acceptable.
    pub(super) fn unacceptable(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
    }

    pub(super) fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    pub(super) fn forbidden(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, detail)
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    pub(super) fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    pub(super) fn too_many(
        code: &'static str,
        detail: impl Into<String>,
        retry_after: Duration,
    ) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, code, detail)
        }
    }

    pub(super) fn unavailable(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail)
    }

    /// Something of ours failed; the client learns only that it did.
    pub(super) fn internal(cause: impl Into<String>) -> Self {
        Self {
            cause: Some(cause.into()),
            ..Self::of_status(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }

    /// For replies that axum made: nothing is known but the status.
    pub(super) fn of_status(status: StatusCode) -> Self {
        let (code, detail) = match status {
            StatusCode::BAD_REQUEST => ("bad-request", "The request could not be read."),
            StatusCode::NOT_FOUND => (
                "not-found",
                "There is nothing at this path; /api/v1/openapi.json lists what there is.",
            ),
            StatusCode::METHOD_NOT_ALLOWED => (
                "method-not-allowed",
                "This path exists, but not with this method; see the Allow header.",
            ),
            StatusCode::PAYLOAD_TOO_LARGE => ("too-large", "The request body is too large."),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => (
                "unsupported-media-type",
                "Send JSON, with Content-Type: application/json.",
            ),
            StatusCode::INTERNAL_SERVER_ERROR => (
                "internal",
                "The server failed; its log tells more under this request id.",
            ),
            _ => ("refused", "The request was refused."),
        };
        Self::new(status, code, detail)
    }

    pub(super) fn problem(&self, request_id: &str) -> Problem {
        Problem {
            r#type: format!("urn:decnet:problem:{}", self.code),
            title: self.status.canonical_reason().unwrap_or("Error").to_owned(),
            status: self.status.as_u16(),
            detail: self.detail.clone(),
            code: self.code.to_owned(),
            request_id: request_id.to_owned(),
            errors: self.blames.clone(),
        }
    }
}

impl From<db::Error> for Error {
    fn from(error: db::Error) -> Self {
        match error {
            db::Error::Conflict(what) => Self::conflict(
                "conflict",
                format!("{what} was changed by somebody else meanwhile; look again and repeat."),
            ),
            other => Self::internal(format!("{:#}", anyhow::Error::new(other))),
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}
