//! `/auth/totp`: the second factor of an account, begun with the password, counted from
//! the first right code on, and ended with both. The secret lies sealed in the database.

use std::net::IpAddr;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::{Admin, Viewer};
use super::error::{Error, Problem};
use super::extract::Json;
use super::{Api, otp, session, users};
use crate::db::totp::TotpRow;
use crate::db::user::UserRow;
use crate::model::Stamp;

/// Longest code that is looked at, with the spaces people put into it.
pub(super) const MAX_CODE: usize = 64;

/// What the secret is sealed for: it opens in no other account's row.
fn context(user_id: &str) -> String {
    format!("totp/{user_id}")
}

fn open(api: &Api, user_id: &str, row: &TotpRow) -> Result<Vec<u8>, Error> {
    api.seal()?
        .unseal(&context(user_id), &row.secret)
        .map_err(|e| {
            Error::internal(format!(
                "the second factor of account {user_id}: {e}; `decnet user reset-totp` takes it away"
            ))
        })
}

/// Asks a login whose password was right for its second factor, where there is one.
pub(super) async fn at_login(
    api: &Api,
    user: &UserRow,
    given: Option<&str>,
    address: IpAddr,
) -> Result<(), Error> {
    let row = api.db.totp_find(&user.id).await?;
    let Some(row) = row.filter(|row| row.confirmed_at.is_some()) else {
        return Ok(());
    };
    let refused = match given.filter(|code| !code.is_empty()) {
        None => Error::new(
            StatusCode::UNAUTHORIZED,
            "totp-required",
            "The password is right; send the code of the authenticator as totp, too.",
        ),
        Some(code) if take(api, user, &row, code, address).await? => return Ok(()),
        Some(_) => Error::new(
            StatusCode::UNAUTHORIZED,
            "wrong-code",
            "The code is wrong or was used before; wait for the next one.",
        ),
    };
    api.audit(&user.name, address, "login", "", refused.code)
        .await;
    Err(refused)
}

/// Whether a code is the account's; uses it up. Recovery codes count as well.
async fn take(
    api: &Api,
    user: &UserRow,
    row: &TotpRow,
    given: &str,
    address: IpAddr,
) -> Result<bool, Error> {
    if given.len() > MAX_CODE {
        return Ok(false);
    }
    let secret = open(api, &user.id, row)?;
    if let Some(step) = otp::step_of(&secret, &otp::typed(given), Stamp::now()) {
        return Ok(api.db.totp_take(&user.id, step).await?);
    }
    let hash = otp::recovery_hash(given);
    if !api.db.recovery_code_take(&user.id, &hash).await? {
        return Ok(false);
    }
    let left = api.db.recovery_code_count(&user.id).await?;
    let outcome = format!("ok, {left} left");
    api.audit(&user.name, address, "totp.recovery-code", "", &outcome)
        .await;
    Ok(true)
}

/// How one's second factor stands.
#[derive(Serialize, ToSchema)]
pub(super) struct TotpState {
    /// Whether the login asks for a code.
    enabled: bool,
    /// Recovery codes that were not used yet.
    recovery_codes_left: i64,
}

/// How one's second factor stands.
#[utoipa::path(
    get, path = "/auth/totp", tag = "auth",
    responses((status = 200, body = TotpState))
)]
pub(super) async fn state(
    State(api): State<Api>,
    Viewer(member): Viewer,
) -> Result<axum::Json<TotpState>, Error> {
    let user = &member.session.user_id;
    let row = api.db.totp_find(user).await?;
    Ok(axum::Json(TotpState {
        enabled: row.is_some_and(|row| row.confirmed_at.is_some()),
        recovery_codes_left: api.db.recovery_code_count(user).await?,
    }))
}

/// Whoever asks knows the password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BeginTotp {
    #[schema(max_length = 128)]
    password: String,
}

/// What the authenticator is told, once.
#[derive(Serialize, ToSchema)]
pub(super) struct BegunTotp {
    /// Base32; six digits, thirty seconds, SHA-1.
    secret: String,
    /// The same as an `otpauth:` address, to be shown as a picture.
    uri: String,
}

/// Begins a second factor: makes a secret for an authenticator. It counts once a code of it
/// was confirmed; begun again, the earlier one is forgotten.
#[utoipa::path(
    post, path = "/auth/totp", tag = "auth",
    request_body = BeginTotp,
    responses(
        (status = 200, body = BegunTotp),
        (status = 403, description = "The password is wrong, or asked with an API token", body = Problem),
        (status = 409, description = "The account has a second factor already", body = Problem),
        (status = 422, description = "A field is missing or unknown", body = Problem),
        (status = 429, description = "Too many attempts; see Retry-After", body = Problem),
    )
)]
pub(super) async fn begin(
    State(api): State<Api>,
    Viewer(member): Viewer,
    Json(request): Json<BeginTotp>,
) -> Result<axum::Json<BegunTotp>, Error> {
    member.must_be_logged_in()?;
    let user = session::prove(&api, &member, request.password, "totp.begin").await?;
    api.throttle().succeed(&user.name, member.address);
    let secret: [u8; otp::SECRET_BYTES] = rand::random();
    let sealed = api.seal()?.seal(&context(&user.id), &secret);
    if !api.db.totp_begin(&user.id, &sealed, Stamp::now()).await? {
        return Err(Error::conflict(
            "totp-enabled",
            "There is a second factor already; end it before another is begun.",
        ));
    }
    api.audit(&user.name, member.address, "totp.begin", "", "ok")
        .await;
    let secret = otp::base32(&secret);
    Ok(axum::Json(BegunTotp {
        uri: otp::uri(&user.name, &secret),
        secret,
    }))
}

