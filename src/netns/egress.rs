//! Default-deny egress: the nftables ruleset of a decky's own network namespace, written
//! as netlink messages of our own, so that neither a program nor a C library is needed.
//!
//! The rules keep no state: connection tracking would change what a scanner measures and
//! share one table with the host. A decky answers and never calls: a TCP segment that
//! would open a connection, a datagram from a port that is no service's and an echo
//! request are dropped on their way out. What comes in is not filtered, because a closed
//! port has to answer as the machine it imitates would.

use std::net::IpAddr;
use std::os::fd::AsRawFd;

use anyhow::Context;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

/// The table's name inside the namespace.
const TABLE: &str = "egress";

// linux/netfilter/nfnetlink.h
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SUBSYSTEM: u16 = 10;
// linux/netfilter/nf_tables.h
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const INET: u8 = 1;
const DROP: u32 = 0;
const ACCEPT: u32 = 1;
const FORWARD: u32 = 2;
const OUTPUT: u32 = 3;
const META_OIF: u32 = 5;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
// linux/netlink.h
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
const NESTED: u16 = 0x8000;
const ERROR: u16 = 2;

const IPV4: u8 = 2;
const IPV6: u8 = 10;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
/// Echo reply, destination unreachable, time exceeded, parameter problem, and the
/// replies to timestamp and address mask requests.
const ICMP_ANSWERS: &[u8] = &[0, 3, 11, 12, 14, 18];
/// Errors, echo reply, multicast listener reports, neighbour discovery.
const ICMPV6_ANSWERS: &[u8] = &[1, 2, 3, 4, 129, 131, 132, 135, 136, 143];

/// The messages that install the ruleset: connections may be opened only to `peers`,
/// datagrams sent only from `udp_ports`. Replaces what an earlier call installed.
#[must_use]
pub fn ruleset(peers: &[IpAddr], udp_ports: &[u16]) -> Vec<u8> {
    let mut batch = Batch::default();
    batch.message(BATCH_BEGIN, 0, 0, SUBSYSTEM, |_| {});
    // Deleting needs something to delete.
    batch.table(NEW_TABLE, CREATE);
    batch.table(DELETE_TABLE, 0);
    batch.table(NEW_TABLE, CREATE);
    batch.chain("forward", FORWARD, DROP);
    batch.chain("output", OUTPUT, DROP);
    // The loopback interface is the first of every namespace.
    batch.rule(&[Test::meta(META_OIF, &1u32.to_ne_bytes())]);
    // Everything of TCP but the segment that opens a connection.
    batch.rule(&[
        Test::meta(META_L4PROTO, &[TCP]),
        Test::Payload {
            base: TRANSPORT,
            offset: 13,
            mask: Some(0x12),
            not: true,
            value: vec![0x02],
        },
    ]);
    for peer in peers {
        let (family, offset, address) = match peer {
            IpAddr::V4(ip) => (IPV4, 16, ip.octets().to_vec()),
            IpAddr::V6(ip) => (IPV6, 24, ip.octets().to_vec()),
        };
        batch.rule(&[
            Test::meta(META_NFPROTO, &[family]),
            Test::payload(NETWORK, offset, address),
            Test::meta(META_L4PROTO, &[TCP]),
        ]);
    }
    for (family, protocol, kinds) in [(IPV4, ICMP, ICMP_ANSWERS), (IPV6, ICMPV6, ICMPV6_ANSWERS)] {
        for kind in kinds {
            batch.rule(&[
                Test::meta(META_NFPROTO, &[family]),
                Test::meta(META_L4PROTO, &[protocol]),
                Test::payload(TRANSPORT, 0, vec![*kind]),
            ]);
        }
    }
    for port in udp_ports {
        batch.rule(&[
            Test::meta(META_L4PROTO, &[UDP]),
            Test::payload(TRANSPORT, 0, port.to_be_bytes().to_vec()),
        ]);
    }
    // Answered once the whole batch holds; a failure anywhere before is answered first.
    batch.acknowledge_last();
    batch.message(BATCH_END, 0, 0, SUBSYSTEM, |_| {});
    batch.bytes
}

/// Installs the ruleset in the network namespace of the calling thread.
///
/// # Errors
/// When the kernel has no nftables, or the caller may not administer the namespace.
pub fn apply(peers: &[IpAddr], udp_ports: &[u16]) -> anyhow::Result<()> {
    let messages = ruleset(peers, udp_ports);
    let refused = "the kernel does not take the egress rules (nftables is needed)";
    let fd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )
    .context(refused)?;
    // The answer comes within the call; this only keeps a surprise from hanging us.
    setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(5, 0))?;
    // Rules for a thousand peers are larger than the usual buffer.
    if let Err(error) = setsockopt(&fd, sockopt::SndBuf, &(4 << 20)) {
        tracing::debug!("enlarging the netlink buffer: {error}");
    }
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0)).context(refused)?;
    send(fd.as_raw_fd(), &messages, MsgFlags::empty()).context(refused)?;
    let mut answer = [0u8; 8192];
    let read = recv(fd.as_raw_fd(), &mut answer, MsgFlags::empty()).context(refused)?;
    match verdict(answer.get(..read).unwrap_or_default()) {
        Some(0) => Ok(()),
        Some(code) => {
            let errno = nix::errno::Errno::from_raw(code.saturating_neg());
            anyhow::bail!("{refused}: {}", errno.desc())
        }
        None => anyhow::bail!("{refused}: it answered something else"),
    }
}

