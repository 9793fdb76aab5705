//! The pages of IIS 10 and of http.sys under it: what a remote visitor is shown.

use crate::decoy::http::request::{Bad, Why};

/// The start page; `product` is `IIS Windows Server` or `IIS Windows`.
pub(super) fn start_page(product: &str) -> String {
    format!(
        "<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Strict//EN\" \
         \"http://www.w3.org/TR/xhtml1/DTD/xhtml1-strict.dtd\">\r\n\
         <html xmlns=\"http://www.w3.org/1999/xhtml\">\r\n<head>\r\n\
         <meta http-equiv=\"Content-Type\" content=\"text/html; charset=iso-8859-1\" />\r\n\
         <title>{product}</title>\r\n<style type=\"text/css\">\r\n<!--\r\nbody {{\r\n\
         \tcolor:#000000;\r\n\tbackground-color:#0072C6;\r\n\tmargin:0;\r\n}}\r\n\r\n\
         #container {{\r\n\tmargin-left:auto;\r\n\tmargin-right:auto;\r\n\ttext-align:center;\r\n\
         \t}}\r\n\r\na img {{\r\n\tborder:none;\r\n}}\r\n\r\n-->\r\n</style>\r\n</head>\r\n\
         <body>\r\n<div id=\"container\">\r\n\
         <a href=\"http://go.microsoft.com/fwlink/?linkid=66138&amp;clcid=0x409\">\
         <img src=\"iisstart.png\" alt=\"IIS\" width=\"960\" height=\"600\" /></a>\r\n\
         </div>\r\n</body>\r\n</html>"
    )
}

/// Reason phrase.
pub(super) fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        301 => "Moved Permanently",
        304 => "Not Modified",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        411 => "Length Required",
        412 => "Precondition Failed",
        414 => "Request-URI Too Long",
        416 => "Requested Range Not Satisfiable",
        501 => "Not Implemented",
        505 => "HTTP Version Not Supported",
        _ => "Bad Request",
    }
}

/// The custom error page of `custerr`, or nothing where there is none.
pub(super) fn error_page(status: u16) -> String {
    let (title, text) = match status {
        401 => (
            "401 - Unauthorized: Access is denied due to invalid credentials.",
            "You do not have permission to view this directory or page using the credentials \
             that you supplied.",
        ),
        403 => (
            "403 - Forbidden: Access is denied.",
            "You do not have permission to view this directory or page using the credentials \
             that you supplied.",
        ),
        404 => (
            "404 - File or directory not found.",
            "The resource you are looking for might have been removed, had its name changed, or \
             is temporarily unavailable.",
        ),
        405 => (
            "405 - HTTP verb used to access this page is not allowed.",
            "The page you are looking for cannot be displayed because an invalid method (HTTP \
             verb) was used to attempt access.",
        ),
        412 => (
            "412 - Precondition set by the client failed when evaluated on the Web server.",
            "The request was not completed due to preconditions that are set in the request \
             header. Preconditions prevent the requested method from being applied to a resource \
             other than the one intended. An example of a precondition is testing for expired \
             content in the page cache of the client.",
        ),
        501 => (
            "501 - Header values specify a method that is not implemented.",
            "The page you are looking for cannot be displayed because a header value in the \
             request does not match certain configuration settings on the Web server. For \
             example, a request header might specify a POST to a static file that cannot be \
             posted to, or specify a Transfer-Encoding value that cannot make use of \
             compression.",
        ),
        _ => return String::new(),
    };
    format!(
        "<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Strict//EN\" \
         \"http://www.w3.org/TR/xhtml1/DTD/xhtml1-strict.dtd\">\r\n\
         <html xmlns=\"http://www.w3.org/1999/xhtml\">\r\n<head>\r\n\
         <meta http-equiv=\"Content-Type\" content=\"text/html; charset=iso-8859-1\"/>\r\n\
         <title>{title}</title>\r\n<style type=\"text/css\">\r\n<!--\r\n\
         body{{margin:0;font-size:.7em;font-family:Verdana, Arial, Helvetica, \
         sans-serif;background:#EEEEEE;}}\r\nfieldset{{padding:0 15px 10px 15px;}} \r\n\
         h1{{font-size:2.4em;margin:0;color:#FFF;}}\r\n\
         h2{{font-size:1.7em;margin:0;color:#CC0000;}} \r\n\
         h3{{font-size:1.2em;margin:10px 0 0 0;color:#000000;}} \r\n\
         #header{{width:96%;margin:0 0 0 0;padding:6px 2% 6px 2%;font-family:\"trebuchet MS\", \
         Verdana, sans-serif;color:#FFF;\r\nbackground-color:#555555;}}\r\n\
         #content{{margin:0 0 0 2%;position:relative;}}\r\n\
         .content-container{{background:#FFF;width:96%;margin-top:8px;padding:10px;\
         position:relative;}}\r\n-->\r\n</style>\r\n</head>\r\n<body>\r\n\
         <div id=\"header\"><h1>Server Error</h1></div>\r\n<div id=\"content\">\r\n \
         <div class=\"content-container\"><fieldset>\r\n  <h2>{title}</h2>\r\n  \
         <h3>{text}</h3>\r\n </fieldset></div>\r\n</div>\r\n</body>\r\n</html>\r\n"
    )
}

