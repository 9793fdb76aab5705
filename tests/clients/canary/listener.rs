//! Records what is asked of it: by HTTP, and by DNS inside a mount namespace whose
//! resolver it is.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::wait_for;

/// The smallest picture.
const GIF: &[u8] = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff!\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x01D\0;";

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Hit {
    pub(super) method: String,
    /// Path and query.
    pub(super) target: String,
    pub(super) body: Vec<u8>,
}

/// A web server that answers everything with a picture.
pub(super) struct Listener {
    pub(super) addr: SocketAddr,
    hits: Arc<Mutex<Vec<Hit>>>,
}

impl Listener {
    pub(super) fn start() -> Self {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = socket.local_addr().unwrap();
        let hits = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&hits);
        // Ends with the test program.
        std::thread::spawn(move || {
            for stream in socket.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(&stream, &shared));
            }
        });
        Self { addr, hits }
    }

    pub(super) fn hits(&self) -> Vec<Hit> {
        self.hits.lock().unwrap().clone()
    }

    /// Waits for a request whose target starts so.
    pub(super) fn wait(&self, method: &str, start: &str) -> Hit {
        wait_for(&format!("{method} {start}"), || {
            self.hits()
                .into_iter()
                .find(|hit| hit.method == method && hit.target.starts_with(start))
        })
    }
}

fn serve(stream: &TcpStream, hits: &Mutex<Vec<Hit>>) -> Option<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let mut words = line.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut length = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok()?;
            if header.trim().is_empty() {
                break;
            }
            if let Some(value) = header.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let bare = method == "HEAD";
        hits.lock().unwrap().push(Hit {
            method,
            target,
            body,
        });
        let mut out = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: image/gif\r\nContent-Length: {}\r\n\r\n",
            GIF.len()
        )
        .into_bytes();
        if !bare {
            out.extend_from_slice(GIF);
        }
        (&mut &*stream).write_all(&out).ok()?;
    }
}

/// A name server that knows no name, and the file that makes it the resolver.
pub(super) struct Names {
    asked: Arc<Mutex<Vec<String>>>,
    dir: tempfile::TempDir,
}

impl Names {
    /// `None` where this cannot be done.
    pub(super) fn start() -> Option<Self> {
        let id = std::process::id().to_be_bytes();
        let ip = (1..=250)
            .map(|n| Ipv4Addr::new(127, 79, id[3], n))
            .find_map(|ip| UdpSocket::bind((ip, 53)).ok());
        let Some(socket) = ip else {
            eprintln!("skipped: port 53 cannot be taken");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let ip = socket.local_addr().unwrap().ip();
        let text = format!("nameserver {ip}\noptions timeout:1 attempts:2\n");
        fs::write(dir.path().join("resolv.conf"), text).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&asked);
        std::thread::spawn(move || {
            let mut packet = [0; 512];
            while let Ok((len, peer)) = socket.recv_from(&mut packet) {
                let mut answer = packet[..len].to_vec();
                shared.lock().unwrap().push(name(&packet[12..len]));
                // An answer: no such name.
                answer[2] |= 0x80;
                answer[3] = 0x83;
                answer[6..12].fill(0);
                // The question alone; what EDNS added is left away.
                let end = 12 + packet[12..len].iter().position(|b| *b == 0).unwrap() + 5;
                answer.truncate(end);
                socket.send_to(&answer, peer).ok();
            }
        });
        let names = Self { asked, dir };
        let works = names.command("true").status().is_ok_and(|s| s.success());
        if !works {
            eprintln!("skipped: no mount namespace");
        }
        works.then_some(names)
    }

    /// `program`, with us as its resolver.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(["-m", "sh", "-c"])
            .arg("mount --bind \"$1\" /etc/resolv.conf && shift && exec \"$@\"")
            .arg("sh")
            .arg(self.dir.path().join("resolv.conf"))
            .arg(program);
        command
    }

    /// Waits until `wanted` is asked for.
    pub(super) fn wait(&self, wanted: &str) {
        wait_for(&format!("question for {wanted}"), || {
            let asked = self.asked.lock().unwrap();
            asked
                .iter()
                .any(|n| n.eq_ignore_ascii_case(wanted))
                .then_some(())
        });
    }
}

/// The name a question starts with.
fn name(mut bytes: &[u8]) -> String {
    let mut labels = Vec::new();
    while let Some((len, rest)) = bytes.split_first().filter(|(len, _)| **len > 0) {
        let (label, rest) = rest.split_at(usize::from(*len));
        labels.push(String::from_utf8_lossy(label).into_owned());
        bytes = rest;
    }
    labels.join(".")
}
