//! The name server without its sockets: a packet in, an answer out. Authoritative for one
//! zone, in which every name with a token's label anywhere before the zone exists and has
//! one address. RFC 1035, EDNS of RFC 6891, the client's subnet of RFC 7871.
//!
//! The question is sent back as it came, letter by letter, so that a resolver that varies
//! their case (0x20) finds its own again. No answer is longer than what fits into any
//! packet, and none much longer than its question: nobody is amplified by it.

use std::net::Ipv4Addr;

use crate::canary::Slug;

/// Longest answer.
pub(super) const ANSWER_MAX: usize = 512;
/// What we can take, as told in EDNS.
const UDP_SIZE: u16 = 1232;
const HEADER: usize = 12;
/// Time an address is good for, seconds: short, so that using it again asks again.
const TTL: u32 = 60;
/// Time the zone itself is good for, seconds.
const ZONE_TTL: u32 = 3600;
/// Most records of a question that are looked through for EDNS.
const RECORDS_MAX: u16 = 16;

const A: u16 = 1;
const NS: u16 = 2;
const SOA: u16 = 6;
const OPT: u16 = 41;
const ANY: u16 = 255;
const IN: u16 = 1;

const NOERROR: u16 = 0;
const FORMERR: u16 = 1;
const NXDOMAIN: u16 = 3;
const NOTIMP: u16 = 4;
const REFUSED: u16 = 5;
/// With EDNS alone: the upper bits are in its record.
const BADVERS: u16 = 16;

/// The zone.
#[derive(Clone, Debug)]
pub(super) struct Zone {
    /// Lower case, without a dot at the end.
    pub(super) name: String,
    /// Of every name in it.
    pub(super) address: Ipv4Addr,
    /// Of the zone, seconds since the epoch at its start.
    pub(super) serial: u32,
}

/// Somebody asked for a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) slug: Slug,
    /// In lower case.
    pub(super) name: String,
    /// The type's name.
    pub(super) kind: String,
    /// For whom a resolver asks, when it says so.
    pub(super) subnet: Option<String>,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The packet to send back.
    pub(super) bytes: Vec<u8>,
    /// The token it was about; to be written down before the packet goes out.
    pub(super) asked: Option<Asked>,
}

/// A question and what came with it.
struct Query<'a> {
    id: [u8; 2],
    flags: u16,
    /// The question as it came.
    raw: &'a [u8],
    /// Labels in lower case, hostile bytes included.
    labels: Vec<Vec<u8>>,
    kind: u16,
    class: u16,
    edns: Option<Edns>,
}

struct Edns {
    version: u8,
    dnssec_ok: bool,
    subnet: Option<String>,
}

