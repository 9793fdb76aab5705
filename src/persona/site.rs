//! The company whose network all hosts of one installation belong to: its name and
//! domain, how it names machines and people, what it buys. Drawn from the installation's
//! secret alone, so hosts deployed a year apart still know each other.

use sha2::{Digest, Sha256};

use super::stream::Stream;

/// First halves of company names; no real company is meant.
const FIRST: &[&str] = &[
    "north", "halver", "bright", "castel", "amber", "kestrel", "pali", "torr", "val", "grey",
    "holl", "sand", "linden", "marl", "oster", "silver", "stan", "thorn", "wester", "ash", "birch",
    "cold", "dun", "elm", "fair", "glen", "hazel", "iron", "lang", "maple", "nor", "oak", "penn",
    "quar", "red", "stone", "tern", "under", "wind", "yar",
];
/// Second halves.
const SECOND: &[&str] = &[
    "gate", "sen", "well", "ford", "brook", "mont", "lander", "mere", "wick", "field", "holm",
    "berg", "by", "croft", "dale", "don", "feld", "grove", "ham", "hurst", "ley", "mark", "port",
    "ridge", "rup", "side", "stad", "stead", "thorpe", "ton", "vik", "worth",
];
const TLDS: &[&str] = &["internal", "corp", "lan", "intra", "local"];
const PLACES: &[&str] = &[
    "ams", "fra", "lon", "par", "mad", "waw", "sto", "dub", "zrh", "vie", "bru", "cph", "hel",
    "lis", "mil", "osl", "prg", "bud", "ham", "muc",
];

/// How login names are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logins {
    /// `jbauer`.
    Joined,
    /// `j.bauer`.
    Dotted,
    /// `bauerj`.
    Reversed,
}

/// The company.
#[derive(Debug)]
pub(super) struct Site {
    /// 32 bytes as hex from which the company's certificate authority is drawn; the same
    /// for every host of the installation, and none of their seeds follows from it.
    pub(super) seed: String,
    pub(super) company: String,
    pub(super) domain: String,
    /// Three capital letters before machine names.
    pub(super) prefix: String,
    /// Whether office computers keep the name Windows gave them.
    pub(super) default_names: bool,
    /// 0: `SRV-DC01`, 1: `NGT-DC01`, 2: `DC01`.
    pub(super) server_style: u64,
    /// Whether Linux servers' names say where they stand.
    pub(super) placed: bool,
    pub(super) places: Vec<&'static str>,
    pub(super) logins: Logins,
    /// Whether virtual Windows servers run on Hyper-V.
    pub(super) hyper_v: bool,
    /// Index of the maker they buy from.
    pub(super) maker: usize,
}

impl Site {
    /// The company of the installation holding `secret`.
    pub(super) fn draw(secret: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"company v1\0");
        hash.update(secret);
        let seed = super::hex(&hash.finalize());
        let mut s = Stream::new(&seed, "company");
        let (first, second) = (pick(&mut s, FIRST), pick(&mut s, SECOND));
        let company = format!("{first}{second}");
        let domain = format!("{company}.{}", pick(&mut s, TLDS));
        let prefix = [first.get(..2), second.get(..1)]
            .into_iter()
            .flatten()
            .collect::<String>()
            .to_ascii_uppercase();
        let places = (0..3).map(|_| pick(&mut s, PLACES)).collect();
        Self {
            company,
            domain,
            prefix,
            default_names: s.below(2) == 0,
            server_style: s.below(3),
            placed: s.below(2) == 0,
            places,
            logins: match s.below(4) {
                0 => Logins::Dotted,
                1 => Logins::Reversed,
                _ => Logins::Joined,
            },
            hyper_v: s.below(2) == 0,
            maker: usize::try_from(s.below(3)).unwrap_or(0),
            seed,
        }
    }
}

/// One of `list`; empty text when there is none.
pub(super) fn pick(stream: &mut Stream, list: &[&'static str]) -> &'static str {
    let at = usize::try_from(stream.below(list.len() as u64)).unwrap_or(0);
    list.get(at).copied().unwrap_or_default()
}
