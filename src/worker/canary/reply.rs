//! What the web listener says: an nginx with `server_tokens off` that keeps files for
//! somebody. Every byte of an answer is made here.

use crate::model::Stamp;

use super::request::Request;

/// The picture of nginx's `empty_gif`.
const PIXEL: &[u8; 43] = b"GIF89a\x01\x00\x01\x00\x80\x01\x00\x00\x00\x00\xff\xff\xff\
    \x21\xf9\x04\x01\x00\x00\x01\x00\x2c\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02\x4c\x01\x00\x3b";
/// The day it is from, as nginx says.
const PIXEL_DAY: &str = "Mon, 28 Sep 1970 06:00:00 GMT";

/// What to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Say {
    /// A picture of one pixel.
    Pixel,
    /// A page.
    Page(Vec<u8>),
    /// Nothing, and that is fine.
    Nothing,
    /// Log in first.
    Login,
    /// To a Windows host that asks whether this is a share: it is.
    Share,
    /// To the same, about a directory on the way.
    Directory(String),
    /// One of nginx's own pages.
    Refusal(u16),
    /// Somebody speaks HTTP where TLS is spoken.
    NotTls,
}

/// The answer's bytes and whether the connection ends with it. Without a request it could
/// not be read.
pub(super) fn bytes(say: &Say, request: Option<&Request>, now: Stamp) -> (Vec<u8>, bool) {
    let status = match say {
        Say::Pixel | Say::Page(_) | Say::Share => 200,
        Say::Directory(_) => 207,
        Say::Nothing => 204,
        Say::Login => 401,
        Say::Refusal(status) => *status,
        Say::NotTls => 400,
    };
    let keep = request.is_some_and(|r| r.keep) && !matches!(status, 400 | 413 | 414 | 501 | 505);
    let connection = if keep { "keep-alive" } else { "close" };
    let mut head = format!(
        "HTTP/1.1 {}\r\nServer: nginx\r\nDate: {}\r\n",
        phrase(status),
        date(now)
    );
    let mut line = |name: &str, value: &str| {
        head.push_str(name);
        head.push_str(": ");
        head.push_str(value);
        head.push_str("\r\n");
    };
    let body = match say {
        Say::Pixel => {
            line("Content-Type", "image/gif");
            line("Content-Length", "43");
            line("Last-Modified", PIXEL_DAY);
            line("Connection", connection);
            uncached(&mut line, now);
            PIXEL.to_vec()
        }
        Say::Page(page) => {
            line("Content-Type", "text/html");
            line("Content-Length", &page.len().to_string());
            line("Connection", connection);
            uncached(&mut line, now);
            page.clone()
        }
        Say::Nothing => {
            line("Connection", connection);
            Vec::new()
        }
        Say::Share => {
            line("Content-Length", "0");
            line("Connection", connection);
            line("DAV", "1,2");
            line(
                "Allow",
                "GET,HEAD,PUT,DELETE,MKCOL,COPY,MOVE,PROPFIND,OPTIONS",
            );
            Vec::new()
        }
        Say::Directory(path) => {
            let listing = directory(path, now);
            line("Content-Type", "text/xml; charset=utf-8");
            line("Content-Length", &listing.len().to_string());
            line("Connection", connection);
            listing.into_bytes()
        }
        Say::Login | Say::Refusal(_) | Say::NotTls => {
            let page = refusal(say, status, request);
            line("Content-Type", "text/html");
            line("Content-Length", &page.len().to_string());
            line("Connection", connection);
            if *say == Say::Login {
                line("WWW-Authenticate", "Basic realm=\"Restricted\"");
            }
            page.into_bytes()
        }
    };
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    if request.is_none_or(|r| r.method != "HEAD") {
        bytes.extend(body);
    }
    (bytes, !keep)
}

/// A directory with nothing in it, as nginx's WebDAV modules tell of one. `path` is one of
/// ours.
fn directory(path: &str, now: Stamp) -> String {
    let day = date(Stamp(now.0 - now.0.rem_euclid(86_400_000_000)));
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\" ?>\n<D:multistatus xmlns:D=\"DAV:\">\n\
         <D:response>\n<D:href>{path}</D:href>\n<D:propstat>\n<D:prop>\n\
         <D:getlastmodified>{day}</D:getlastmodified>\n\
         <D:resourcetype><D:collection/></D:resourcetype>\n<D:lockdiscovery/>\n</D:prop>\n\
         <D:status>HTTP/1.1 200 OK</D:status>\n</D:propstat>\n</D:response>\n</D:multistatus>\n"
    )
}

