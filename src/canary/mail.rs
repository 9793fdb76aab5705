//! A mail with a link and a remote picture: as text and HTML to paste, and whole.

use askama::Template;

use super::draw::Person;
use super::work::Work;
use super::{Error, File};

/// Subject, what it says, what the link is called.
type Text = (&'static str, &'static [&'static str], &'static str);

const TEXTS: &[Text] = &[
    (
        "Access to the reporting server",
        &[
            "your account on the reporting server has been set up, same login as on Windows.",
            "The initial password is shown once behind the link below. Please change it on the first sign-in and do not pass this mail on.",
        ],
        "Show the initial password",
    ),
    (
        "Salary bands, for review",
        &[
            "as agreed on Tuesday, here is the draft of the new salary bands including the management.",
            "Please look through your department until Friday. The file is not to be printed.",
        ],
        "Open the draft",
    ),
    (
        "Root passwords after the move",
        &[
            "I have put the new root and ipmi passwords for the second rack where you asked for them.",
            "The old list in the safe can be destroyed.",
        ],
        "Password list",
    ),
    (
        "VPN profile for the home office",
        &[
            "your profile is ready. Download it from the address below and import it into the client.",
            "The profile contains your personal key, so keep the file to yourself.",
        ],
        "Download the profile",
    ),
    (
        "Contract with the new supplier",
        &[
            "the signed contract and the price list have arrived.",
            "I have scanned both; legal asks us to keep them inside the department for now.",
        ],
        "Contract and price list",
    ),
];

#[derive(Template)]
#[template(path = "mail.html", config = "src/askama.toml")]
struct Body<'a> {
    to: &'a str,
    lines: Vec<String>,
    link: String,
    label: &'a str,
    from: String,
    company: &'a str,
    picture: String,
}

pub(super) fn make(work: &mut Work) -> Result<Vec<File>, Error> {
    let at = work.draw.moment(work.now, 5, 45);
    let to = work.setting.owner(&mut work.draw);
    let from = work.draw.person(std::slice::from_ref(&to));
    let chosen = work.draw.index(TEXTS.len());
    let (subject, lines, label) = TEXTS.get(chosen).copied().unwrap_or_default();
    let lines: Vec<String> = lines
        .iter()
        .map(|line| super::draw::capital(line))
        .collect();
    let link = format!("{}/view", work.url);
    let plain = format!(
        "Hello {},\n\n{}\n\n{label}:\n{link}\n\nBest regards\n{}\n{}\n",
        to.given,
        lines.join("\n\n"),
        from.full(),
        work.setting.company
    );
    let body = Body {
        to: &to.given,
        lines,
        link,
        label,
        from: from.full(),
        company: &work.setting.company,
        picture: format!("{}/logo.png", work.url),
    };
    let html = body.render().map_err(|_| Error::Write(work.kind))?;
    let whole = message(work, subject, &to, &from, at, &plain, &html);
    let stem = subject.replace(", ", " ").replace(' ', "_");
    let path = |ending: &str| work.setting.document(&format!("{stem}.{ending}"));
    Ok(vec![
        work.file(path("eml"), "message/rfc822", 0o600, at, whole),
        work.file(path("html"), "text/html; charset=utf-8", 0o600, at, html),
        work.text(path("txt"), 0o600, at, plain),
    ])
}

/// The whole message. Everything in it is ASCII and no line is long, so nothing is encoded.
fn message(
    work: &mut Work,
    subject: &str,
    to: &Person,
    from: &Person,
    at: crate::model::Stamp,
    plain: &str,
    html: &str,
) -> String {
    let domain = work.setting.domain.clone();
    let (id, boundary) = (work.draw.hex(32), work.draw.hex(24));
    let date = at.utc().strftime("%a, %d %b %Y %H:%M:%S +0000");
    let text = format!(
        "From: {} <{}@{domain}>\n\
         To: {} <{}>\n\
         Subject: {subject}\n\
         Date: {date}\n\
         Message-ID: <{id}@{domain}>\n\
         MIME-Version: 1.0\n\
         Content-Type: multipart/alternative; boundary=\"{boundary}\"\n\
         \n\
         --{boundary}\n\
         Content-Type: text/plain; charset=utf-8\n\
         Content-Transfer-Encoding: 7bit\n\
         \n\
         {plain}\n\
         --{boundary}\n\
         Content-Type: text/html; charset=utf-8\n\
         Content-Transfer-Encoding: 7bit\n\
         \n\
         <html><body>\n{html}\n</body></html>\n\
         \n\
         --{boundary}--\n",
        from.full(),
        from.login(),
        to.full(),
        work.setting.mail(),
    );
    text.replace('\n', "\r\n")
}
