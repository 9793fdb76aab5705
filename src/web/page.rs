//! What is the same on every page: navigation, theme, time zone, what the last action said.

use askama::Template;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use jiff::tz::TimeZone;

use super::assets;
use super::error::Failure;
use super::visitor::{LOOK, SAID, Visitor, cookie};

/// Theme and time zone.
#[derive(Clone, Debug)]
pub(super) struct Look {
    /// `auto`, `light` or `dark`.
    pub(super) theme: &'static str,
    /// IANA name.
    pub(super) zone: String,
    tz: TimeZone,
}

impl Look {
    /// From the cookie; anything unknown is the default.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let text = cookie(headers, LOOK).map(super::text::decode);
        let text = text.unwrap_or_default();
        let (theme, zone) = text.split_once('.').unwrap_or(("auto", "UTC"));
        Self::new(theme, zone)
    }

    /// Of what was chosen.
    pub(super) fn new(theme: &str, zone: &str) -> Self {
        let theme = match theme {
            "light" => "light",
            "dark" => "dark",
            _ => "auto",
        };
        let found = match zone {
            "UTC" | "" => None,
            "local" => Some(TimeZone::system()),
            name if name.len() < 64 => TimeZone::get(name).ok(),
            _ => None,
        };
        let zone = if found.is_some() { zone } else { "UTC" };
        Self {
            theme,
            zone: zone.to_owned(),
            tz: found.unwrap_or(TimeZone::UTC),
        }
    }

    /// The zone times are shown in.
    pub(super) fn tz(&self) -> &TimeZone {
        &self.tz
    }
}

/// An entry of the navigation.
pub(super) struct Place {
    /// Where it leads.
    pub(super) href: &'static str,
    /// What it is called.
    pub(super) name: &'static str,
    /// Whether this is where one is.
    pub(super) current: bool,
}

/// A part of the navigation.
pub(super) struct Group {
    /// What it is called.
    pub(super) name: &'static str,
    /// Its pages.
    pub(super) places: Vec<Place>,
}

/// What every page has.
pub(super) struct Shell {
    /// Of the page.
    pub(super) title: String,
    /// Account name.
    pub(super) user: String,
    /// May act.
    pub(super) admin: bool,
    /// Goes into every form.
    pub(super) csrf: String,
    /// Theme.
    pub(super) theme: &'static str,
    /// Time zone.
    pub(super) zone: String,
    /// What the last action came to.
    pub(super) said: String,
    /// Path and query of this page.
    pub(super) here: String,
    /// Back to the beginning of the list this page shows a later part of; empty elsewhere.
    pub(super) newest: String,
    /// Navigation.
    pub(super) groups: Vec<Group>,
    /// URLs of the assets.
    pub(super) css: String,
    /// The same.
    pub(super) htmx: String,
    /// The same.
    pub(super) app: String,
    /// The same; only pages with charts load it.
    pub(super) echarts: String,
}

/// Address, name, and whether only administrators see it.
type Entry = (&'static str, &'static str, bool);

/// Groups of pages.
const NAVIGATION: [(&str, &[Entry]); 3] = [
    (
        "Watch",
        &[("/", "Overview", false), ("/live", "Live", false)],
    ),
    (
        "Findings",
        &[
            ("/attackers", "Attackers", false),
            ("/sessions", "Sessions", false),
            ("/credentials", "Credentials", false),
            ("/artifacts", "Artifacts", false),
        ],
    ),
    (
        "Installation",
        &[
            ("/fleet", "Fleet", false),
            ("/workers", "Workers", false),
            ("/canary", "Canary tokens", false),
            ("/webhooks", "Webhooks", true),
            ("/account", "Account", false),
            ("/users", "Users", true),
            ("/audit", "Audit", true),
            ("/config", "Config", true),
            ("/docs", "API", false),
        ],
    ),
];

impl Shell {
    /// The shell of a page called `title` in the place `nav` of the navigation.
    pub(super) fn new(visitor: &Visitor, title: impl Into<String>, nav: &str) -> Self {
        let groups = NAVIGATION
            .iter()
            .map(|(name, places)| Group {
                name,
                places: places
                    .iter()
                    .filter(|(_, _, admin)| visitor.admin || !admin)
                    .map(|(href, name, _)| Place {
                        href,
                        name,
                        current: *href == nav,
                    })
                    .collect(),
            })
            .collect();
        Self {
            title: title.into(),
            user: visitor.name.clone(),
            admin: visitor.admin,
            csrf: visitor.csrf.clone(),
            theme: visitor.look.theme,
            zone: visitor.look.zone.clone(),
            said: visitor.said.clone().unwrap_or_default(),
            newest: newest_link(&visitor.here),
            here: visitor.here.clone(),
            groups,
            css: assets::link("app.css"),
            htmx: assets::link("htmx.js"),
            app: assets::link("app.js"),
            echarts: assets::link("echarts.js"),
        }
    }
}