/// Answers a packet; `None` is silence: it was no question. `is_token` says whether there
/// is such a token.
pub(super) fn answer(
    packet: &[u8],
    zone: &Zone,
    is_token: impl Fn(&Slug) -> bool,
) -> Option<Answer> {
    let id = [*packet.first()?, *packet.get(1)?];
    let flags = u16_at(packet, 2)?;
    packet.get(..HEADER)?;
    if flags & 0x8000 != 0 {
        // An answer: answering those makes two servers talk for ever.
        return None;
    }
    if flags & 0x7800 != 0 {
        return Some(bare(id, flags, NOTIMP));
    }
    let Some(query) = read(packet, id, flags) else {
        return Some(bare(id, flags, FORMERR));
    };
    let mut reply = Reply::new(&query);
    if query.edns.as_ref().is_some_and(|e| e.version != 0) {
        return Some(reply.done(&query, BADVERS, None));
    }
    let Some(before) = before_zone(&query.labels, &zone.name) else {
        return Some(reply.done(&query, REFUSED, None));
    };
    if query.class != IN {
        return Some(reply.done(&query, REFUSED, None));
    }
    reply.authoritative();
    let slug = before
        .iter()
        .filter_map(|label| Slug::parse(std::str::from_utf8(label).ok()?))
        .find(|slug| is_token(slug));
    let asked = slug.map(|slug| Asked {
        slug,
        name: shown(&query.labels),
        kind: kind_name(query.kind),
        subnet: query.edns.as_ref().and_then(|e| e.subnet.clone()),
    });
    let server = matches!(before, [label] if label == b"ns1" || label == b"ns2");
    let exists = asked.is_some() || before.is_empty() || server;
    // The zone's own name stands at the end of the question.
    let apex = query.apex(before);
    match (exists, query.kind) {
        (false, _) => {
            reply.soa(zone, apex, Section::Authority);
            Some(reply.done(&query, NXDOMAIN, None))
        }
        (true, A) => {
            reply.address(zone, HEADER);
            Some(reply.done(&query, NOERROR, asked))
        }
        (true, ANY) if !before.is_empty() => {
            reply.address(zone, HEADER);
            Some(reply.done(&query, NOERROR, asked))
        }
        (true, SOA | ANY) if before.is_empty() => {
            reply.soa(zone, apex, Section::Answer);
            Some(reply.done(&query, NOERROR, asked))
        }
        (true, NS) if before.is_empty() => {
            reply.servers(zone, apex);
            Some(reply.done(&query, NOERROR, asked))
        }
        (true, _) => {
            reply.soa(zone, apex, Section::Authority);
            Some(reply.done(&query, NOERROR, asked))
        }
    }
}

/// The same answer without content, and with the word that there is more over TCP: a real
/// resolver comes back, a forged one does not.
pub(super) fn truncated(answer: &[u8]) -> Option<Vec<u8>> {
    let end = question_end(answer)?;
    let mut bytes = answer.get(..end)?.to_vec();
    *bytes.get_mut(2)? |= 0x02;
    // One question, nothing else.
    bytes.get_mut(6..HEADER)?.fill(0);
    Some(bytes)
}

fn question_end(packet: &[u8]) -> Option<usize> {
    if u16_at(packet, 4)? == 0 {
        return Some(HEADER);
    }
    let (_, end) = labels(packet, HEADER)?;
    Some(end + 4)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

/// The labels at `at`, in lower case, and where they end. No compression: a question needs
/// none, and following it is where name servers break.
fn labels(packet: &[u8], mut at: usize) -> Option<(Vec<Vec<u8>>, usize)> {
    let (mut found, mut total) = (Vec::new(), 1usize);
    loop {
        let len = usize::from(*packet.get(at)?);
        at += 1;
        if len == 0 {
            return Some((found, at));
        }
        total += len + 1;
        if len > 63 || total > 255 {
            return None;
        }
        found.push(packet.get(at..at + len)?.to_ascii_lowercase());
        at += len;
    }
}

fn read(packet: &[u8], id: [u8; 2], flags: u16) -> Option<Query<'_>> {
    let counts: Vec<u16> = (2..6).filter_map(|n| u16_at(packet, n * 2)).collect();
    let [1, 0, 0, extra] = counts[..] else {
        return None;
    };
    let (labels, end) = labels(packet, HEADER)?;
    let (kind, class) = (u16_at(packet, end)?, u16_at(packet, end + 2)?);
    Some(Query {
        id,
        flags,
        raw: packet.get(HEADER..end + 4)?,
        labels,
        kind,
        class,
        edns: edns(packet, end + 4, extra)?,
    })
}

/// The EDNS record among the additional ones; the outer `None` is nonsense.
fn edns(packet: &[u8], mut at: usize, count: u16) -> Option<Option<Edns>> {
    let mut found = None;
    if count > RECORDS_MAX {
        return None;
    }
    for _ in 0..count {
        let owner = at;
        at = skip_name(packet, at)?;
        let kind = u16_at(packet, at)?;
        let version = *packet.get(at + 5)?;
        let flags = u16_at(packet, at + 6)?;
        let len = usize::from(u16_at(packet, at + 8)?);
        let data = packet.get(at + 10..at + 10 + len)?;
        at += 10 + len;
        if kind != OPT {
            continue;
        }
        // One, and of the root.
        if found.is_some() || packet.get(owner) != Some(&0) {
            return None;
        }
        found = Some(Edns {
            version,
            dnssec_ok: flags & 0x8000 != 0,
            subnet: subnet(data),
        });
    }
    Some(found)
}

