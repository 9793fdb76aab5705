//! INFO: one coherent picture. Times derive from the boot time of the host, counters
//! from what really happened plus the host's own regular traffic, so two calls never
//! contradict each other. `{name}` in the templates is filled in per call.

use super::call::Cx;
use super::reply::Reply;
use super::state::State;
use super::store::DATABASES;

/// Sections with the text of each generation; `5`, `6`, `7` before a line limits it to
/// that version (`6+` means from 6 on).
const TEMPLATE: &str = include_str!("info.txt");
/// The same before 5.0, which has fewer of everything.
const TEMPLATE_3: &str = include_str!("info3.txt");

/// Sections only shown when asked for.
const EXTRA: &[&str] = &["commandstats", "latencystats"];

pub(super) fn info(cx: &mut Cx<'_>) -> Reply {
    let wanted: Vec<String> = (1..cx.args.len().min(32)).map(|at| cx.word(at)).collect();
    let all = wanted.iter().any(|w| w == "all" || w == "everything");
    let default = wanted.is_empty() || wanted.iter().any(|w| w == "default");
    let values = values(cx.st, cx.now);
    let mut out = String::new();
    let template = if cx.st.version.0 < 5 {
        TEMPLATE_3
    } else {
        TEMPLATE
    };
    for section in template.split("\n\n") {
        let name = section
            .lines()
            .next()
            .and_then(|l| l.strip_prefix("# "))
            .unwrap_or_default()
            .to_ascii_lowercase();
        let since = if name == "errorstats" || name == "latencystats" {
            7
        } else {
            5
        };
        let extra = EXTRA.contains(&name.as_str());
        let shown = all || wanted.contains(&name) || (default && !extra);
        if !shown || cx.st.version.0.max(5) < since {
            continue;
        }
        if !out.is_empty() {
            out.push_str("\r\n");
        }
        for line in section.lines() {
            if let Some(line) = fitting(line, cx.st.version.0) {
                out.push_str(&fill(line, &values));
                if !line.is_empty() {
                    out.push_str("\r\n");
                }
            }
        }
        if name == "keyspace" {
            keyspace(cx, &mut out);
        }
    }
    Reply::Text(out)
}

/// The line without its version mark, if it is for this version.
fn fitting(line: &str, version: u16) -> Option<&str> {
    let Some((mark, rest)) = line.split_once('|') else {
        return Some(line);
    };
    let fits = match mark.strip_suffix('+') {
        Some(from) => from.parse().is_ok_and(|from: u16| version >= from),
        None => mark.parse() == Ok(version),
    };
    fits.then_some(rest)
}

fn fill(line: &str, values: &[(&str, String)]) -> String {
    let Some((head, rest)) = line.split_once('{') else {
        return line.to_owned();
    };
    let Some((name, tail)) = rest.split_once('}') else {
        return line.to_owned();
    };
    let value = values
        .iter()
        .find(|(key, _)| *key == name)
        .map_or("", |(_, value)| value.as_str());
    format!("{head}{value}{tail}")
}

fn keyspace(cx: &mut Cx<'_>, out: &mut String) {
    for db in 0..DATABASES {
        cx.st.store.sweep(db, cx.now);
        let keys = cx.st.store.len(db);
        if keys == 0 {
            continue;
        }
        let (mut expires, mut total) = (0i64, 0i64);
        for (_, entry) in cx.st.store.iter(db) {
            if let Some(at) = entry.expires {
                expires = expires.saturating_add(1);
                total = total.saturating_add(at.saturating_sub(cx.now));
            }
        }
        let average = total.checked_div(expires).unwrap_or(0);
        out.push_str(&format!(
            "db{db}:keys={keys},expires={expires},avg_ttl={average}\r\n"
        ));
    }
}

/// Bytes as INFO shows them to people.
fn human(bytes: usize) -> String {
    let value = u32::try_from(bytes).map_or(f64::MAX, f64::from);
    for (unit, size) in [("G", 1_073_741_824.0), ("M", 1_048_576.0), ("K", 1024.0)] {
        if value >= size {
            return format!("{:.2}{unit}", value / size);
        }
    }
    format!("{bytes}B")
}

/// Two digits behind the point.
fn short(mut number: String) -> String {
    number.truncate(number.len().saturating_sub(4));
    number
}