/// `expires -1;`: opened again, it is asked for again.
fn uncached(line: &mut impl FnMut(&str, &str), now: Stamp) {
    line("Expires", &date(Stamp(now.0.saturating_sub(1_000_000))));
    line("Cache-Control", "no-cache");
}

fn phrase(status: u16) -> &'static str {
    match status {
        200 => "200 OK",
        204 => "204 No Content",
        207 => "207 Multi-Status",
        400 => "400 Bad Request",
        401 => "401 Unauthorized",
        403 => "403 Forbidden",
        404 => "404 Not Found",
        405 => "405 Not Allowed",
        413 => "413 Request Entity Too Large",
        414 => "414 Request-URI Too Large",
        501 => "501 Not Implemented",
        505 => "505 HTTP Version Not Supported",
        _ => "500 Internal Server Error",
    }
}

fn refusal(say: &Say, status: u16, request: Option<&Request>) -> String {
    let (title, headline, note) = match (say, status) {
        (Say::NotTls, _) => (
            "400 The plain HTTP request was sent to HTTPS port",
            "400 Bad Request",
            "<center>The plain HTTP request was sent to HTTPS port</center>\r\n",
        ),
        (_, 401) => (
            "401 Authorization Required",
            "401 Authorization Required",
            "",
        ),
        _ => (phrase(status), phrase(status), ""),
    };
    let mut page = format!(
        "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n\
         <center><h1>{headline}</h1></center>\r\n{note}<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
    );
    let agent = request.and_then(|r| r.header("user-agent"));
    if agent.is_some_and(wants_padding) {
        let line = "<!-- a padding to disable MSIE and Chrome friendly error page -->\r\n";
        page.push_str(&line.repeat(6));
    }
    page
}

/// Browsers that hide short error pages are sent a longer one.
fn wants_padding(agent: &str) -> bool {
    let opera = agent.contains("Opera");
    (agent.contains("MSIE ") && !opera)
        || (!opera && !agent.contains("Gecko/") && agent.contains("Chrome/"))
}

/// `Tue, 14 Nov 2023 22:13:20 GMT`.
fn date(at: Stamp) -> String {
    at.utc().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::canary::request::{Parsed, parse};

    const NOW: Stamp = Stamp(1_700_000_000_000_000);

    fn request(text: &str) -> Request {
        match parse(text.as_bytes()) {
            Parsed::Head(request, _) => *request,
            other => panic!("{other:?}"),
        }
    }

    fn said(say: &Say, head: &str) -> String {
        let (bytes, _) = bytes(say, Some(&request(head)), NOW);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[test]
    fn a_refusal_is_nginxs_own_byte_for_byte() {
        assert_eq!(
            said(&Say::Refusal(404), "GET /x HTTP/1.1\r\nHost: a\r\n\r\n"),
            "HTTP/1.1 404 Not Found\r\nServer: nginx\r\nDate: Tue, 14 Nov 2023 22:13:20 GMT\r\n\
             Content-Type: text/html\r\nContent-Length: 146\r\nConnection: keep-alive\r\n\r\n\
             <html>\r\n<head><title>404 Not Found</title></head>\r\n<body>\r\n\
             <center><h1>404 Not Found</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
        );
    }

    #[test]
    fn a_picture_has_a_body_unless_only_its_head_is_asked_for() {
        let whole = said(&Say::Pixel, "GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(whole.contains("Content-Length: 43\r\n") && whole.contains("\r\n\r\nGIF89a"));
        let head = said(&Say::Pixel, "HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(head.ends_with("Cache-Control: no-cache\r\n\r\n"), "{head}");
    }

    #[test]
    fn what_cannot_be_read_ends_the_connection() {
        let (text, close) = bytes(&Say::Refusal(400), None, NOW);
        assert!(close);
        assert!(
            String::from_utf8(text)
                .unwrap()
                .contains("Connection: close")
        );
    }
}