/// A code the authenticator shows.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfirmTotp {
    #[schema(max_length = 64)]
    code: String,
}

/// Recovery codes, shown once.
#[derive(Serialize, ToSchema)]
pub(super) struct ConfirmedTotp {
    /// Each takes the place of one code of the authenticator, once.
    recovery_codes: Vec<String>,
}

/// Confirms a second factor that was begun: from now on the login asks for a code. Every
/// other session of the account ends.
#[utoipa::path(
    post, path = "/auth/totp/confirm", tag = "auth",
    request_body = ConfirmTotp,
    responses(
        (status = 200, body = ConfirmedTotp),
        (status = 403, description = "The code is wrong, or asked with an API token", body = Problem),
        (status = 409, description = "None was begun, or it is confirmed already", body = Problem),
        (status = 422, description = "A field is missing or unknown", body = Problem),
        (status = 429, description = "Too many attempts; see Retry-After", body = Problem),
    )
)]
pub(super) async fn confirm(
    State(api): State<Api>,
    Viewer(member): Viewer,
    Json(request): Json<ConfirmTotp>,
) -> Result<axum::Json<ConfirmedTotp>, Error> {
    member.must_be_logged_in()?;
    let id = &member.session.user_id;
    let name = &member.session.user_name;
    let none = || {
        Error::conflict(
            "totp-not-begun",
            "No second factor waits to be confirmed; begin one with POST /api/v1/auth/totp.",
        )
    };
    let row = api.db.totp_find(id).await?;
    let row = row.filter(|row| row.confirmed_at.is_none());
    let row = row.ok_or_else(none)?;
    session::attempt(&api, name, member.address)?;
    let secret = open(&api, id, &row)?;
    let given = otp::typed(&request.code);
    let Some(step) = otp::step_of(&secret, &given, Stamp::now()) else {
        return Err(wrong_code(&api, name, member.address, "totp.on").await);
    };
    let codes: Vec<String> = (0..otp::RECOVERY_CODES)
        .map(|_| otp::recovery_code())
        .collect();
    let hashes: Vec<_> = codes.iter().map(|code| otp::recovery_hash(code)).collect();
    let confirmed = api
        .db
        .totp_confirm(id, step, &hashes, &member.token, Stamp::now())
        .await?;
    if !confirmed {
        return Err(none());
    }
    api.recent.clear();
    api.throttle().succeed(name, member.address);
    api.audit(name, member.address, "totp.on", "", "ok").await;
    Ok(axum::Json(ConfirmedTotp {
        recovery_codes: codes,
    }))
}

async fn wrong_code(api: &Api, name: &str, address: IpAddr, action: &str) -> Error {
    api.audit(name, address, action, "", "wrong-code").await;
    Error::forbidden(
        "wrong-code",
        "The code is wrong or was used before; wait for the next one.",
    )
}

/// Whoever asks has both.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EndTotp {
    #[schema(max_length = 128)]
    password: String,
    /// Of the authenticator, or a recovery code.
    #[schema(max_length = 64)]
    code: String,
}

/// Ends one's second factor: the password alone opens the account again.
#[utoipa::path(
    delete, path = "/auth/totp", tag = "auth",
    request_body = EndTotp,
    responses(
        (status = 204),
        (status = 403, description = "Password or code is wrong, or asked with an API token", body = Problem),
        (status = 409, description = "The account has no second factor", body = Problem),
        (status = 422, description = "A field is missing or unknown", body = Problem),
        (status = 429, description = "Too many attempts; see Retry-After", body = Problem),
    )
)]
pub(super) async fn end(
    State(api): State<Api>,
    Viewer(member): Viewer,
    Json(request): Json<EndTotp>,
) -> Result<StatusCode, Error> {
    member.must_be_logged_in()?;
    let row = api.db.totp_find(&member.session.user_id).await?;
    let row = row.filter(|row| row.confirmed_at.is_some());
    let row =
        row.ok_or_else(|| Error::conflict("totp-off", "The account has no second factor."))?;
    let address = member.address;
    let user = session::prove(&api, &member, request.password, "totp.off").await?;
    if !take(&api, &user, &row, &request.code, address).await? {
        return Err(wrong_code(&api, &user.name, address, "totp.off").await);
    }
    api.throttle().succeed(&user.name, address);
    api.db.totp_end(&user.id).await?;
    api.audit(&user.name, address, "totp.off", "", "ok").await;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes another account's second factor away, for whoever lost the authenticator and the
/// recovery codes. Its sessions end.
#[utoipa::path(
    delete, path = "/config/users/{id}/totp", tag = "accounts",
    params(("id" = String, Path, description = "An account's id")),
    responses(
        (status = 204),
        (status = 403, description = "Not an administrator, or one's own account", body = Problem),
        (status = 404, description = "There is no such account, or it has no second factor", body = Problem),
    )
)]
pub(super) async fn reset(
    State(api): State<Api>,
    Admin(member): Admin,
    Path(id): Path<String>,
) -> Result<StatusCode, Error> {
    let row = users::other(&api, &member, &id).await?;
    if !api.db.totp_end(&row.id).await? {
        return Err(Error::not_found("This account has no second factor."));
    }
    api.db.session_end_all(&row.id, None).await?;
    api.recent.clear();
    users::note(&api, &member, "user.reset-totp", &row.name).await;
    Ok(StatusCode::NO_CONTENT)
}
