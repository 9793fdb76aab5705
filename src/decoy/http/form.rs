//! What a body holds: form fields (urlencoded, multipart, JSON), the sign-in among
//! them, and the files of a multipart upload. Bounded in fields and depth.

use crate::decoy::http::request::hex_digit;
use crate::model::Credential;

/// Names a user name goes by, in order of preference.
const PRINCIPAL: &[&str] = &[
    "username",
    "user",
    "email",
    "login",
    "userid",
    "account",
    "log",
    "user_login",
    "uname",
    "pma_username",
];
/// Names a password goes by, in order of preference.
const SECRET: &[&str] = &[
    "password",
    "pass",
    "pwd",
    "passwd",
    "passwort",
    "mot_de_passe",
    "user_password",
    "pma_password",
];
/// Most fields or parts looked at.
const FIELDS: usize = 512;
/// Largest value of a field.
const VALUE: usize = 64 * 1024;
/// Deepest object looked into.
const DEPTH: usize = 4;

/// A file of a multipart body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Upload<'a> {
    /// Name of the form field.
    pub(super) field: String,
    /// Name of the file, as the client gave it.
    pub(super) filename: String,
    /// Its media type, as the client gave it.
    pub(super) mime: Option<String>,
    /// Its content.
    pub(super) content: &'a [u8],
}

/// What a body holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Form<'a> {
    /// Fields in order.
    pub(super) fields: Vec<(String, Vec<u8>)>,
    /// Files in order.
    pub(super) uploads: Vec<Upload<'a>>,
}

impl<'a> Form<'a> {
    /// Reads `body` as its media type says, or, without one, as what it looks like.
    #[must_use]
    pub(super) fn read(mime: Option<&str>, body: &'a [u8]) -> Self {
        let mime = mime.unwrap_or_default();
        let kind = mime
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase();
        let mut form = Self::default();
        if kind == "multipart/form-data" {
            if let Some(boundary) = parameter(mime, "boundary") {
                form.multipart(boundary.as_bytes(), body);
            }
        } else if kind.ends_with("json")
            || (kind.is_empty() && body.trim_ascii_start().starts_with(b"{"))
        {
            if let Ok(value) = serde_json::from_slice::<serde_json::Value>(body) {
                form.json(&value, 0);
            }
        } else if kind.is_empty() || kind == "application/x-www-form-urlencoded" {
            form.urlencoded(body);
        }
        form
    }

    /// The sign-in among the fields: a password, and the name it belongs to.
    #[must_use]
    pub(super) fn credential(&self) -> Option<Credential> {
        let find = |names: &[&str]| {
            names.iter().find_map(|name| {
                self.fields
                    .iter()
                    .find(|(field, _)| field.eq_ignore_ascii_case(name))
                    .map(|(_, value)| value)
            })
        };
        let secret = find(SECRET)?;
        let principal = find(PRINCIPAL).map(|v| String::from_utf8_lossy(v).into_owned());
        Some(Credential::plaintext(principal.as_deref(), secret))
    }

    fn push(&mut self, name: String, value: &[u8]) {
        if self.fields.len() < FIELDS {
            let value = value.get(..value.len().min(VALUE)).unwrap_or_default();
            self.fields.push((name, value.to_vec()));
        }
    }

    fn urlencoded(&mut self, body: &[u8]) {
        for pair in body.split(|b| *b == b'&').take(FIELDS) {
            let cut = pair.iter().position(|b| *b == b'=').unwrap_or(pair.len());
            let name = decode(pair.get(..cut).unwrap_or_default());
            let value = decode(pair.get(cut.saturating_add(1)..).unwrap_or_default());
            if !name.is_empty() {
                self.push(String::from_utf8_lossy(&name).into_owned(), &value);
            }
        }
    }

    fn json(&mut self, value: &serde_json::Value, depth: usize) {
        let serde_json::Value::Object(object) = value else {
            return;
        };
        for (name, value) in object {
            match value {
                serde_json::Value::String(text) => self.push(name.clone(), text.as_bytes()),
                serde_json::Value::Number(number) => {
                    self.push(name.clone(), number.to_string().as_bytes());
                }
                value if depth < DEPTH => self.json(value, depth.saturating_add(1)),
                _ => {}
            }
        }
    }

    fn multipart(&mut self, boundary: &[u8], body: &'a [u8]) {
        if boundary.is_empty() || boundary.len() > 200 {
            return;
        }
        let mark = [b"--", boundary].concat();
        let mut rest = match find(body, &mark) {
            Some(at) => body
                .get(at.saturating_add(mark.len())..)
                .unwrap_or_default(),
            None => return,
        };
        for _ in 0..FIELDS {
            let Some(part) = rest.strip_prefix(b"\r\n") else {
                return;
            };
            let Some(head_end) = find(part, b"\r\n\r\n") else {
                return;
            };
            let head = part.get(..head_end).unwrap_or_default();
            let content = part.get(head_end.saturating_add(4)..).unwrap_or_default();
            let end = find(content, &[b"\r\n", mark.as_slice()].concat());
            // A body cut short still holds the beginning of a file.
            let (content, after) = match end {
                Some(end) => content.split_at_checked(end).unwrap_or((content, &[])),
                None => (content, &[] as &[u8]),
            };
            self.part(&String::from_utf8_lossy(head), content);
            rest = after
                .get(mark.len().saturating_add(2)..)
                .unwrap_or_default();
        }
    }

