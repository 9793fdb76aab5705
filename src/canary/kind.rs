//! What can be made: the one table of kinds.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a planted thing tells that somebody used it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Callback {
    /// Asks for `/c/<slug>` or something below it.
    Http,
    /// Resolves `<slug>.<zone>`; cannot be made without a zone.
    Dns,
    /// Not by itself: it is known by being seen elsewhere.
    Passive,
}

impl Callback {
    /// `http`, `dns` or `passive`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Callback::Http => "http",
            Callback::Dns => "dns",
            Callback::Passive => "passive",
        }
    }
}

impl fmt::Display for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! kinds {
    ($($variant:ident $name:literal $callback:ident $summary:literal;)*) => {
        /// What is planted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Kind {
            $(#[doc = $summary] #[serde(rename = $name)] $variant,)*
        }

        impl Kind {
            /// All of them, in the order lists show.
            pub const ALL: &'static [Kind] = &[$(Kind::$variant,)*];

            /// Its name in the API, the database and on the command line.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Kind::$variant => $name,)* }
            }

            /// One line for people.
            #[must_use]
            pub const fn summary(self) -> &'static str {
                match self { $(Kind::$variant => $summary,)* }
            }

            /// How it calls back.
            #[must_use]
            pub const fn callback(self) -> Callback {
                match self { $(Kind::$variant => Callback::$callback,)* }
            }
        }
    };
}

kinds! {
    WebBug "web_bug" Http "A URL, to be put wherever you like.";
    DnsName "dns_name" Dns "A host name, to be put wherever you like.";
    AwsCredentials "aws_credentials" Http "AWS access keys with a configuration whose endpoint is ours; the keys alone stay silent.";
    Kubeconfig "kubeconfig" Http "A kubectl configuration with a client certificate; any kubectl command calls.";
    GitConfig "git_config" Http "A git checkout; fetching from or pushing to its remote calls.";
    EnvFile "env_file" Http "An application's .env with credentials and service addresses; using the addresses calls.";
    SshKey "ssh_key" Dns "An SSH key pair with the client configuration of the host it is for; connecting to that host calls.";
    MysqlDump "mysql_dump" Dns "A database dump that configures replication; importing it calls.";
    WireguardConfig "wireguard_config" Dns "A WireGuard tunnel; bringing it up calls.";
    Docx "docx" Http "A Word document with a linked picture; opening it calls.";
    Xlsx "xlsx" Http "An Excel workbook with a linked picture; opening it calls.";
    Pdf "pdf" Http "A PDF document that opens a web address; viewers ask their user first, most likely.";
    Html "html" Http "An HTML document with a picture; opening it in a browser calls.";
    HtmlFingerprint "html_fingerprint" Http "An HTML document that also reports what the browser is; needs scripts.";
    Svg "svg" Http "A drawing with a linked picture; opening it in a browser calls.";
    QrCode "qr_code" Http "A QR code of a URL, as PNG and SVG; scanning it and following calls.";
    EmailLink "email_link" Http "A mail with a link and a remote picture, as text, HTML and .eml.";
    DesktopIni "desktop_ini" Http "A folder's desktop.ini whose icon lies on our server; looking at the folder with Windows Explorer calls (by DNS when there is a zone).";
    UrlShortcut "url_shortcut" Http "A Windows internet shortcut; opening it calls, with a zone looking at its folder does, too.";
    Upload "upload" Http "Your own file, with a call-back put in where its type allows.";
}

impl Kind {
    /// Reads a name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == text)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_name_and_serialises_as_it() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.as_str()), Some(*kind));
            assert_eq!(
                serde_json::to_string(kind).unwrap(),
                format!("\"{}\"", kind.as_str())
            );
            assert!(kind.summary().ends_with('.'));
        }
        assert_eq!(Kind::parse("web-bug"), None);
    }
}
