//! `decnet completions`: shell completions and the man page, from the same command tree
//! that parses the command line.

use std::io::Write;
use std::process::ExitCode;

use clap_complete::Shell;

use crate::config::key;

/// Options.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  decnet completions bash > /etc/bash_completion.d/decnet\n  decnet completions man | man -l -"
)]
pub(super) struct Args {
    /// For which shell, or `man`.
    #[arg(value_enum)]
    what: What,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum What {
    Bash,
    Zsh,
    Fish,
    Man,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut command = super::command();
    let mut text = Vec::new();
    let shell = match args.what {
        What::Bash => Shell::Bash,
        What::Zsh => Shell::Zsh,
        What::Fish => Shell::Fish,
        What::Man => {
            man(&mut text)?;
            std::io::stdout().lock().write_all(&text)?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    clap_complete::generate(shell, &mut command, "decnet", &mut text);
    std::io::stdout().lock().write_all(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// One page: the commands, then each with its options, then the settings.
fn man(out: &mut Vec<u8>) -> anyhow::Result<()> {
    let mut command = super::command();
    command.build();
    clap_mangen::Man::new(command.clone()).render(out)?;
    writeln!(out, ".SH COMMAND OPTIONS")?;
    for sub in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        let mut named = sub.clone().disable_help_flag(true);
        let usage = named.render_usage().to_string();
        writeln!(out, ".SS decnet {}", sub.get_name())?;
        if let Some(about) = sub.get_about() {
            writeln!(out, "{}", roff(&about.to_string()))?;
        }
        writeln!(out, ".PP\n.nf\n{}\n.fi", roff(&usage))?;
        for argument in named.get_arguments().filter(|a| !a.is_hide_set()) {
            let name = match (argument.get_long(), argument.get_short()) {
                (Some(long), Some(short)) => format!("-{short}, --{long}"),
                (Some(long), None) => format!("--{long}"),
                _ => argument.get_id().to_string().to_uppercase(),
            };
            let help = argument
                .get_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            writeln!(out, ".TP\n\\fB{}\\fR\n{}", roff(&name), roff(&help))?;
        }
    }
    writeln!(
        out,
        ".SH SETTINGS\nIn the environment, in .env.local of the install directory, or in /etc/decnet/decnet.ini."
    )?;
    for row in key::KEYS {
        let place = row
            .ini
            .map_or_else(String::new, |(s, k)| format!(" ([{s}] {k})"));
        writeln!(
            out,
            ".TP\n\\fB{}\\fR{}\n{}",
            row.name,
            roff(&place),
            roff(row.doc)
        )?;
        if !row.default.is_empty() {
            writeln!(out, "Default: {}.", roff(row.default))?;
        }
    }
    Ok(())
}

/// Text as roff shows it: backslashes and hyphens escaped, no line begins with a dot.
fn roff(text: &str) -> String {
    text.lines()
        .map(|line| {
            let line = line.replace('\\', "\\\\").replace('-', "\\-");
            match line.strip_prefix(['.', '\'']) {
                Some(_) => format!("\\&{line}"),
                None => line,
            }
        })
        .collect::<Vec<_>>()
        .join("\n")
}
