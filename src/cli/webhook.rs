//! `decnet webhook`: the worker, or its receivers looked at and changed.

use std::io::Read;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Subcommand;

use super::output;
use crate::app;
use crate::bus::Bus;
use crate::config::{Config, Sources};
use crate::db::webhook::{Hidden, Wanted, Webhook};
use crate::db::{self, Db, Page};
use crate::deploy::webhook;
use crate::export::{Envelope, signature};
use crate::model::{Stamp, topic, worker};
use crate::net::outbound::Outbound;
use crate::net::seal::Seal;

/// Options.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  decnet webhook                                  the worker; its unit runs this\n  decnet webhook add soc --preset AttackerDetail --url-stdin < url.txt\n  decnet webhook add siem --format ecs_bulk --pattern '>' --url https://elastic.example.com/decnet/_bulk\n  decnet webhook test soc                         send one made-up event now\n  decnet webhook deliveries soc --status dead\n  decnet webhook replay soc                       send again what was given up\n\nThe key that secrets are sealed with is the service user's: run these as root.\n\nExit codes: 0 done, 1 failed (test: not delivered)."
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List receivers.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Add a receiver. Prints its secret, which is not shown again.
    Add(AddArgs),
    /// Deliver to a receiver again; its failures are forgotten.
    Enable {
        /// Its name.
        name: String,
    },
    /// Take down and deliver nothing for a receiver.
    Disable {
        /// Its name.
        name: String,
    },
    /// Remove a receiver with everything that waits for it.
    Remove {
        /// Its name.
        name: String,
    },
    /// Give a receiver a new secret. Prints it; the one before signs for a day more.
    Rotate {
        /// Its name.
        name: String,
    },
    /// Send one made-up event now, past the queue, and say what came of it.
    Test {
        /// Its name.
        name: String,
    },
    /// What a receiver was sent, newest first.
    Deliveries {
        /// Its name.
        name: String,
        /// Only these.
        #[arg(long, value_parser = ["pending", "delivered", "dead"])]
        status: Option<String>,
        /// How many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Put what was given up back in line; or one delivery that is over.
    Replay {
        /// Its name.
        name: String,
        /// Only this one; see `deliveries`.
        #[arg(long, value_parser = clap::value_parser!(i64).range(1..))]
        delivery: Option<i64>,
    },
}

#[derive(Debug, clap::Args)]
struct AddArgs {
    /// What to call it.
    name: String,
    /// Where it listens. Others can read arguments: a URL that is a password in itself is
    /// better given with --url-stdin.
    #[arg(long, required_unless_present = "url_stdin")]
    url: Option<String>,
    /// Read the URL from the first line of standard input, and headers (`Name: value`) from
    /// the lines after it.
    #[arg(long, conflicts_with = "url")]
    url_stdin: bool,
    /// json, cloudevents, slack, mattermost, discord, teams, splunk_hec, ecs_bulk or template.
    #[arg(long, default_value = "json")]
    format: String,
    /// The body in Jinja, for the format template.
    #[arg(long, value_name = "FILE")]
    template: Option<std::path::PathBuf>,
    /// A group of topics: AttackerDetail, DeckyStatus, SystemStatus, Credentials or CanaryAlert.
    #[arg(long, value_name = "NAME")]
    preset: Vec<String>,
    /// A pattern of topics: `*` is one part, a closing `>` the rest.
    #[arg(long)]
    pattern: Vec<String>,
}

pub(super) fn run(args: &Args, sources: &Sources) -> anyhow::Result<ExitCode> {
    let Some(command) = &args.command else {
        let row = worker::find("webhook").context("no such worker")?;
        return Ok(app::start(row, sources));
    };
    let config = super::load(sources)?;
    super::block_on(async {
        // Says what is wrong when there is nothing to open, before anything is created.
        super::logs::open(&config).await?.close().await;
        let key = config.paths.seal_key();
        let seal = Seal::open_or_make(&key).with_context(|| {
            format!(
                "the key file {} (run this as root, or as the service user)",
                key.display()
            )
        })?;
        let desk = Desk {
            db: Db::open(&config.database).await?,
            seal,
            config,
        };
        let outcome = desk.obey(command).await;
        desk.db.close().await;
        outcome
    })
}

