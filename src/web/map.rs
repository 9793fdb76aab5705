//! The world map: countries drawn darker the more attackers came from them. The shapes are
//! jsVectorMap's (MIT), whose file holds `XX:{path:"…",name:"…"}` for each country.

use std::fmt::Write as _;
use std::sync::OnceLock;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

use super::Web;
use super::assets::{gzip, takes_gzip};
use super::error::Failure;
use super::visitor::Visitor;

const SOURCE: &str = include_str!("assets/vendor/jsvectormap-1.7.0/world.js");

struct Country {
    code: &'static str,
    name: &'static str,
    path: &'static str,
}

fn countries() -> &'static [Country] {
    static COUNTRIES: OnceLock<Vec<Country>> = OnceLock::new();
    COUNTRIES.get_or_init(|| {
        let mut found = Vec::new();
        let mut rest = SOURCE;
        while let Some((before, after)) = rest.split_once(":{path:\"") {
            let code = before.rsplit(['{', ',']).next().unwrap_or_default();
            let Some((path, after)) = after.split_once("\",name:\"") else {
                break;
            };
            let Some((name, after)) = after.split_once('"') else {
                break;
            };
            rest = after;
            found.push(Country {
                code: code.trim_matches('"'),
                name,
                path,
            });
        }
        found
    })
}

/// Five steps from pale to strong, and one for none.
const COLOURS: [&str; 6] = [
    "#8884", "#f6c28b", "#f39c4a", "#e5701a", "#b8450a", "#7a2a02",
];

/// The map.
pub(super) async fn svg(
    State(web): State<Web>,
    visitor: Visitor,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let seen = web.get(&visitor.caller, "/stats/overview").await?;
    let counts: Vec<(&str, i64)> = seen["countries"]
        .as_array()
        .map_or(&[][..], Vec::as_slice)
        .iter()
        .filter_map(|c| Some((c["country"].as_str()?, c["attackers"].as_i64()?)))
        .collect();
    let most = counts.iter().map(|(_, n)| *n).max().unwrap_or(0).max(1);
    let mut out = String::with_capacity(SOURCE.len() + 8192);
    out.push_str(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 900 441\" role=\"img\"><title>Attackers by country</title>",
    );
    for country in countries() {
        let count = counts.iter().find(|(code, _)| *code == country.code);
        let count = count.map_or(0, |(_, n)| *n);
        // Logarithmic: one loud country must not hide the others.
        let step = match count {
            0 => 0,
            n => {
                1 + usize::try_from(i64::from(n.ilog2()) * 4 / i64::from(most.ilog2().max(1)))
                    .unwrap_or(0)
                    .min(4)
            }
        };
        let colour = COLOURS.get(step).copied().unwrap_or("#8884");
        // Writing to a String cannot fail.
        let _written = write!(
            out,
            "<path d=\"{}\" fill=\"{colour}\" stroke=\"#8886\" stroke-width=\".4\"><title>{}: {count}</title></path>",
            country.path, country.name,
        );
    }
    out.push_str("</svg>");
    let kind = [
        (header::CONTENT_TYPE, "image/svg+xml"),
        (header::VARY, "accept-encoding"),
    ];
    if !takes_gzip(&headers) {
        return Ok((kind, out).into_response());
    }
    let packed = [(header::CONTENT_ENCODING, "gzip")];
    Ok((kind, packed, gzip(out.as_bytes())).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_country_of_the_file_has_a_code_a_name_and_a_shape() {
        let all = countries();
        assert!(all.len() > 170, "{}", all.len());
        for country in all {
            assert!(country.path.starts_with('M'), "{}", country.code);
            assert!(!country.path.contains(['<', '"', '&']));
            assert!(!country.name.contains(['<', '&']), "{}", country.name);
        }
        assert!(all.iter().any(|c| c.code == "DE" && c.name == "Germany"));
    }
}