/// Behind a name that may end in a pointer.
fn skip_name(packet: &[u8], mut at: usize) -> Option<usize> {
    for _ in 0..128 {
        let len = *packet.get(at)?;
        match len {
            0 => return Some(at + 1),
            0xc0..=0xff => return packet.get(at + 1).map(|_| at + 2),
            1..=63 => at += usize::from(len) + 1,
            _ => return None,
        }
    }
    None
}

/// The client's subnet among the options.
fn subnet(mut data: &[u8]) -> Option<String> {
    while data.len() >= 4 {
        let (code, len) = (u16_at(data, 0)?, usize::from(u16_at(data, 2)?));
        let option = data.get(4..4 + len)?;
        data = data.get(4 + len..)?;
        if code != 8 {
            continue;
        }
        let (family, bits) = (u16_at(option, 0)?, *option.get(2)?);
        let address = option.get(4..)?;
        return match family {
            1 if bits > 0 && bits <= 32 && address.len() <= 4 => {
                let mut whole = [0u8; 4];
                whole.get_mut(..address.len())?.copy_from_slice(address);
                Some(format!("{}/{bits}", Ipv4Addr::from(whole)))
            }
            2 if bits > 0 && bits <= 128 && address.len() <= 16 => {
                let mut whole = [0u8; 16];
                whole.get_mut(..address.len())?.copy_from_slice(address);
                Some(format!("{}/{bits}", std::net::Ipv6Addr::from(whole)))
            }
            _ => None,
        };
    }
    None
}

/// The labels before the zone's; `None` when the name is not in the zone.
fn before_zone<'a>(labels: &'a [Vec<u8>], zone: &str) -> Option<&'a [Vec<u8>]> {
    let count = zone.split('.').count();
    let split = labels.len().checked_sub(count)?;
    let (before, rest) = labels.split_at(split);
    let same = rest
        .iter()
        .zip(zone.split('.'))
        .all(|(label, of_zone)| label == of_zone.as_bytes());
    same.then_some(before)
}

/// A name for people: what is no letter of a host name is shown by number.
fn shown(labels: &[Vec<u8>]) -> String {
    let mut text = String::new();
    for label in labels {
        if !text.is_empty() {
            text.push('.');
        }
        for byte in label {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
                text.push(char::from(*byte));
            } else {
                text.push_str(&format!("\\{byte:03}"));
            }
        }
    }
    text
}

fn kind_name(kind: u16) -> String {
    let name = match kind {
        A => "A",
        NS => "NS",
        5 => "CNAME",
        SOA => "SOA",
        12 => "PTR",
        15 => "MX",
        16 => "TXT",
        28 => "AAAA",
        33 => "SRV",
        64 => "SVCB",
        65 => "HTTPS",
        ANY => "ANY",
        257 => "CAA",
        other => return format!("TYPE{other}"),
    };
    name.to_owned()
}

impl Query<'_> {
    /// Where the zone's name begins in the packet.
    fn apex(&self, before: &[Vec<u8>]) -> usize {
        HEADER + before.iter().map(|label| label.len() + 1).sum::<usize>()
    }
}

/// Where a record goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Answer,
    Authority,
    Additional,
}

/// An answer being written.
struct Reply {
    bytes: Vec<u8>,
    flags: u16,
    counts: [u16; 3],
}

impl Reply {
    fn new(query: &Query<'_>) -> Self {
        let mut bytes = Vec::with_capacity(ANSWER_MAX);
        bytes.extend(query.id);
        bytes.extend([0; HEADER - 2]);
        bytes.extend(query.raw);
        Self {
            bytes,
            // It is an answer; that recursion was wished for is repeated, not granted.
            flags: 0x8000 | (query.flags & 0x0100),
            counts: [0; 3],
        }
    }

