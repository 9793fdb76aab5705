//! `/services`, `/archetypes`, `/distros`: what a decky can be made of. Nothing but the
//! tables of this build, so every form and every script has the same list as the command
//! line.

use axum::extract::Path;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::auth::Viewer;
use super::error::{Error, Problem};
use crate::model::service::PLANNED;
use crate::model::setting::{Kind, SETTINGS, Setting};
use crate::model::{Family, Service};
use crate::persona::archetype::ARCHETYPES;
use crate::persona::distro::DISTROS;

/// A service a decky can offer.
#[derive(Serialize, ToSchema)]
pub(super) struct ServiceItem {
    name: &'static str,
    /// The port the real product listens on.
    port: u16,
    summary: &'static str,
    /// How many settings it has.
    settings: usize,
}

/// Every service.
#[derive(Serialize, ToSchema)]
pub(super) struct ServiceList {
    items: Vec<ServiceItem>,
    /// Known by name, not spoken by this version.
    planned: &'static [&'static str],
}

/// Every service a decky can offer.
#[utoipa::path(
    get, path = "/services", tag = "fleet",
    responses((status = 200, body = ServiceList))
)]
pub(super) async fn services(_viewer: Viewer) -> axum::Json<ServiceList> {
    let items = Service::ALL
        .iter()
        .map(|service| ServiceItem {
            name: service.slug(),
            port: service.port(),
            summary: service.summary(),
            settings: of(*service).count(),
        })
        .collect();
    axum::Json(ServiceList {
        items,
        planned: PLANNED,
    })
}

fn of(service: Service) -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(move |row| row.service == service)
}

/// How a setting is entered.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum FieldType {
    Text,
    Number,
    Bool,
    Choice,
}

/// One setting of a service, as a form shows it.
#[derive(Serialize, ToSchema)]
pub(super) struct FieldItem {
    key: &'static str,
    /// The key in words.
    label: String,
    r#type: FieldType,
    /// Null where the decky's persona decides.
    #[schema(value_type = Option<Object>)]
    default: Option<Value>,
    /// The words of a choice.
    r#enum: Option<&'static [&'static str]>,
    /// Least value of a number.
    min: Option<i64>,
    /// Greatest value of a number.
    max: Option<i64>,
    help: &'static str,
    /// Whether a form hides what is typed.
    secret: bool,
    /// Whether the text may have several lines.
    multiline: bool,
}

/// What can be set on a service.
#[derive(Serialize, ToSchema)]
pub(super) struct ServiceSchema {
    name: &'static str,
    ports: Vec<u16>,
    fields: Vec<FieldItem>,
}

/// The settings of a service.
#[utoipa::path(
    get, path = "/services/{name}/schema", tag = "fleet",
    params(("name" = String, Path, description = "A service of GET /services")),
    responses(
        (status = 200, body = ServiceSchema),
        (status = 404, description = "No such service", body = Problem),
    )
)]
pub(super) async fn schema(
    _viewer: Viewer,
    Path(name): Path<String>,
) -> Result<axum::Json<ServiceSchema>, Error> {
    let service: Service = name.parse().map_err(|_| {
        Error::not_found("There is no such service; GET /api/v1/services lists them.")
    })?;
    Ok(axum::Json(ServiceSchema {
        name: service.slug(),
        ports: vec![service.port()],
        fields: of(service).map(field).collect(),
    }))
}

fn field(row: &'static Setting) -> FieldItem {
    let (kind, words, range) = match row.kind {
        Kind::Bool => (FieldType::Bool, None, None),
        Kind::Int(low, high) => (FieldType::Number, None, Some((low, high))),
        Kind::Choice(words) => (FieldType::Choice, Some(words), None),
        Kind::Text | Kind::Headers | Kind::Bytes => (FieldType::Text, None, None),
    };
    FieldItem {
        key: row.key,
        label: in_words(row.key, '_'),
        r#type: kind,
        default: None,
        r#enum: words,
        min: range.map(|(low, _)| low),
        max: range.map(|(_, high)| high),
        help: row.doc,
        secret: row.key.ends_with("password"),
        multiline: row.kind == Kind::Bytes,
    }
}

/// `server_header` is `Server header`.
fn in_words(slug: &str, between: char) -> String {
    let mut chars = slug.chars();
    let first = chars.next().map(|c| c.to_ascii_uppercase());
    first
        .into_iter()
        .chain(chars.map(|c| if c == between { ' ' } else { c }))
        .collect()
}

/// A kind of machine.
#[derive(Serialize, ToSchema)]
pub(super) struct ArchetypeItem {
    slug: &'static str,
    display_name: String,
    description: &'static str,
    /// What a new decky of this kind offers.
    services: Vec<&'static str>,
    /// What it may gain in time.
    later: Vec<&'static str>,
    /// What the real ones offer and this version does not speak.
    missing: Vec<&'static str>,
    /// Distributions it is given; none where it is not Linux.
    distros: &'static [&'static str],
    #[schema(value_type = String)]
    family: Family,
}

/// Every kind of machine.
#[derive(Serialize, ToSchema)]
pub(super) struct ArchetypeList {
    items: Vec<ArchetypeItem>,
}

/// Every kind of machine.
#[utoipa::path(
    get, path = "/archetypes", tag = "fleet",
    responses((status = 200, body = ArchetypeList))
)]
pub(super) async fn archetypes(_viewer: Viewer) -> axum::Json<ArchetypeList> {
    let items = ARCHETYPES
        .iter()
        .map(|row| {
            let offers = row.offers();
            let later = row.pool().into_iter().filter(|s| !offers.contains(s));
            ArchetypeItem {
                slug: row.slug,
                display_name: in_words(row.slug, '-'),
                description: row.summary,
                later: later.map(Service::slug).collect(),
                services: offers.iter().map(|s| s.slug()).collect(),
                missing: row.missing(),
                distros: row.distros,
                family: row.family,
            }
        })
        .collect();
    axum::Json(ArchetypeList { items })
}

/// A distribution.
#[derive(Serialize, ToSchema)]
pub(super) struct DistroItem {
    slug: &'static str,
    display_name: &'static str,
}

/// Every distribution.
#[derive(Serialize, ToSchema)]
pub(super) struct DistroList {
    items: Vec<DistroItem>,
}

/// Every Linux distribution a decky can be asked to run.
#[utoipa::path(
    get, path = "/distros", tag = "fleet",
    responses((status = 200, body = DistroList))
)]
pub(super) async fn distros(_viewer: Viewer) -> axum::Json<DistroList> {
    let items = DISTROS
        .iter()
        .map(|row| DistroItem {
            slug: row.slug,
            display_name: row.display,
        })
        .collect();
    axum::Json(DistroList { items })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_becomes_a_label() {
        assert_eq!(in_words("server_header", '_'), "Server header");
        assert_eq!(in_words("", '_'), "");
    }
}