/// A page of http.sys: title, heading and the sentence below.
pub(super) fn kernel_page(status: u16, why: Why) -> String {
    let (title, heading, text) = match (status, why) {
        (400, Why::Verb) => (
            "Bad Request",
            " - Invalid Verb",
            "The request verb is invalid.",
        ),
        (400, Why::Url) => (
            "Bad Request",
            " - Invalid URL",
            "The request URL is invalid.",
        ),
        (400, Why::Host) => (
            "Bad Request",
            " - Invalid Hostname",
            "The request hostname is invalid.",
        ),
        (400, Why::Header) => (
            "Bad Request",
            " - Invalid Header",
            "The request has an invalid header name.",
        ),
        (400, Why::FieldSize) => (
            "Bad Request",
            " - Request Too Long",
            "The size of the request headers is too long.",
        ),
        (400, Why::Length) => (
            "Bad Request",
            " - Invalid Content Length",
            "There is an invalid content length or chunk length in the request.",
        ),
        (401, _) => (
            "Not Authorized",
            "",
            "The requested resource requires user authentication.",
        ),
        (411, _) => (
            "Length Required",
            "",
            "The request must be chunked or have a content length.",
        ),
        (414, _) => ("Request Too Long", "", "The request URL is too long."),
        (501, _) => (
            "Not Implemented",
            "",
            "The request transfer encoding type is not supported.",
        ),
        (505, _) => (
            "HTTP Version Not Supported",
            "",
            "The HTTP version is not supported.",
        ),
        _ => ("Bad Request", "", "The request is badly formed."),
    };
    format!(
        "<!DOCTYPE HTML PUBLIC \"-//W3C//DTD HTML 4.01//EN\"\
         \"http://www.w3.org/TR/html4/strict.dtd\">\r\n<HTML><HEAD><TITLE>{title}</TITLE>\r\n\
         <META HTTP-EQUIV=\"Content-Type\" Content=\"text/html; charset=us-ascii\"></HEAD>\r\n\
         <BODY><h2>{title}{heading}</h2>\r\n<hr><p>HTTP Error {status}. {text}</p>\r\n\
         </BODY></HTML>\r\n"
    )
}

/// The page for a head that was not understood.
pub(super) fn refusal(bad: &Bad) -> String {
    kernel_page(bad.status, bad.why)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lengths real servers give for these pages.
    #[test]
    fn pages_have_the_length_of_the_real_ones() {
        for (status, length) in [(401, 1293), (403, 1233), (404, 1245), (405, 1293)] {
            assert_eq!(error_page(status).len(), length, "{status}");
        }
        for (status, why, length) in [
            (400, Why::Verb, 326),
            (400, Why::Url, 324),
            (400, Why::Host, 334),
            (400, Why::Header, 339),
            (400, Why::FieldSize, 346),
            (400, Why::Plain, 311),
            (401, Why::Plain, 341),
            (411, Why::Plain, 344),
        ] {
            assert_eq!(kernel_page(status, why).len(), length, "{status} {why:?}");
        }
        assert_eq!(start_page("IIS Windows Server").len(), 703);
    }
}
