//! `decnet io`: care for a running decky by hand: plant files on it, take names away,
//! look at what was planted, have it talk to a peer. Everything goes over its control
//! socket; no shell and no path of this host is involved.

use std::io::{IsTerminal, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Subcommand;

use super::{logs, output};
use crate::config::{Config, Sources};
use crate::decoy::control::{self, READ_MAX};
use crate::decoy::disk::{Child, FILE_MAX, Meta};
use crate::fleet;
use crate::model::Stamp;

/// Options.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  echo 'vpn: ann / Sommer2024' | decnet io decky-01 write /home/ann/notes.txt\n  decnet io decky-01 write /srv/ftp/plan.pdf --from plan.pdf --mtime 2024-03-05T08:12:00Z\n  decnet io win-02 write 'C:\\inetpub\\wwwroot\\backup.zip' --from backup.zip\n  decnet io decky-01 list /home\n  decnet io decky-01 delete /home/ann/notes.txt\n  decnet io decky-01 connect 192.0.2.20:6379 --send 'PING\\r\\n'\n\nPaths are those of the host the decky pretends to be. Planted files survive a restart of\nthe decky and go with its teardown. A decky connects to its peers only.\n\nExit codes: 0 done, 1 not done, 2 wrong usage."
)]
pub(super) struct Args {
    /// The decky, by name.
    #[arg(value_name = "DECKY")]
    decky: String,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Plant a file.
    Write {
        /// Where, on the decky.
        path: String,
        /// File of this host with the content; '-' is standard input.
        #[arg(long, value_name = "FILE", default_value = "-")]
        from: PathBuf,
        /// Permission bits, octal.
        #[arg(long, value_name = "MODE", default_value = "0644", value_parser = mode)]
        mode: u32,
        /// Last change, as the decky shows it (2024-03-05T08:12:00Z); now when not given.
        #[arg(long, value_name = "TIME", value_parser = time)]
        mtime: Option<Stamp>,
        /// User of the decky it belongs to.
        #[arg(long, value_name = "USER")]
        owner: Option<String>,
    },
    /// Take away a file or directory, planted or the decky's own.
    Delete {
        /// Which.
        path: String,
    },
    /// List what is planted in a directory.
    List {
        /// Which.
        #[arg(default_value = "")]
        path: String,
    },
    /// Show what is planted at a path.
    Stat {
        /// Where.
        path: String,
    },
    /// Connect to a peer from the decky and show what it says.
    Connect {
        /// Whom.
        #[arg(value_name = "ADDR:PORT")]
        addr: SocketAddr,
        /// What to send first; \r, \n, \t, \\ and \xHH are understood.
        #[arg(long, value_name = "TEXT", value_parser = unescape)]
        send: Option<Bytes>,
        /// Longest time, in seconds (at most 10).
        #[arg(long, value_name = "SECONDS", default_value_t = 3)]
        timeout: u64,
    },
}

/// Bytes given on the command line.
#[derive(Clone, Debug)]
struct Bytes(Vec<u8>);

fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text.trim_start_matches("0o"), 8) {
        Ok(mode) if mode <= 0o7777 => Ok(mode),
        _ => Err("use an octal mode such as 0644".to_owned()),
    }
}

fn time(text: &str) -> Result<Stamp, String> {
    Stamp::parse(text).ok_or_else(|| "use a time such as 2024-03-05T08:12:00Z".to_owned())
}

fn unescape(text: &str) -> Result<Bytes, String> {
    let mut out = Vec::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.extend(c.encode_utf8(&mut [0; 4]).bytes());
            continue;
        }
        out.push(match rest.next() {
            Some('r') => b'\r',
            Some('n') => b'\n',
            Some('t') => b'\t',
            Some('0') => 0,
            Some('\\') => b'\\',
            Some('x') => {
                let digits: String = rest.by_ref().take(2).collect();
                match u8::from_str_radix(&digits, 16) {
                    Ok(byte) if digits.len() == 2 => byte,
                    _ => return Err(format!("\\x{digits} is not a byte; use \\x00 to \\xff")),
                }
            }
            _ => return Err("after \\ use r, n, t, 0, \\ or xHH".to_owned()),
        });
    }
    Ok(Bytes(out))
}

pub(super) fn run(args: &Args, sources: &Sources) -> anyhow::Result<ExitCode> {
    let config = super::load(sources)?;
    let name = &args.decky;
    fleet::check_name(name).map_err(anyhow::Error::msg)?;
    // Read before anything is asked: a slow pipe must not use up the decky's patience.
    let content = match &args.what {
        What::Write { from, .. } => content(from)?,
        _ => Vec::new(),
    };
    super::block_on(async {
        let dir = config.paths.decky(name);
        match ask(args, &dir, &content).await {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error) => Err(explain(&config, name, error).await),
        }
    })
}

