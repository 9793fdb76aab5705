//! Whether an address is free, asked the way RFC 5227 (ARP) and RFC 4862 (neighbour
//! discovery) do: before a decky claims it. All addresses are asked for at once, from no
//! address of our own, so that no neighbour learns anything from the question.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::libc;
use rtnetlink::packet_route::link::LinkFlags;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::netns::{Netlink, mac_of, show_mac};

/// Questions per address, and the time between them. A machine on the same wire answers
/// within a few milliseconds; three questions are for frames that get lost.
const ROUNDS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(80);
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
const EVERYBODY: [u8; 6] = [0xff; 6];

/// Those of `addresses` that some machine on `interface`'s network answers for, with its
/// MAC address (lower case, colons).
///
/// # Errors
/// When the interface does not exist or raw sockets are not permitted.
pub async fn in_use(
    interface: &str,
    addresses: &[IpAddr],
) -> anyhow::Result<Vec<(IpAddr, String)>> {
    let netlink = Netlink::open()?;
    let link = netlink.expect(interface).await?;
    let silent = link.header.flags.contains(LinkFlags::Noarp);
    let Some(own) = mac_of(&link).filter(|_| !silent && !addresses.is_empty()) else {
        // Not a network where addresses are asked for.
        return Ok(Vec::new());
    };
    let index = link.header.index;
    let addresses = addresses.to_vec();
    let found = tokio::task::spawn_blocking(move || ask(index, own, &addresses))
        .await?
        .with_context(|| {
            format!("asking on {interface} whether addresses are free; this needs CAP_NET_RAW: let the reconciler unit do it, or use sudo")
        })?;
    Ok(found
        .into_iter()
        .map(|(ip, mac)| (ip, show_mac(mac)))
        .collect())
}

fn ask(index: u32, own: [u8; 6], addresses: &[IpAddr]) -> io::Result<BTreeMap<IpAddr, [u8; 6]>> {
    let mut found = BTreeMap::new();
    let arp = addresses
        .iter()
        .any(IpAddr::is_ipv4)
        .then(|| open(index, ARP))
        .transpose()?;
    let discovery = addresses
        .iter()
        .any(IpAddr::is_ipv6)
        .then(|| open(index, IPV6))
        .transpose()?;
    for _ in 0..ROUNDS {
        for ip in addresses.iter().filter(|ip| !found.contains_key(*ip)) {
            let (socket, frame) = match ip {
                IpAddr::V4(ip) => (&arp, arp_question(own, *ip).to_vec()),
                IpAddr::V6(ip) => (&discovery, discovery_question(own, *ip).to_vec()),
            };
            if let Some(mut socket) = socket.as_ref() {
                send(&mut socket, &frame)?;
            }
        }
        let until = Instant::now() + PAUSE;
        for (socket, read) in [
            (&arp, arp_answer as fn(&[u8]) -> Option<(IpAddr, [u8; 6])>),
            (&discovery, discovery_answer),
        ] {
            if let Some(socket) = socket {
                listen(socket, until, |frame| {
                    if let Some((ip, mac)) = read(frame)
                        && mac != own
                        && addresses.contains(&ip)
                    {
                        found.insert(ip, mac);
                    }
                })?;
            }
        }
    }
    Ok(found)
}

/// Sends one frame; an interface that is down has nobody to ask.
fn send(socket: &mut &Socket, frame: &[u8]) -> io::Result<()> {
    match socket.write(frame) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NetworkDown => Ok(()),
        // The queue of a slow interface is full: the next round asks again.
        Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Hands every frame that arrives before `until` to `each`; at least those that are
/// there already.
fn listen(mut socket: &Socket, until: Instant, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut frame = [0; 1600];
    loop {
        let left = until
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1));
        socket.set_read_timeout(Some(left))?;
        match socket.read(&mut frame) {
            Ok(length) => each(frame.get(..length).unwrap_or_default()),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock
                        | io::ErrorKind::TimedOut
                        | io::ErrorKind::NetworkDown
                ) =>
            {
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if Instant::now() >= until {
            return Ok(());
        }
    }
}