/// A rendered page; what the last action said is said once.
pub(super) fn show(page: &impl Template) -> Result<Response, Failure> {
    let mut response = Html(page.render()?).into_response();
    let spent = format!("{SAID}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict");
    if let Ok(value) = HeaderValue::from_str(&spent) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
    Ok(response)
}

/// A part of a page, for what keeps itself fresh.
pub(super) fn part(page: &impl Template) -> Result<Response, Failure> {
    Ok(Html(page.render()?).into_response())
}

/// Back to a page, which says `said`.
pub(super) fn back(to: &str, said: &str) -> Response {
    let mut response = Redirect::to(to).into_response();
    let short: String = said.chars().take(600).collect();
    let said = super::text::encode(&short);
    let value = format!("{SAID}={said}; Path=/; Max-Age=60; HttpOnly; SameSite=Strict");
    if let Ok(value) = HeaderValue::from_str(&value) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
    response
}

/// A path of this site, or the first page: nothing else is ever redirected to.
pub(super) fn local(path: &str) -> &str {
    let fine = path.starts_with('/')
        && !path.starts_with("//")
        && !path.contains(['\\', '\r', '\n', '\t', '\0'])
        && path.is_ascii();
    if fine { path } else { "/" }
}

/// The link to the next page of a list: this page's address with another `before`.
pub(super) fn next_link(here: &str, next: &serde_json::Value) -> String {
    let next = match next {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Number(number) => number.to_string(),
        _ => return String::new(),
    };
    let (path, kept) = without_before(here);
    let between = if kept.is_empty() { "" } else { "&" };
    format!(
        "{path}?{kept}{between}before={}",
        super::text::encode(&next)
    )
}

/// The link from a later part of a list to its beginning; empty where this is it.
fn newest_link(here: &str) -> String {
    let (_, query) = here.split_once('?').unwrap_or((here, ""));
    if !super::text::pairs(query).any(|(name, _)| name == "before") {
        return String::new();
    }
    match without_before(here) {
        (path, kept) if kept.is_empty() => path.to_owned(),
        (path, kept) => format!("{path}?{kept}"),
    }
}

/// Path and query of a page, the place in its list left out.
fn without_before(here: &str) -> (&str, String) {
    let (path, query) = here.split_once('?').unwrap_or((here, ""));
    let kept: Vec<String> = super::text::pairs(query)
        .filter(|(name, _)| name != "before")
        .map(|(name, value)| {
            let name = super::text::encode(&name);
            format!("{name}={}", super::text::encode(&value))
        })
        .collect();
    (path, kept.join("&"))
}

/// The query for the API: of what the page was asked, what the API knows; empty values are
/// what a form sends for fields left alone.
pub(super) fn query(given: &str, known: &[&str]) -> String {
    let kept: Vec<String> = super::text::pairs(given)
        .filter(|(name, value)| known.contains(&name.as_str()) && !value.is_empty())
        .map(|(name, value)| format!("{name}={}", super::text::encode(&value)))
        .collect();
    kept.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_sent_to_another_site() {
        for bad in [
            "//evil",
            "https://evil",
            "/\\evil",
            "javascript:x",
            "",
            "/a\r\nb",
        ] {
            assert_eq!(local(bad), "/", "{bad}");
        }
        assert_eq!(local("/attackers?sort=active"), "/attackers?sort=active");
    }

    #[test]
    fn the_next_page_keeps_the_filters() {
        let link = next_link("/live?q=a%20b&before=9", &serde_json::json!(5));
        assert_eq!(link, "/live?q=a%20b&before=5");
        assert_eq!(next_link("/live", &serde_json::Value::Null), "");
        assert_eq!(
            next_link("/live?before=9", &serde_json::json!(5)),
            "/live?before=5"
        );
        assert_eq!(newest_link("/live?q=a%20b&before=9"), "/live?q=a%20b");
        assert_eq!(newest_link("/live?before=9"), "/live");
        assert_eq!(newest_link("/live?q=before"), "");
        assert_eq!(query("q=&src=1.2.3.4&evil=1", &["q", "src"]), "src=1.2.3.4");
    }
}
