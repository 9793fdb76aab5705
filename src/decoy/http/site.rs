//! The site of one host, drawn from the persona, so that no two installations serve the
//! same bytes: a small staff portal, the start page of a Windows server, the pages of a
//! device. Files never change while the host lives: their dates lie before its boot.

use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use rand::RngExt;
use std::io::Write;

use crate::decoy::http::custom::Custom;
use crate::decoy::http::{device, iis_pages, pages};
use crate::model::{Family, Stamp};
use crate::persona::{Persona, WebServer};

/// A static file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct File {
    /// Path below the document root, with leading slash.
    pub(super) path: String,
    /// Content.
    pub(super) body: Vec<u8>,
    /// Content, gzip-compressed, where the server would compress it.
    pub(super) gzip: Option<Vec<u8>>,
    /// Media type as the server's own table names it.
    pub(super) mime: &'static str,
    /// When it was last changed; whole seconds.
    pub(super) modified: Stamp,
}

/// Everything static about the site.
#[derive(Clone, Debug)]
pub(super) struct Site {
    /// Its files.
    pub(super) files: Vec<File>,
    /// Realm of `/admin/`.
    pub(super) basic_realm: String,
    /// Path behind Digest, with both slashes.
    pub(super) digest_path: String,
    /// Its realm.
    pub(super) digest_realm: String,
    /// `opaque` of the Digest challenge, where the application makes it.
    pub(super) opaque: String,
    /// Whether there is an application with a sign-in form.
    pub(super) app: bool,
    /// When it was put there.
    pub(super) published: Stamp,
    company: String,
    title: String,
    notice: String,
    refusal: String,
    style: Style,
}

/// Words and colours of the pages.
#[derive(Clone, Debug)]
struct Style {
    /// Prefix of all class names.
    class: String,
    dark: String,
    accent: String,
    width: u32,
    sans: &'static str,
}

/// Text that goes into a page, made harmless.
#[must_use]
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#039;"),
            c => out.push(c),
        }
    }
    out
}

/// gzip as the servers write it: no name, no time, made on Unix.
#[must_use]
pub(super) fn gzip(body: &[u8], server: WebServer) -> Vec<u8> {
    // Only these two compress here.
    let level = if server == WebServer::Apache { 6 } else { 1 };
    let mut encoder = flate2::GzBuilder::new()
        .operating_system(3)
        .write(Vec::new(), Compression::new(level));
    // Writing to memory does not fail; an empty answer would be wrong but harmless.
    let mut out = match encoder
        .write_all(body)
        .and_then(|()| GzEncoder::finish(encoder))
    {
        Ok(out) => out,
        Err(_) => return Vec::new(),
    };
    // The "extra flags" (RFC 1952 §2.3): nginx lets zlib write them, which says "fastest"
    // for its level; Apache writes the header itself and leaves them zero.
    if let Some(flags) = out.get_mut(8) {
        *flags = if server == WebServer::Apache { 0 } else { 4 };
    }
    out
}