fn values(st: &mut State, now: i64) -> Vec<(&'static str, String)> {
    let used = st.used_memory();
    let up = now.saturating_sub(st.started).max(0).wrapping_div(1000);
    // The host's own checks: a connection each, with an INFO and a PING.
    let visits = st.own_visits(st.reset_at, now);
    let own = |per_visit: u64| visits.saturating_mul(per_visit);
    let stats = st.stats;
    let rss = used
        .saturating_add(11_400_000)
        .wrapping_div(4096)
        .saturating_mul(4096);
    let ram: usize = 4_124_000_256;
    let ratio = |a: usize, b: usize| {
        let f = |n: usize| u32::try_from(n).map_or(1.0, f64::from);
        format!("{:.2}", f(a) / f(b.max(1)))
    };
    let cpu = |factor: f64, extra: u64| {
        let up = i32::try_from(up).map_or(0.0, f64::from);
        let extra = u32::try_from(extra).map_or(0.0, f64::from);
        format!("{:.6}", 0.41 + up * factor + extra * 0.000_021)
    };
    let startup = used
        .saturating_sub(st.store.used())
        .saturating_sub(st.clients.len().saturating_mul(20_512));
    let data = st.store.used();
    let subscribed = |pattern: bool| {
        let mut names: Vec<&Vec<u8>> = st
            .clients
            .values()
            .flat_map(|c| if pattern { &c.patterns } else { &c.channels })
            .collect();
        names.sort();
        names.dedup();
        names.len().to_string()
    };
    let (role, link) = match &st.master {
        None => ("master", String::new()),
        Some((host, port, _)) => {
            let mut link = format!(
                "\r\nmaster_host:{host}\r\nmaster_port:{port}\r\nmaster_link_status:down\r\nmaster_last_io_seconds_ago:-1\r\nmaster_sync_in_progress:0"
            );
            if st.version.seven() {
                link.push_str("\r\nslave_read_repl_offset:0");
            }
            link.push_str("\r\nslave_repl_offset:0\r\nmaster_link_down_since_seconds:");
            link.push_str(&if st.version.seven() {
                "-1".to_owned()
            } else {
                now.wrapping_div(1000).to_string()
            });
            link.push_str("\r\nslave_priority:100\r\nslave_read_only:1");
            if st.version.seven() {
                link.push_str("\r\nreplica_announced:1");
            }
            ("slave", link)
        }
    };
    let settings = &st.settings;
    vec![
        ("version", st.persona.redis_version.clone()),
        ("build", st.platform.build_id(&st.persona)),
        ("sha1", st.platform.git_sha1(&st.persona).to_owned()),
        ("os", st.os.clone()),
        ("mux", st.platform.mux().to_owned()),
        ("atomic", st.platform.atomic(st.version).to_owned()),
        ("supervised", st.platform.supervised().to_owned()),
        ("executable", st.platform.executable().to_owned()),
        ("config_file", st.platform.config_file().to_owned()),
        ("allocator", st.platform.allocator(st.version).to_owned()),
        ("cow", st.platform.cow().to_string()),
        ("gcc", st.platform.gcc(&st.persona)),
        ("pid", st.pid.to_string()),
        ("run_id", st.run_id.clone()),
        ("port", settings.get("port").to_owned()),
        ("usec", crate::model::Stamp::now().0.to_string()),
        ("uptime", up.to_string()),
        ("days", up.wrapping_div(86_400).to_string()),
        ("lru", (now.wrapping_div(1000) & 0x00ff_ffff).to_string()),
        ("clients", st.clients.len().to_string()),
        ("maxclients", settings.get("maxclients").to_owned()),
        ("used", used.to_string()),
        ("used_human", human(used)),
        ("rss", rss.to_string()),
        ("rss_human", human(rss)),
        ("peak", st.peak.to_string()),
        ("peak_human", human(st.peak)),
        ("peak_perc", {
            let share = ratio(used.saturating_mul(100), st.peak);
            format!("{share}%")
        }),
        ("overhead", used.saturating_sub(data).to_string()),
        ("startup", startup.to_string()),
        ("dataset", data.to_string()),
        ("dataset_perc", {
            let share = ratio(data.saturating_mul(100), used.saturating_sub(startup));
            format!("{share}%")
        }),
        ("allocated", used.saturating_add(180_000).to_string()),
        ("active", used.saturating_add(460_000).to_string()),
        ("resident", used.saturating_add(3_100_000).to_string()),
        ("ram", ram.to_string()),
        ("ram_human", format!("{:.2}G", 3.84)),
        ("scripts", st.scripts.len().to_string()),
        ("maxmemory", settings.get("maxmemory").to_owned()),
        (
            "maxmemory_human",
            human(settings.get("maxmemory").parse().unwrap_or(0)),
        ),
        ("policy", settings.get("maxmemory-policy").to_owned()),
        ("fragmentation", ratio(rss, used)),
        ("fragmentation_bytes", rss.saturating_sub(used).to_string()),
        ("dirty", st.store.dirty.to_string()),
        ("saved", st.saved.wrapping_div(1000).to_string()),
        ("saves", st.saves.to_string()),
        (
            "aof",
            u8::from(settings.get("appendonly") == "yes").to_string(),
        ),
        (
            "connections",
            own(1).saturating_add(stats.connections).to_string(),
        ),
        (
            "commands",
            own(2).saturating_add(stats.commands).to_string(),
        ),
        ("input", own(59).saturating_add(stats.input).to_string()),
        (
            "output",
            own(5_212).saturating_add(stats.output).to_string(),
        ),
        ("ops", "0".to_owned()),
        ("expired", st.store.expired.to_string()),
        ("hits", own(3).saturating_add(stats.hits).to_string()),
        (
            "misses",
            visits
                .wrapping_div(7)
                .saturating_add(stats.misses)
                .to_string(),
        ),
        ("errors", stats.errors.to_string()),
        ("channels", subscribed(false)),
        ("patterns", subscribed(true)),
        ("role", format!("{role}{link}")),
        ("replid", st.replid.clone()),
        ("cpu_sys", cpu(0.000_93, stats.commands)),
        ("cpu_user", cpu(0.000_71, stats.commands)),
        ("cpu_sys_short", short(cpu(0.000_93, stats.commands))),
        ("cpu_user_short", short(cpu(0.000_71, stats.commands))),
        ("cpu_sys_main", cpu(0.000_92, stats.commands)),
        ("cpu_user_main", cpu(0.000_70, stats.commands)),
        ("reads", own(2).saturating_add(stats.commands).to_string()),
    ]
}