struct Desk {
    db: Db,
    seal: Seal,
    config: Config,
}

impl Desk {
    async fn obey(&self, command: &Command) -> anyhow::Result<ExitCode> {
        match command {
            Command::List { json } => self.list(*json).await?,
            Command::Add(args) => self.add(args).await?,
            Command::Enable { name } => self.switch(name, true).await?,
            Command::Disable { name } => self.switch(name, false).await?,
            Command::Remove { name } => {
                let row = self.find(name).await?;
                self.db.webhook_delete(&row.id).await?;
                self.changed().await;
                output::line(format!("webhook {} removed", row.name))?;
            }
            Command::Rotate { name } => self.rotate(name).await?,
            Command::Test { name } => return self.test(name).await,
            Command::Deliveries {
                name,
                status,
                limit,
                json,
            } => {
                self.deliveries(name, status.as_deref(), *limit, *json)
                    .await?
            }
            Command::Replay { name, delivery } => {
                let row = self.find(name).await?;
                let n = self
                    .db
                    .webhook_replay(&row.id, *delivery, Stamp::now())
                    .await?;
                if n == 0 && delivery.is_some() {
                    bail!(
                        "there is no such delivery that is over; `decnet webhook deliveries` lists them"
                    );
                }
                self.changed().await;
                output::line(format!("{n} deliveries are back in line"))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn find(&self, name: &str) -> anyhow::Result<Webhook> {
        let row = self.db.webhook_get(&self.seal, name).await?;
        row.with_context(|| {
            format!("there is no webhook '{name}'; `decnet webhook list` lists them")
        })
    }

    /// Tells the worker, which looks by itself every minute as well.
    async fn changed(&self) {
        let bus = Bus::socket(&self.config.bus, "cli");
        bus.publish(topic::WEBHOOKS_CHANGED, "changed", serde_json::json!({}));
        bus.close().await;
    }

    async fn list(&self, json: bool) -> anyhow::Result<()> {
        let rows = self.db.webhook_list(&self.seal).await?;
        let state = |row: &Webhook| match (row.enabled, &row.hidden, row.open_until, row.failures) {
            (_, None, ..) => "sealed",
            (false, ..) => "off",
            (true, _, Some(_), _) => "open",
            (true, _, None, 0) => "ok",
            (true, ..) => "failing",
        };
        if json {
            let rows: Vec<_> = rows
                .iter()
                .map(|row| {
                    serde_json::json!({
                        "id": row.id, "name": row.name, "format": row.format,
                        "topic_patterns": row.patterns, "enabled": row.enabled,
                        "state": state(row), "pending": row.pending, "dead": row.dead,
                        "dropped": row.dropped, "last_error": row.last_error,
                        "last_success_at": row.last_success_at.map(|at| at.to_string()),
                    })
                })
                .collect();
            return output::json(&rows);
        }
        let rows = rows
            .iter()
            .map(|row| {
                vec![
                    output::safe(&row.name),
                    row.format.clone(),
                    state(row).to_owned(),
                    row.pending.to_string(),
                    row.dead.to_string(),
                    row.patterns.join(" "),
                    output::safe(row.last_error.as_deref().unwrap_or_default()),
                ]
            })
            .collect();
        output::table(
            &[
                "NAME",
                "FORMAT",
                "STATE",
                "WAITING",
                "GIVEN UP",
                "PATTERNS",
                "LAST ERROR",
            ],
            rows,
        )?;
        Ok(())
    }

    async fn add(&self, args: &AddArgs) -> anyhow::Result<()> {
        let (url, headers) = match &args.url {
            Some(url) => (url.clone(), Vec::new()),
            None => read_address()?,
        };
        let template = args.template.as_ref().map(|path| {
            std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
        });
        let secret = signature::generate(rand::random());
        let wanted = Wanted {
            name: args.name.clone(),
            format: args.format.clone(),
            template: template.transpose()?,
            patterns: webhook::patterns(&args.preset, &args.pattern).map_err(anyhow::Error::msg)?,
            enabled: true,
            hidden: Hidden {
                url,
                headers,
                secret: secret.clone(),
                previous: None,
            },
        };
        webhook::check(&wanted, self.config.webhook.allow_private)
            .map_err(|(field, why)| anyhow::anyhow!("{field}: {why}"))?;
        let added = self
            .db
            .webhook_add(&self.seal, &wanted, "cli", Stamp::now())
            .await;
        if let Err(db::Error::Conflict(_)) = added {
            bail!("there is a webhook '{}' already", args.name);
        }
        added?;
        self.changed().await;
        output::line(secret)?;
        Ok(())
    }

    /// Changes a receiver as `change` says.
    async fn edit(&self, name: &str, change: impl FnOnce(&mut Wanted)) -> anyhow::Result<Webhook> {
        let row = self.find(name).await?;
        let mut wanted = row.wanted().context(
            "its URL and secret cannot be opened: the key file was replaced; remove it and add it anew",
        )?;
        change(&mut wanted);
        self.db
            .webhook_change(&self.seal, &row.id, row.version, &wanted, Stamp::now())
            .await?;
        self.changed().await;
        Ok(row)
    }

    async fn switch(&self, name: &str, on: bool) -> anyhow::Result<()> {
        let row = self.edit(name, |wanted| wanted.enabled = on).await?;
        let word = if on { "on" } else { "off" };
        output::line(format!("webhook {} is {word}", row.name))?;
        Ok(())
    }

    async fn rotate(&self, name: &str) -> anyhow::Result<()> {
        let secret = signature::generate(rand::random());
        let new = secret.clone();
        self.edit(name, |wanted| {
            wanted.hidden = webhook::rotated(wanted.hidden.clone(), new, Stamp::now());
        })
        .await?;
        output::line(secret)?;
        Ok(())
    }

    async fn test(&self, name: &str) -> anyhow::Result<ExitCode> {
        let row = self.find(name).await?;
        let outbound = Outbound::new(self.config.webhook.allow_private)?;
        let now = Stamp::now();
        let sent = webhook::send(&outbound, &row, &Envelope::sample(now), now).await;
        if sent.verdict == webhook::Verdict::Delivered {
            output::line(format!("delivered in {} ms", sent.took.as_millis()))?;
            return Ok(ExitCode::SUCCESS);
        }
        let why = sent.error.unwrap_or_default();
        eprintln!("decnet: not delivered: {}", output::safe(&why));
        Ok(ExitCode::FAILURE)
    }

    async fn deliveries(
        &self,
        name: &str,
        status: Option<&str>,
        limit: u32,
        json: bool,
    ) -> anyhow::Result<()> {
        let row = self.find(name).await?;
        let page = Page {
            before: None,
            limit,
        };
        let rows = self.db.webhook_deliveries(&row.id, status, page).await?;
        if json {
            let rows: Vec<_> = rows
                .iter()
                .map(|row| {
                    serde_json::json!({
                        "id": row.id, "event_id": row.event_id, "topic": row.topic,
                        "status": row.status, "attempts": row.attempts,
                        "status_code": row.last_status, "error": row.last_error,
                        "event_at": row.event_at.to_string(),
                        "finished_at": row.finished_at.map(|at| at.to_string()),
                    })
                })
                .collect();
            return output::json(&rows);
        }
        let rows = rows
            .iter()
            .map(|row| {
                vec![
                    row.id.to_string(),
                    row.event_at.to_string(),
                    output::safe(&row.topic),
                    row.status.clone(),
                    row.attempts.to_string(),
                    output::safe(row.last_error.as_deref().unwrap_or_default()),
                ]
            })
            .collect();
        output::table(
            &["ID", "EVENT", "TOPIC", "STATUS", "ATTEMPTS", "LAST ERROR"],
            rows,
        )?;
        Ok(())
    }
}

/// A URL and, below it, headers.
fn read_address() -> anyhow::Result<(String, Vec<(String, String)>)> {
    let mut text = String::new();
    std::io::stdin()
        .take(64 * 1024)
        .read_to_string(&mut text)
        .context("reading the URL from standard input")?;
    let mut lines = text.lines();
    let url = lines.next().unwrap_or_default().trim().to_owned();
    let mut headers = Vec::new();
    for line in lines.filter(|line| !line.trim().is_empty()) {
        let (name, value) = line
            .split_once(':')
            .context("after the URL come headers, each as 'Name: value'")?;
        headers.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    Ok((url, headers))
}