/// The code of a netlink acknowledgement; 0 is success.
fn verdict(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    if kind != ERROR {
        return None;
    }
    Some(i32::from_ne_bytes(answer.get(16..20)?.try_into().ok()?))
}

/// One condition of a rule.
enum Test {
    /// What the kernel knows about the packet equals `value`.
    Meta { key: u32, value: Vec<u8> },
    /// Bytes of a header (after `mask`, for a single byte) equal `value`, or do `not`.
    Payload {
        base: u32,
        offset: u32,
        mask: Option<u8>,
        not: bool,
        value: Vec<u8>,
    },
}

impl Test {
    fn meta(key: u32, value: &[u8]) -> Self {
        Test::Meta {
            key,
            value: value.to_vec(),
        }
    }

    fn payload(base: u32, offset: u32, value: Vec<u8>) -> Self {
        Test::Payload {
            base,
            offset,
            mask: None,
            not: false,
            value,
        }
    }

    /// The expressions of the kernel that make up this condition.
    fn write(&self, list: &mut Attributes) {
        const REGISTER: u32 = 1;
        let (not, value) = match self {
            Test::Meta { key, value } => {
                list.expression("meta", |data| {
                    data.number(1, REGISTER);
                    data.number(2, *key);
                });
                (false, value)
            }
            Test::Payload {
                base,
                offset,
                mask,
                not,
                value,
            } => {
                list.expression("payload", |data| {
                    data.number(1, REGISTER);
                    data.number(2, *base);
                    data.number(3, *offset);
                    data.number(4, u32::try_from(value.len()).unwrap_or(u32::MAX));
                });
                if let Some(mask) = mask {
                    list.expression("bitwise", |data| {
                        data.number(1, REGISTER);
                        data.number(2, REGISTER);
                        data.number(3, 1);
                        data.nested(4, |value| value.bytes(1, &[*mask]));
                        data.nested(5, |value| value.bytes(1, &[0]));
                    });
                }
                (*not, value)
            }
        };
        list.expression("cmp", |data| {
            data.number(1, REGISTER);
            data.number(2, if not { NOT_EQUAL } else { EQUAL });
            data.nested(3, |inner| inner.bytes(1, value));
        });
    }
}

/// Netlink messages one after another.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    sequence: u32,
    last: usize,
}

impl Batch {
    /// One message with its nfgenmsg header.
    fn message(
        &mut self,
        kind: u16,
        flags: u16,
        family: u8,
        resource: u16,
        fill: impl FnOnce(&mut Attributes),
    ) {
        let mut body = Attributes::default();
        fill(&mut body);
        let length = u32::try_from(body.0.len() + 20).unwrap_or(u32::MAX);
        self.last = self.bytes.len();
        self.sequence += 1;
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | REQUEST).to_ne_bytes());
        self.bytes.extend(self.sequence.to_ne_bytes());
        self.bytes.extend(0u32.to_ne_bytes());
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        self.bytes.extend(body.0);
    }

    fn table(&mut self, kind: u16, flags: u16) {
        self.message(SUBSYSTEM << 8 | kind, flags, INET, 0, |table| {
            table.text(1, TABLE);
        });
    }

    fn chain(&mut self, name: &str, hook: u32, policy: u32) {
        self.message(SUBSYSTEM << 8 | NEW_CHAIN, CREATE, INET, 0, |chain| {
            chain.text(1, TABLE);
            chain.text(3, name);
            chain.nested(4, |at| {
                at.number(1, hook);
                at.number(2, 0);
            });
            chain.number(5, policy);
            chain.text(7, "filter");
        });
    }

    /// Accepts what meets all of `tests` on its way out.
    fn rule(&mut self, tests: &[Test]) {
        self.message(
            SUBSYSTEM << 8 | NEW_RULE,
            CREATE | APPEND,
            INET,
            0,
            |rule| {
                rule.text(1, TABLE);
                rule.text(2, "output");
                rule.nested(4, |list| {
                    for test in tests {
                        test.write(list);
                    }
                    list.expression("immediate", |data| {
                        data.number(1, 0);
                        data.nested(2, |inner| {
                            inner.nested(2, |verdict| verdict.number(1, ACCEPT))
                        });
                    });
                });
            },
        );
    }

    /// Asks for an answer to the message written last.
    fn acknowledge_last(&mut self) {
        if let Some(low) = self.bytes.get_mut(self.last + 6..self.last + 8) {
            let mut flags = [0; 2];
            flags.copy_from_slice(low);
            low.copy_from_slice(&(u16::from_ne_bytes(flags) | ACK).to_ne_bytes());
        }
    }
}