/// A raw socket for frames of one protocol on one interface.
fn open(index: u32, protocol: u16) -> io::Result<Socket> {
    // Protocol 0 receives nothing until it is bound to the one interface.
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
    socket.bind(&frames(index, protocol)?)?;
    Ok(socket)
}

/// The address of all frames of `protocol` on interface `index`.
fn frames(index: u32, protocol: u16) -> io::Result<SockAddr> {
    let index = i32::try_from(index).map_err(io::Error::other)?;
    #[expect(
        unsafe_code,
        reason = "no crate makes the address of a packet socket without it"
    )]
    // SAFETY: the storage is zeroed, large enough and aligned for every kind of socket
    // address; what is written is a valid sockaddr_ll, and its length is set to it.
    let made = unsafe {
        SockAddr::try_init(|storage, length| {
            let address = storage.cast::<libc::sockaddr_ll>();
            (*address).sll_family = 17; // AF_PACKET
            (*address).sll_protocol = protocol.to_be();
            (*address).sll_ifindex = index;
            *length = 20;
            Ok(())
        })
    };
    made.map(|((), address)| address)
}

// The questions are arrays of known length, cut at constant places inside them.

/// "Who has `ip`?", from no address.
fn arp_question(own: [u8; 6], ip: Ipv4Addr) -> [u8; 42] {
    let mut frame = [0; 42];
    let (ethernet, arp) = frame.split_at_mut(14);
    ethernet[..6].copy_from_slice(&EVERYBODY);
    ethernet[6..12].copy_from_slice(&own);
    ethernet[12..].copy_from_slice(&ARP.to_be_bytes());
    // Ethernet, IPv4, lengths 6 and 4, a request.
    arp[..8].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
    arp[8..14].copy_from_slice(&own);
    arp[24..].copy_from_slice(&ip.octets());
    frame
}

/// Who, in an ARP frame, says that an address is theirs: questions count as answers.
fn arp_answer(frame: &[u8]) -> Option<(IpAddr, [u8; 6])> {
    let arp = frame.get(14..)?;
    if frame.get(12..14)? != ARP.to_be_bytes() || arp.get(..6)? != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    let mac = arp.get(8..14)?.try_into().ok()?;
    let ip: [u8; 4] = arp.get(14..18)?.try_into().ok()?;
    (ip != [0; 4]).then_some((ip.into(), mac))
}

/// A neighbour solicitation for `ip`, from no address.
fn discovery_question(own: [u8; 6], ip: Ipv6Addr) -> [u8; 78] {
    let target = ip.octets();
    let mut group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0];
    group[13..].copy_from_slice(&target[13..]);
    let mut frame = [0; 78];
    let (ethernet, packet) = frame.split_at_mut(14);
    ethernet[..2].copy_from_slice(&[0x33, 0x33]);
    ethernet[2..6].copy_from_slice(&group[12..]);
    ethernet[6..12].copy_from_slice(&own);
    ethernet[12..].copy_from_slice(&IPV6.to_be_bytes());
    // Version 6, 24 bytes of ICMPv6, hop limit 255, source "unspecified".
    packet[0] = 0x60;
    packet[5] = 24;
    packet[6] = 58;
    packet[7] = 255;
    packet[24..40].copy_from_slice(&group);
    packet[40] = 135;
    packet[48..64].copy_from_slice(&target);
    let sum = checksum(&packet[8..40], &packet[40..64]);
    packet[42..44].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// The Internet checksum of an ICMPv6 message and its pseudo-header.
fn checksum(addresses: &[u8], message: &[u8]) -> u16 {
    let words = addresses.chunks(2).chain(message.chunks(2));
    let sum: u32 = words
        .map(|pair| {
            let byte = |at: usize| pair.get(at).copied().unwrap_or(0);
            u32::from(u16::from_be_bytes([byte(0), byte(1)]))
        })
        .sum::<u32>()
        + u32::try_from(message.len()).unwrap_or(0)
        + 58;
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(0)
}

