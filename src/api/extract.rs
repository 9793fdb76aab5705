//! Bodies and queries, with our problem documents in place of axum's texts.

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::error::Error;

/// A JSON body.
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self, Error> {
        match axum::Json::<T>::from_request(request, state).await {
            Ok(axum::Json(body)) => Ok(Self(body)),
            Err(JsonRejection::JsonDataError(bad)) => {
                Err(Error::unacceptable("bad-body", bad.body_text()))
            }
            Err(JsonRejection::JsonSyntaxError(bad)) => Err(Error::bad_request(bad.body_text())),
            Err(JsonRejection::MissingJsonContentType(_)) => {
                Err(Error::of_status(StatusCode::UNSUPPORTED_MEDIA_TYPE))
            }
            Err(other) => Err(Error::of_status(other.status())),
        }
    }
}

/// A query string. Unknown parameters are refused by the types, so a misspelt filter
/// never selects everything.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        axum::extract::Query::<T>::from_request_parts(parts, state)
            .await
            .map(|query| Self(query.0))
            .map_err(|bad: QueryRejection| Error::bad_request(bad.body_text()))
    }
}

/// Whether that can be an id of ours: a UUID in small letters.
pub(super) fn is_id(text: &str) -> bool {
    let fits = |b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-');
    text.len() == 36 && text.bytes().all(fits)
}