    fn authoritative(&mut self) {
        self.flags |= 0x0400;
    }

    fn number(&mut self, value: u16) {
        self.bytes.extend(value.to_be_bytes());
    }

    /// A pointer to a name further up.
    fn pointer(&mut self, to: usize) {
        self.number(0xc000 | u16::try_from(to).unwrap_or(0) & 0x3fff);
    }

    fn record(
        &mut self,
        (owner, section): (usize, Section),
        (kind, ttl): (u16, u32),
        data: impl FnOnce(&mut Self),
    ) {
        self.pointer(owner);
        self.number(kind);
        self.number(IN);
        self.bytes.extend(ttl.to_be_bytes());
        let at = self.bytes.len();
        self.number(0);
        data(self);
        let len = u16::try_from(self.bytes.len() - at - 2).unwrap_or(0);
        if let Some(place) = self.bytes.get_mut(at..at + 2) {
            place.copy_from_slice(&len.to_be_bytes());
        }
        if let Some(count) = self.counts.get_mut(section as usize) {
            *count += 1;
        }
    }

    /// A label before a name further up.
    fn below(&mut self, label: &str, apex: usize) {
        self.bytes.push(u8::try_from(label.len()).unwrap_or(0));
        self.bytes.extend(label.bytes());
        self.pointer(apex);
    }

    fn address(&mut self, zone: &Zone, owner: usize) {
        let address = zone.address.octets();
        self.record((owner, Section::Answer), (A, TTL), |reply| {
            reply.bytes.extend(address);
        });
    }

    fn soa(&mut self, zone: &Zone, apex: usize, section: Section) {
        let serial = zone.serial;
        self.record((apex, section), (SOA, ZONE_TTL), |reply| {
            reply.below("ns1", apex);
            reply.below("hostmaster", apex);
            // Refresh, retry, expire, and how long an absence is remembered.
            for number in [serial, 7200, 900, 1_209_600, TTL] {
                reply.bytes.extend(number.to_be_bytes());
            }
        });
    }

    fn servers(&mut self, zone: &Zone, apex: usize) {
        let mut names = Vec::new();
        for label in ["ns1", "ns2"] {
            self.record((apex, Section::Answer), (NS, ZONE_TTL), |reply| {
                names.push(reply.bytes.len());
                reply.below(label, apex);
            });
        }
        let address = zone.address.octets();
        for name in names {
            self.record((name, Section::Additional), (A, ZONE_TTL), |reply| {
                reply.bytes.extend(address);
            });
        }
    }

    fn done(mut self, query: &Query<'_>, code: u16, asked: Option<Asked>) -> Answer {
        if let Some(edns) = &query.edns {
            self.bytes.push(0);
            self.number(OPT);
            self.number(UDP_SIZE);
            let upper = u8::try_from(code >> 4).unwrap_or(0);
            let flags = if edns.dnssec_ok { 0x80 } else { 0 };
            self.bytes.extend([upper, 0, flags, 0]);
            self.number(0);
            self.counts[Section::Additional as usize] += 1;
        }
        self.flags |= code & 0xf;
        let [answers, authorities, additional] = self.counts;
        let numbers = [self.flags, 1, answers, authorities, additional];
        let head = numbers.iter().flat_map(|n| n.to_be_bytes());
        for (place, byte) in self.bytes.iter_mut().skip(2).zip(head) {
            *place = byte;
        }
        Answer {
            bytes: self.bytes,
            asked,
        }
    }
}

/// A refusal to somebody whose question cannot be repeated.
fn bare(id: [u8; 2], flags: u16, code: u16) -> Answer {
    let mut bytes = id.to_vec();
    bytes.extend((0x8000 | (flags & 0x7900) | code).to_be_bytes());
    bytes.extend([0; 8]);
    Answer { bytes, asked: None }
}

#[cfg(test)]
mod tests;