/// Why it was not done, with what to do about it.
async fn explain(config: &Config, name: &str, error: anyhow::Error) -> anyhow::Error {
    let Some(control) = error.downcast_ref::<control::Error>() else {
        return error;
    };
    if let control::Error::Io(cause) = control
        && cause.kind() == std::io::ErrorKind::PermissionDenied
    {
        return anyhow::anyhow!("you may not reach {name}: use sudo, or join the service's group");
    }
    if !matches!(control, control::Error::Absent) {
        return anyhow::anyhow!("{name}: {control}");
    }
    let known = match logs::open(config).await {
        Ok(db) => match db.decky_list().await {
            Ok(rows) => rows.iter().any(|r| r.decky.name == name),
            Err(error) => return error.into(),
        },
        Err(error) => return error,
    };
    if known {
        anyhow::anyhow!("{name} is not running; `decnet deckies` shows why")
    } else {
        anyhow::anyhow!("there is no decky called '{name}'; `decnet deckies` lists them")
    }
}

fn content(from: &Path) -> anyhow::Result<Vec<u8>> {
    let most = u64::try_from(FILE_MAX).unwrap_or(u64::MAX) + 1;
    let mut content = Vec::new();
    if from == Path::new("-") {
        let input = std::io::stdin();
        if input.is_terminal() {
            eprintln!("reading the content from the terminal; Ctrl-D ends it");
        }
        input
            .lock()
            .take(most)
            .read_to_end(&mut content)
            .context("reading standard input")?;
    } else {
        std::fs::File::open(from)
            .and_then(|file| file.take(most).read_to_end(&mut content))
            .with_context(|| format!("reading {}", from.display()))?;
    }
    if content.len() > FILE_MAX {
        bail!(
            "{} is too large: a planted file may have {FILE_MAX} bytes",
            from.display()
        );
    }
    Ok(content)
}

async fn ask(args: &Args, dir: &Path, content: &[u8]) -> anyhow::Result<()> {
    match &args.what {
        What::Write {
            path,
            mode,
            mtime,
            owner,
            ..
        } => {
            let owner = owner.as_deref();
            let meta = control::write(dir, path, content, *mode, *mtime, owner).await?;
            if args.json {
                output::json(&meta)?;
            } else {
                let shown = output::safe(&meta.path.to_string());
                output::line(format!("{shown} planted, {} bytes", meta.size))?;
            }
        }
        What::Delete { path } => {
            let done = control::delete(dir, path).await?;
            if args.json {
                output::json(&done)?;
            } else {
                output::line(format!(
                    "{} taken away, {} planted files with it",
                    output::safe(path),
                    done.removed
                ))?;
            }
        }
        What::List { path } => {
            let found = list(dir, path).await?;
            if args.json {
                output::json(&found)?;
            } else {
                output::table(
                    &["NAME", "MODE", "OWNER", "SIZE", "CHANGED"],
                    found.iter().map(row).collect(),
                )?;
            }
        }
        What::Stat { path } => {
            let meta = control::stat(dir, path).await?;
            if args.json {
                output::json(&meta)?;
            } else {
                show(&meta)?;
            }
        }
        What::Connect {
            addr,
            send,
            timeout,
        } => {
            let send = send.as_ref().map_or(&[][..], |bytes| &bytes.0);
            let limit = Duration::from_secs(*timeout);
            let done = control::connect(dir, *addr, send, READ_MAX, limit).await?;
            if args.json {
                output::json(&done)?;
            } else {
                print_received(&done.received())?;
            }
        }
    }
    Ok(())
}

/// Without a path: the top of whatever kind of host it is.
async fn list(dir: &Path, path: &str) -> Result<Vec<Child>, control::Error> {
    if !path.is_empty() {
        return control::list(dir, path).await;
    }
    match control::list(dir, "/").await {
        Err(control::Error::Refused(_)) => control::list(dir, "\\").await,
        other => other,
    }
}

fn row(child: &Child) -> Vec<String> {
    match &child.file {
        Some(meta) => vec![
            output::safe(&child.name),
            format!("{:04o}", meta.mode),
            meta.owner.clone().unwrap_or_default(),
            meta.size.to_string(),
            meta.mtime.to_string(),
        ],
        None => vec![
            format!("{}/", output::safe(&child.name)),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
        ],
    }
}

fn show(meta: &Meta) -> std::io::Result<()> {
    output::line(format!("path    {}", output::safe(&meta.path.to_string())))?;
    output::line(format!("size    {}", meta.size))?;
    output::line(format!("mode    {:04o}", meta.mode))?;
    if let Some(owner) = &meta.owner {
        output::line(format!("owner   {owner}"))?;
    }
    output::line(format!("changed {}", meta.mtime))?;
    output::line(format!("sha256  {}", meta.sha256))
}

/// As it came, into a pipe; made harmless, on a terminal.
fn print_received(bytes: &[u8]) -> std::io::Result<()> {
    if std::io::stdout().is_terminal() {
        for line in String::from_utf8_lossy(bytes).lines() {
            output::line(output::safe(line))?;
        }
        return Ok(());
    }
    std::io::stdout().lock().write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_to_send_can_hold_any_byte() {
        assert_eq!(
            unescape("PING\\r\\n\\x00\\\\ü").unwrap().0,
            "PING\r\n\0\\ü".as_bytes()
        );
        for bad in ["\\", "\\q", "\\xg0", "\\x1"] {
            assert!(unescape(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!(mode("0640"), Ok(0o640));
        assert_eq!(mode("600"), Ok(0o600));
        assert!(mode("0888").is_err() && mode("77777").is_err());
    }
}