/// Who, in a neighbour advertisement, says that an address is theirs.
fn discovery_answer(frame: &[u8]) -> Option<(IpAddr, [u8; 6])> {
    let packet = frame.get(14..)?;
    let message = packet.get(40..)?;
    if frame.get(12..14)? != IPV6.to_be_bytes()
        || packet.get(6..8)? != [58, 255]
        || message.first()? != &136
    {
        return None;
    }
    let target: [u8; 16] = message.get(8..24)?.try_into().ok()?;
    let mac = frame.get(6..12)?.try_into().ok()?;
    Some((target.into(), mac))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];

    #[test]
    fn a_question_names_no_sender_and_is_no_answer() {
        let frame = arp_question(OWN, [10, 0, 0, 5].into());
        assert_eq!(frame[28..32], [0; 4], "sender");
        assert_eq!(frame[38..42], [10, 0, 0, 5], "target");
        assert_eq!(arp_answer(&frame), None);
    }

    #[test]
    fn an_answer_names_the_machine() {
        let mut frame = arp_question([2, 0, 0, 0, 0, 9], [10, 0, 0, 1].into());
        frame[21] = 2;
        frame[28..32].copy_from_slice(&[10, 0, 0, 5]);
        let found = arp_answer(&frame);
        assert_eq!(found, Some(([10, 0, 0, 5].into(), [2, 0, 0, 0, 0, 9])));
    }

    #[test]
    fn a_solicitation_carries_its_checksum() {
        // With its checksum in place a message sums to zero; a kernel that takes it for
        // right is in the last test.
        let frame = discovery_question(OWN, "fe80::21b:21ff:fe0a:ff07".parse().unwrap());
        assert_eq!(checksum(&frame[22..54], &frame[54..78]), 0);
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0x0a, 0xff, 0x07]);
    }

    proptest! {
        #[test]
        fn no_frame_is_too_strange(frame in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (arp_answer(&frame), discovery_answer(&frame));
        }
    }

    /// Two ends of a cable in namespaces of this thread: the kernel at the other end
    /// answers for its own addresses and for no other.
    #[tokio::test]
    async fn the_machine_at_the_other_end_answers() {
        let run = |args: &str| {
            std::process::Command::new("ip")
                .args(args.split(' '))
                .status()
                .is_ok_and(|s| s.success())
        };
        if !nix::unistd::geteuid().is_root() || !run("link show lo") {
            eprintln!("skipped: the_machine_at_the_other_end_answers: needs root and iproute2");
            return;
        }
        let name = format!("netns-probe-{}", std::process::id());
        assert!(run(&format!("netns add {name}")));
        let near = format!("pr{}", std::process::id() % 1_000_000);
        let made = run(&format!(
            "link add {near} type veth peer name eth0 netns {name}"
        )) && run(&format!("link set {near} up"))
            && run(&format!("-n {name} addr add 10.99.0.5/24 dev eth0"))
            && run(&format!("-n {name} addr add fd00:99::5/64 dev eth0 nodad"))
            && run(&format!(
                "-n {name} link set eth0 address 00:1b:21:00:00:05 up"
            ));
        let asked: [IpAddr; 4] = [
            "10.99.0.5".parse().unwrap(),
            "10.99.0.6".parse().unwrap(),
            "fd00:99::5".parse().unwrap(),
            "fd00:99::6".parse().unwrap(),
        ];
        let began = Instant::now();
        let found = in_use(&near, &asked).await;
        let took = began.elapsed();
        run(&format!("netns del {name}"));
        assert!(made);
        let mac = "00:1b:21:00:00:05".to_owned();
        assert_eq!(
            found.unwrap(),
            vec![(asked[0], mac.clone()), (asked[2], mac)]
        );
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
}