/// Netlink attributes one after another.
#[derive(Default)]
struct Attributes(Vec<u8>);

impl Attributes {
    fn bytes(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    fn text(&mut self, kind: u16, value: &str) {
        let mut value = value.as_bytes().to_vec();
        value.push(0);
        self.bytes(kind, &value);
    }

    fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes)) {
        let mut inner = Attributes::default();
        fill(&mut inner);
        self.bytes(kind | NESTED, &inner.0);
    }

    fn expression(&mut self, name: &str, fill: impl FnOnce(&mut Attributes)) {
        self.nested(1, |element| {
            element.text(1, name);
            element.nested(2, fill);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sched::{CloneFlags, unshare};
    use std::process::Command;

    /// What `nft` reads back from a fresh namespace; `None` where that cannot be done.
    fn read_back(test: &str, peers: &'static [&str], udp: &'static [u16]) -> Option<String> {
        let skip = |why: &str| {
            eprintln!("skipped: {test}: {why}");
            None
        };
        if !nix::unistd::geteuid().is_root() {
            return skip("making a namespace needs root");
        }
        if Command::new("nft").arg("--version").output().is_err() {
            return skip("nft is not installed");
        }
        // Only this thread, and what it starts, moves into the namespace.
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let peers: Vec<IpAddr> = peers.iter().map(|p| p.parse().unwrap()).collect();
            apply(&peers, udp).unwrap();
            apply(&peers, udp).expect("a second time replaces the first");
            let listed = Command::new("nft")
                .args(["list", "ruleset"])
                .output()
                .unwrap();
            Some(String::from_utf8(listed.stdout).unwrap())
        })
        .join()
        .unwrap()
    }

    #[test]
    fn the_kernel_holds_what_is_meant() {
        let Some(text) = read_back("the_kernel_holds_what_is_meant", &[], &[]) else {
            return;
        };
        // Older and newer versions of nft write this one differently.
        let text = text.replace(
            "tcp flags & (syn | ack) != syn",
            "tcp flags != syn / syn,ack",
        );
        let rules: Vec<&str> = text.lines().map(str::trim).collect();
        let expected = [
            "table inet egress {",
            "chain forward {",
            "type filter hook forward priority filter; policy drop;",
            "}",
            "chain output {",
            "type filter hook output priority filter; policy drop;",
            "oif \"lo\" accept",
            "tcp flags != syn / syn,ack accept",
            "icmp type echo-reply accept",
            "icmp type destination-unreachable accept",
            "icmp type time-exceeded accept",
            "icmp type parameter-problem accept",
            "icmp type timestamp-reply accept",
            "icmp type address-mask-reply accept",
            "icmpv6 type destination-unreachable accept",
            "icmpv6 type packet-too-big accept",
            "icmpv6 type time-exceeded accept",
            "icmpv6 type parameter-problem accept",
            "icmpv6 type echo-reply accept",
            "icmpv6 type mld-listener-report accept",
            "icmpv6 type mld-listener-done accept",
            "icmpv6 type nd-neighbor-solicit accept",
            "icmpv6 type nd-neighbor-advert accept",
            "icmpv6 type mld2-listener-report accept",
        ];
        let found: Vec<&str> = rules.into_iter().filter(|r| !r.is_empty()).collect();
        assert_eq!(found.get(..expected.len()), Some(&expected[..]), "{text}");
        assert!(!text.contains("udp") && !text.contains("daddr"), "{text}");
    }

    #[test]
    fn peers_and_datagram_services_are_let_out() {
        let peers = &["10.0.0.7", "fe80::7"];
        let Some(text) = read_back("peers_and_datagram_services_are_let_out", peers, &[53, 161])
        else {
            return;
        };
        for rule in [
            "ip daddr 10.0.0.7 meta l4proto tcp accept",
            "ip6 daddr fe80::7 meta l4proto tcp accept",
            "udp sport 53 accept",
            "udp sport 161 accept",
        ] {
            assert!(
                text.contains(rule)
                    || text.contains(&rule.replace("meta l4proto tcp", "ip protocol tcp")),
                "{rule} is missing in {text}"
            );
        }
    }

    #[test]
    fn a_thousand_peers_fit() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: a_thousand_peers_fit: making a namespace needs root");
            return;
        }
        std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let peers: Vec<IpAddr> = (0..1000u32)
                .map(|n| IpAddr::from((0x0a00_0000 + n).to_be_bytes()))
                .collect();
            apply(&peers, &[]).unwrap();
        })
        .join()
        .unwrap();
    }

    #[test]
    fn an_answer_that_is_none_is_not_success() {
        assert_eq!(verdict(&[]), None);
        assert_eq!(verdict(&[0; 20]), None);
        let mut refused = [0u8; 36];
        refused[4] = 2;
        refused[16..20].copy_from_slice(&(-1i32).to_ne_bytes());
        assert_eq!(verdict(&refused), Some(-1));
    }
}