impl Site {
    /// Draws the site of `persona` as `server` serves it.
    #[must_use]
    pub(super) fn new(persona: &Persona, server: WebServer, custom: &Custom) -> Self {
        let mut rng = persona.rng("http/site");
        let mut pick = |list: &[&'static str]| -> &'static str {
            let at = rng.random_range(0..list.len().max(1));
            list.get(at).copied().unwrap_or_default()
        };
        let company = capital(&persona.company);
        let kind = pick(&[
            "Group",
            "Logistics",
            "Partners",
            "Engineering",
            "Systems",
            "Holding",
        ]);
        let portal = pick(&[
            "Intranet",
            "Staff Portal",
            "Employee Portal",
            "Workplace",
            "Extranet",
        ]);
        let notice = pick(&[
            "Please sign in with your network account.",
            "Access is limited to employees and contractors.",
            "Use your directory user name without the domain.",
            "Sign in to see schedules, forms and announcements.",
        ]);
        let refusal = pick(&[
            "Invalid user name or password.",
            "The user name or password is incorrect.",
            "Sign-in failed. Check your user name and password.",
            "Login incorrect.",
        ]);
        let area = pick(&["reports", "private", "archive", "internal", "documents"]);
        let realm = pick(&[
            "Administration",
            "Restricted",
            "Staff only",
            "Site administration",
        ]);
        let digest_realm = pick(&["Reports", "Protected area", "Internal documents", "Archive"]);
        let sans = pick(&[
            "\"Segoe UI\", Tahoma, sans-serif",
            "Verdana, Geneva, sans-serif",
            "\"Helvetica Neue\", Arial, sans-serif",
            "Calibri, Candara, sans-serif",
        ]);
        let style = Style {
            class: persona
                .hex_id("http/class", 3)
                .replace(|c: char| c.is_ascii_digit(), "x"),
            dark: format!(
                "#{}",
                persona
                    .hex_id("http/dark", 3)
                    .replace(['a', 'b', 'c', 'd', 'e', 'f'], "4")
            ),
            accent: format!("#{}", persona.hex_id("http/accent", 6)),
            width: rng.random_range(44..72),
            sans,
        };
        let age = Duration::from_secs(rng.random_range(2 * 86_400..300 * 86_400));
        let published = Stamp(
            persona
                .booted_at
                .0
                .saturating_sub(i64::try_from(age.as_micros()).unwrap_or(0))
                .div_euclid(1_000_000)
                .saturating_mul(1_000_000),
        );
        // A Windows server shows its start page, a device its own pages.
        let app = custom.app.unwrap_or(server != WebServer::Iis);
        let realm = pages::realm(persona, server).unwrap_or(format!("{company} {realm}"));
        let mut site = Self {
            files: Vec::new(),
            app,
            published,
            basic_realm: realm,
            digest_path: format!("/{area}/"),
            digest_realm: digest_realm.to_owned(),
            opaque: persona.hex_id("http/opaque", 32),
            title: match server {
                WebServer::Lighttpd => device::title(persona),
                _ => format!("{company} {kind} {portal}"),
            },
            company: format!("{company} {kind}"),
            notice: notice.to_owned(),
            refusal: refusal.to_owned(),
            style,
        };
        for (path, mut body, modified) in site.contents(persona, server) {
            let front = ["/index.html", "/iisstart.htm", "/index.htm"].contains(&path);
            if let Some(own) = custom.body.as_ref().filter(|_| front) {
                body.clone_from(own);
            }
            site.put(server, path, None, body, modified);
        }
        site
    }

    /// Paths, contents and dates of the files.
    fn contents(
        &self,
        persona: &Persona,
        server: WebServer,
    ) -> Vec<(&'static str, Vec<u8>, Stamp)> {
        let later = |days: u64| {
            let after = Duration::from_secs(days.saturating_mul(86_400));
            self.published.plus(after)
        };
        let news = self.news(persona, self.published);
        let css = self.css().into_bytes();
        let icon = self.icon(persona);
        let front = match (server, self.app) {
            (WebServer::Lighttpd, _) => {
                let content = pages::device_front(persona, &self.form(""), self.published);
                self.page(&self.title, &content)
            }
            (_, true) => self.front_page(&news),
            (_, false) => pages::package_page(persona, server),
        };
        let robots = if self.app {
            self.robots()
        } else {
            "User-agent: *\nDisallow: /admin/\n".to_owned()
        };
        match server {
            WebServer::CiscoIos => Vec::new(),
            WebServer::Emweb => pages::printer(persona)
                .into_iter()
                .map(|(path, text)| (path, text.into_bytes(), self.published))
                .chain([("/favicon.ico", icon, self.published)])
                .collect(),
            WebServer::Iis if !self.app => {
                let product = match persona.family {
                    Family::Windows => "IIS Windows",
                    _ => "IIS Windows Server",
                };
                let page = iis_pages::start_page(product).into_bytes();
                let picture = pages::png(960, 600, [0x00, 0x72, 0xc6]);
                let at = persona.installed_at;
                vec![("/iisstart.htm", page, at), ("/iisstart.png", picture, at)]
            }
            _ => vec![
                ("/index.html", front.into_bytes(), later(1)),
                ("/assets/style.css", css, self.published),
                ("/favicon.ico", icon, self.published),
                ("/robots.txt", robots.into_bytes(), self.published),
            ],
        }
    }

    /// What `/` shows.
    #[must_use]
    pub(super) fn front(&self) -> Option<&File> {
        ["/index.html", "/iisstart.htm", "/index.htm"]
            .iter()
            .find_map(|path| self.file(path.as_bytes()))
    }

    /// Adds a file, in place of the one that may be there; without a media type it gets
    /// the one of the server's own table.
    pub(super) fn put(
        &mut self,
        server: WebServer,
        path: &str,
        media: Option<&'static str>,
        body: Vec<u8>,
        modified: Stamp,
    ) {
        let mime = media.unwrap_or_else(|| mime(server, path));
        let packs = match server {
            WebServer::Nginx => mime.starts_with("text/html") && body.len() >= 20,
            // Below this Apache does not even say that it would vary.
            WebServer::Apache => mime.starts_with("text/") && body.len() >= 69,
            _ => false,
        };
        self.files.retain(|file| file.path != path);
        self.files.push(File {
            path: path.to_owned(),
            gzip: packs.then(|| gzip(&body, server)),
            body,
            mime,
            modified,
        });
    }

    /// The file at `path`.
    #[must_use]
    pub(super) fn file(&self, path: &[u8]) -> Option<&File> {
        self.files.iter().find(|f| f.path.as_bytes() == path)
    }

    /// Whether `path` (with both slashes) is a directory of the site.
    #[must_use]
    pub(super) fn is_dir(&self, path: &[u8]) -> bool {
        [
            b"/assets/".as_slice(),
            b"/admin/",
            self.digest_path.as_bytes(),
        ]
        .contains(&path)
            || (path.len() > 1
                && path.ends_with(b"/")
                && self
                    .files
                    .iter()
                    .any(|f| f.path.as_bytes().starts_with(path)))
    }

    /// The sign-in page; with a refusal when somebody tried, and the name they gave.
    #[must_use]
    pub(super) fn login(&self, tried: Option<&str>) -> String {
        let class = &self.style.class;
        let refusal = tried.map_or(String::new(), |_| {
            format!("<p class=\"{class}-err\">{}</p>\n", self.refusal)
        });
        let content = format!("{refusal}{}", self.form(tried.unwrap_or_default()));
        self.page(&format!("Sign in - {}", self.title), &content)
    }

    /// What the application shows to a visitor who does not authenticate.
    #[must_use]
    pub(super) fn denied(&self) -> String {
        let content = format!("<p>{}</p>\n", self.notice);
        self.page(&format!("{} - {}", self.digest_realm, self.title), &content)
    }

    fn form(&self, user: &str) -> String {
        let class = &self.style.class;
        format!(
            "<form class=\"{class}-form\" method=\"post\" action=\"/login\">\n\
             <p>{}</p>\n\
             <label>User name <input type=\"text\" name=\"username\" value=\"{}\" autocomplete=\"username\"></label>\n\
             <label>Password <input type=\"password\" name=\"password\" autocomplete=\"current-password\"></label>\n\
             <button type=\"submit\">Sign in</button>\n\
             </form>\n",
            self.notice,
            escape(user)
        )
    }

    fn front_page(&self, news: &str) -> String {
        let content = format!("{}{news}", self.form(""));
        self.page(&self.title, &content)
    }

    fn page(&self, title: &str, content: &str) -> String {
        let class = &self.style.class;
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title}</title>\n<link rel=\"stylesheet\" href=\"/assets/style.css\">\n\
             </head>\n<body>\n<header class=\"{class}-top\">{}</header>\n<main>\n{content}</main>\n\
             <footer>{}</footer>\n</body>\n</html>\n",
            self.title, self.company
        )
    }

    fn news(&self, persona: &Persona, at: Stamp) -> String {
        let mut rng = persona.rng("http/news");
        let subjects = [
            "VPN gateway replaced",
            "Holiday calendar published",
            "Travel expense form updated",
            "Printer queue moved",
            "New starters this month",
            "Car park closed for works",
            "Phone list corrected",
            "Time sheets due Friday",
            "Maintenance of the file server",
            "Badge office hours changed",
        ];
        let mut lines = String::from("<ul>\n");
        let mut day = at;
        for _ in 0..rng.random_range(2..5) {
            let subject = subjects
                .get(rng.random_range(0..subjects.len()))
                .copied()
                .unwrap_or_default();
            let date = day.utc();
            lines.push_str(&format!(
                "<li>{:04}-{:02}-{:02} {subject}</li>\n",
                date.year(),
                date.month(),
                date.day()
            ));
            let back = rng.random_range(2..20i64).saturating_mul(86_400_000_000);
            day = Stamp(day.0.saturating_sub(back));
        }
        lines.push_str("</ul>\n");
        lines
    }

    fn css(&self) -> String {
        let Style {
            class,
            dark,
            accent,
            width,
            sans,
        } = &self.style;
        format!(
            "body {{ margin: 0; font-family: {sans}; color: {dark}; }}\n\
             main {{ max-width: {width}rem; margin: 2rem auto; padding: 0 1rem; }}\n\
             .{class}-top {{ background: {accent}; color: #fff; padding: 1rem 2rem; font-size: 1.4rem; }}\n\
             .{class}-form label {{ display: block; margin: .6rem 0; }}\n\
             .{class}-form input {{ display: block; width: 18rem; padding: .4rem; }}\n\
             .{class}-err {{ color: #a00; }}\n\
             footer {{ border-top: 1px solid #ccc; padding: 1rem 2rem; font-size: .8rem; }}\n"
        )
    }

    fn robots(&self) -> String {
        format!(
            "User-agent: *\nDisallow: /admin/\nDisallow: {}\nDisallow: /login\n",
            self.digest_path
        )
    }

    /// A 16×16 icon in two colours of the host's own.
    fn icon(&self, persona: &Persona) -> Vec<u8> {
        let mut rng = persona.rng("http/icon");
        let mut out = vec![
            0, 0, 1, 0, 1, 0, 16, 16, 2, 0, 1, 0, 1, 0, 0xb0, 0, 0, 0, 22, 0, 0, 0,
        ];
        out.extend_from_slice(&[40, 0, 0, 0, 16, 0, 0, 0, 32, 0, 0, 0, 1, 0, 1, 0]);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&[0x80, 0, 0, 0]);
        out.extend_from_slice(&[0; 16]);
        for _ in 0..2 {
            out.extend_from_slice(&[rng.random(), rng.random(), rng.random(), 0]);
        }
        for _ in 0..16 {
            let row: u8 = rng.random();
            // Left and right mirror each other, as in the pictures generators make.
            out.extend_from_slice(&[row, row.reverse_bits(), 0, 0]);
        }
        out.extend_from_slice(&[0; 64]);
        out
    }
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars
        .next()
        .map(|first| first.to_ascii_uppercase().to_string() + chars.as_str())
        .unwrap_or_default()
}