    fn part(&mut self, head: &str, content: &'a [u8]) {
        let field = |name: &str| {
            head.lines().find_map(|line| {
                let (found, value) = line.split_once(':')?;
                found
                    .trim()
                    .eq_ignore_ascii_case(name)
                    .then(|| value.trim().to_owned())
            })
        };
        let disposition = field("content-disposition").unwrap_or_default();
        let name = parameter(&disposition, "name").unwrap_or_default();
        match parameter(&disposition, "filename") {
            Some(filename) => self.uploads.push(Upload {
                field: name,
                filename,
                mime: field("content-type"),
                content,
            }),
            None => self.push(name, content),
        }
    }
}

/// Where `needle` first stands in `hay`.
fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    let first = needle.first()?;
    let mut from = 0usize;
    loop {
        let rest = hay.get(from..)?;
        let at = from.saturating_add(rest.iter().position(|b| b == first)?);
        if hay.get(at..)?.starts_with(needle) {
            return Some(at);
        }
        from = at.saturating_add(1);
    }
}

/// `a; name="value"` → `value`.
fn parameter(text: &str, name: &str) -> Option<String> {
    text.split(';').skip(1).find_map(|part| {
        let (found, value) = part.split_once('=')?;
        if !found.trim().eq_ignore_ascii_case(name) {
            return None;
        }
        let value = value.trim();
        let plain = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
        Some(plain.unwrap_or(value).to_owned())
    })
}

/// `%41+b` → `A b`.
fn decode(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0usize;
    while let Some(byte) = text.get(at) {
        at = at.saturating_add(1);
        let digit = |n: usize| text.get(at.saturating_add(n)).copied().and_then(hex_digit);
        match (byte, digit(0), digit(1)) {
            (b'+', ..) => out.push(b' '),
            (b'%', Some(high), Some(low)) => {
                out.push(high.wrapping_mul(16).wrapping_add(low));
                at = at.saturating_add(2);
            }
            (byte, ..) => out.push(*byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pair(mime: &str, body: &[u8]) -> Option<(Option<String>, Vec<u8>)> {
        let mime = (!mime.is_empty()).then_some(mime);
        let credential = Form::read(mime, body).credential()?;
        Some((credential.principal, credential.secret))
    }

    #[test]
    fn a_sign_in_is_found_in_every_kind_of_form() {
        let wanted = Some((Some("root".to_owned()), b"p&w 1".to_vec()));
        let form = "application/x-www-form-urlencoded";
        assert_eq!(pair(form, b"x=1&Username=root&PWD=p%26w+1"), wanted);
        assert_eq!(pair("", b"login=root&pass=p%26w+1"), wanted);
        assert_eq!(
            pair(
                "application/json",
                br#"{"a":{"email":"root","password":"p&w 1"}}"#
            ),
            wanted
        );
        let multipart =
            b"--B\r\nContent-Disposition: form-data; name=\"user\"\r\n\r\nroot\r\n--B\r\n\
            Content-Disposition: form-data; name=\"passwd\"\r\n\r\np&w 1\r\n--B--\r\n";
        assert_eq!(pair("multipart/form-data; boundary=B", multipart), wanted);
        assert_eq!(pair(form, b"user=root"), None);
        assert_eq!(pair("text/plain", b"user=root&pass=x"), None);
    }

    #[test]
    fn files_are_taken_out_of_a_multipart_body_byte_for_byte() {
        let body = b"--xx\r\nContent-Disposition: form-data; name=\"f\"; filename=\"s.php\"\r\n\
            Content-Type: text/x-php\r\n\r\n<?php \x00\r\n-- \r\n--xx--\r\n";
        let form = Form::read(Some("multipart/form-data; boundary=\"xx\""), body);
        assert_eq!(form.uploads.len(), 1);
        assert_eq!(form.uploads[0].filename, "s.php");
        assert_eq!(form.uploads[0].mime.as_deref(), Some("text/x-php"));
        assert_eq!(form.uploads[0].content, b"<?php \x00\r\n-- ");
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(
            mime in "(multipart/form-data; boundary=B|application/json|)",
            body in "(--B|\r\n|[ -~]|%[0-9a-f]|:|;|=|\"){0,60}",
        ) {
            let form = Form::read(Some(&mime), body.as_bytes());
            prop_assert!(form.fields.len() <= FIELDS);
        }
    }
}
