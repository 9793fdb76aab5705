//! Texts: placeholders the operator put in, a picture in HTML and SVG, else a comment in
//! the manner of the language. What has no comments stays as it was.

use super::How;
use super::xml::escape;

/// How a language writes a comment line: before and after it.
const COMMENTS: &[(&[&str], &str, &str)] = &[
    (
        &[
            "sh",
            "bash",
            "py",
            "rb",
            "pl",
            "yml",
            "yaml",
            "conf",
            "cfg",
            "env",
            "toml",
            "properties",
            "ps1",
            "tf",
            "dockerfile",
            "r",
            "cnf",
            "htaccess",
        ],
        "# ",
        "",
    ),
    (&["ini", "reg", "inf"], "; ", ""),
    (&["sql", "lua", "hs"], "-- ", ""),
    (
        &[
            "js", "ts", "c", "h", "cpp", "cs", "java", "go", "rs", "php", "kt", "swift",
        ],
        "// ",
        "",
    ),
    (&["css"], "/* ", " */"),
    (&["xml", "config", "xaml"], "<!-- ", " -->"),
    (&["bat", "cmd"], "REM ", ""),
    (&["tex"], "% ", ""),
    (&["txt", "md", "rst", "log"], "", ""),
];

/// Media type, text and what was done.
pub(super) fn instrument(
    text: &str,
    ending: &str,
    url: &str,
    host: &str,
) -> (&'static str, String, How) {
    let start: String = text.trim_start().chars().take(512).collect();
    let start = start.to_ascii_lowercase();
    let html = matches!(ending, "html" | "htm" | "xhtml")
        || start.starts_with("<!doctype html")
        || start.starts_with("<html");
    let svg = !html && (ending == "svg" || start.starts_with("<svg") || start.contains("<svg "));
    let content_type = match ending {
        _ if html => "text/html; charset=utf-8",
        _ if svg => "image/svg+xml",
        "json" => "application/json",
        "csv" => "text/csv; charset=utf-8",
        "eml" => "message/rfc822",
        "xml" => "application/xml",
        _ => "text/plain; charset=utf-8",
    };
    if text.contains("{{URL}}") || text.contains("{{HOST}}") {
        let text = text.replace("{{URL}}", url).replace("{{HOST}}", host);
        return (content_type, text, How::Placeholder);
    }
    if html {
        let pixel = format!(
            "<img src=\"{}/logo.png\" width=\"1\" height=\"1\" alt=\"\">\n",
            escape(url)
        );
        return (
            content_type,
            before_last(text, "</body", &pixel),
            How::Pixel,
        );
    }
    if svg {
        let image = format!(
            "<image xmlns=\"http://www.w3.org/2000/svg\" xmlns:xlink=\"http://www.w3.org/1999/xlink\" href=\"{0}/logo.png\" xlink:href=\"{0}/logo.png\" width=\"1\" height=\"1\"/>",
            escape(url)
        );
        // A drawing whose end is not there is none.
        for end in ["</svg>", "</svg:svg>"] {
            if text.contains(end) {
                return (content_type, before_last(text, end, &image), How::Drawing);
            }
        }
        return (content_type, text.to_owned(), How::Passthrough);
    }
    let comment = COMMENTS
        .iter()
        .find(|(endings, _, _)| endings.contains(&ending));
    let Some((_, before, after)) = comment else {
        return (content_type, text.to_owned(), How::Passthrough);
    };
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let gap = if text.is_empty() || text.ends_with('\n') {
        ""
    } else {
        newline
    };
    let text = format!("{text}{gap}{before}See also {url}{after}{newline}");
    (content_type, text, How::Comment)
}

/// `text` with `what` before the last `mark` in any case, else at its end.
fn before_last(text: &str, mark: &str, what: &str) -> String {
    let at = text.to_ascii_lowercase().rfind(mark).unwrap_or(text.len());
    let (before, after) = text.split_at_checked(at).unwrap_or((text, ""));
    [before, what, after].concat()
}
