//! Services of the operator's own: `[custom-NAME]` with `binary` (an image), `exec` and
//! `ports`. Their images run under the operator's Docker; nothing here looks at one.

use crate::config::ini::{Problem, Section};
use crate::model::{Custom, Service, service::UnknownService};

/// Longest name, so that container names stay short.
const NAME_MAX: usize = 32;
/// Longest image reference.
const IMAGE_MAX: usize = 255;
/// Most words of a command.
const WORDS_MAX: usize = 64;

/// Reads one section; `name` is what follows `custom-`.
pub(super) fn parse(name: &str, section: &Section, problems: &mut Vec<Problem>) -> Custom {
    let mut complain = |line: usize, what: String| problems.push(Problem { line, what });
    let mut custom = Custom {
        name: name.to_owned(),
        image: String::new(),
        exec: Vec::new(),
        ports: Vec::new(),
    };
    if let Err(what) = check_name(name) {
        complain(section.line, what);
    }
    for entry in &section.entries {
        match entry.key.as_str() {
            "binary" => match check_image(&entry.value) {
                Ok(()) => custom.image.clone_from(&entry.value),
                Err(what) => {
                    complain(entry.line, what);
                    // Said once is enough.
                    "?".clone_into(&mut custom.image);
                }
            },
            "exec" => match words(&entry.value) {
                Ok(words) => custom.exec = words,
                Err(what) => complain(entry.line, format!("exec: {what}")),
            },
            "ports" => match ports(&entry.value) {
                Ok(ports) => custom.ports = ports,
                Err(what) => complain(entry.line, what),
            },
            other => complain(
                entry.line,
                format!(
                    "unknown key '{other}' in [{}] (known: binary, exec, ports)",
                    section.name
                ),
            ),
        }
    }
    if custom.image.is_empty() {
        complain(
            section.line,
            format!("[{}] needs 'binary = IMAGE'", section.name),
        );
    }
    custom
}

fn check_name(name: &str) -> Result<(), String> {
    let fits = (1..=NAME_MAX).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_');
    if !fits {
        return Err(format!(
            "'{name}' is not a service name: use up to {NAME_MAX} lower-case letters, digits, '-' and '_', beginning with a letter"
        ));
    }
    match name.parse::<Service>() {
        Ok(_) | Err(UnknownService::Planned(_)) => Err(format!(
            "'{name}' is a service of DECNET's own; give yours another name"
        )),
        Err(UnknownService::Unknown(_)) => Ok(()),
    }
}

fn check_image(image: &str) -> Result<(), String> {
    let fits = (1..=IMAGE_MAX).contains(&image.len())
        && image.starts_with(|c: char| c.is_ascii_alphanumeric())
        && image
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-/:@".contains(c));
    if fits {
        return Ok(());
    }
    Err(format!(
        "binary = '{image}' is not an image such as registry.example/honeypot:1.2"
    ))
}

/// Splits on white space; a word may stand in quotes. There is no shell, so nothing else
/// is special.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut open: Option<char> = None;
    for c in text.chars() {
        match (open, c) {
            (Some(quote), c) if c == quote => open = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '"' | '\'') => {
                open = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    if let Some(quote) = open {
        return Err(format!("the quote {quote} is not closed"));
    }
    words.extend(word);
    if words.len() > WORDS_MAX {
        return Err(format!("more than {WORDS_MAX} words"));
    }
    Ok(words)
}

fn ports(text: &str) -> Result<Vec<u16>, String> {
    let mut ports = Vec::new();
    for part in text.split([',', ' ']).filter(|p| !p.is_empty()) {
        match part.parse::<u16>() {
            Ok(0) | Err(_) => return Err(format!("'{part}' is not a port from 1 to 65535")),
            Ok(port) if ports.contains(&port) => {
                return Err(format!("port {port} is named twice"));
            }
            Ok(port) => ports.push(port),
        }
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_split_like_words_in_a_shell_and_no_further() {
        let split = |text| words(text).unwrap();
        assert_eq!(split("/bin/x  -a 1"), ["/bin/x", "-a", "1"]);
        assert_eq!(
            split(r#""/bin/my x" --y='a "b"' """#),
            ["/bin/my x", "--y=a \"b\"", ""]
        );
        assert_eq!(split("$(id) && x"), ["$(id)", "&&", "x"]);
        assert!(words("it's").unwrap_err().contains("not closed"));
    }

    #[test]
    fn names_of_our_own_services_are_refused() {
        for bad in ["http", "ssh", "", "Web", "a.b", "a/b"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        assert_eq!(check_name("plc-4"), Ok(()));
    }

    #[test]
    fn ports_and_images_are_checked() {
        assert_eq!(ports("80, 443 8080"), Ok(vec![80, 443, 8080]));
        for bad in ["0", "65536", "http", "1,1"] {
            assert!(ports(bad).is_err(), "{bad}");
        }
        for bad in ["", "-x", "a b", "a;b"] {
            assert!(check_image(bad).is_err(), "{bad}");
        }
        assert_eq!(check_image("ghcr.io/a/b:1@sha256:00"), Ok(()));
    }
}