fn mime(server: WebServer, path: &str) -> &'static str {
    match (path.rsplit('.').next().unwrap_or_default(), server) {
        ("html" | "htm" | "LCDispatcher", _) => "text/html",
        ("css", WebServer::Lighttpd) => "text/css;charset=utf-8",
        ("css", _) => "text/css",
        ("txt", WebServer::Lighttpd) => "text/plain;charset=utf-8",
        ("txt", _) => "text/plain",
        ("xml", _) => "text/xml",
        ("png", _) => "image/png",
        ("ico", WebServer::Apache | WebServer::Lighttpd) => "image/vnd.microsoft.icon",
        ("ico", _) => "image/x-icon",
        (_, WebServer::Apache) => "text/plain",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(secret: &[u8]) -> Site {
        let asked = crate::persona::Asked::default();
        let now = Stamp(1_700_000_000_000_000);
        let persona = Persona::derive(secret, "decky-01", &asked, now);
        Site::new(&persona, WebServer::Nginx, &Custom::default())
    }

    #[test]
    fn two_installations_serve_different_bytes_and_one_always_the_same() {
        let (one, again, other) = (site(b"a"), site(b"a"), site(b"b"));
        assert_eq!(one.files, again.files);
        for path in ["/index.html", "/assets/style.css", "/favicon.ico"] {
            let body = |site: &Site| site.file(path.as_bytes()).unwrap().body.clone();
            assert_ne!(body(&one), body(&other), "{path}");
        }
    }

    #[test]
    fn no_page_names_us() {
        for n in 0..40u8 {
            let site = site(&[n]);
            for file in &site.files {
                let text = String::from_utf8_lossy(&file.body).to_lowercase();
                for word in ["decky", "decnet", "honey", "decoy"] {
                    assert!(!text.contains(word), "{word} in {}", file.path);
                }
            }
        }
    }

    #[test]
    fn a_name_given_at_sign_in_cannot_break_out_of_the_page() {
        let page = site(b"a").login(Some("\"><script>x</script>"));
        assert!(page.contains("&quot;&gt;&lt;script&gt;"));
        assert!(!page.contains("<script>"));
    }

    #[test]
    fn an_icon_has_the_size_it_says() {
        let site = site(b"a");
        let icon = &site.file(b"/favicon.ico").unwrap().body;
        assert_eq!(icon.len(), 22 + usize::from(icon[14]));
    }
}
