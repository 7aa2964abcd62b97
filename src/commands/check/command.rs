//! `whatsapp-connector check ...`: checks, and prints.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::{Finding, Report, Verdict};
use crate::commands::CommandError;
use crate::config::Environment;
use crate::run::Sides;
use crate::stdout;

/// What to check.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// The process that is to run here.
    #[arg(value_enum, default_value_t = Role::Run)]
    role: Role,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Role {
    /// The edge and the forwarder in one process.
    Run,
    /// The edge: between WhatsApp and NATS.
    Edge,
    /// The forwarder: between NATS and the assistant.
    Forwarder,
}

/// Checks and prints. The exit code says whether nothing is in the way.
pub async fn run(args: &CheckArgs, environment: &Environment) -> Result<ExitCode, CommandError> {
    let sides = match args.role {
        Role::Run => Sides::Both,
        Role::Edge => Sides::Edge,
        Role::Forwarder => Sides::Forwarder,
    };
    let report = super::examine(environment, sides).await;
    let _ = if args.json {
        // Plain data always serialises.
        stdout::line(serde_json::to_string(&report).unwrap_or_default())?
    } else {
        stdout::print(page(&report, std::io::stdout().is_terminal()))?
    };
    Ok(if report.fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn page(report: &Report, colours: bool) -> String {
    let failures = report.findings.iter().filter(|finding| finding.verdict == Verdict::Failure).count();
    let lines: String = report.findings.iter().map(|finding| line(finding, colours)).collect();
    let end = match failures {
        0 => "nothing is in the way".to_owned(),
        1 => "1 thing is in the way".to_owned(),
        many => format!("{many} things are in the way"),
    };
    format!("{lines}{end}\n")
}

fn line(finding: &Finding, colours: bool) -> String {
    let (word, colour) = match finding.verdict {
        Verdict::Fine => ("ok", "32"),
        Verdict::Note => ("note", "33"),
        Verdict::Failure => ("FAIL", "31"),
    };
    // Padded first: the codes of a colour would count as width.
    let word = format!("{word:<5}");
    let word = if colours { format!("\u{1b}[{colour}m{word}\u{1b}[0m") } else { word };
    let what = finding.what.replace('\n', "\n                ");
    let mend = finding.mend.as_ref().map(|mend| format!("                → {mend}\n")).unwrap_or_default();
    format!("{:<9} {word} {what}\n{mend}", finding.part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_a_line_for_each_finding_and_what_mends_it_below() {
        let findings = vec![
            Finding::fine("settings", "settings", "every setting can be used"),
            Finding::failure("bus", "nats-unreachable", "no server answers", "start it"),
        ];
        let page = page(&Report::of(findings), false);
        let want = "settings  ok    every setting can be used\nbus       FAIL  no server answers\n                → start it\n1 thing is in the way\n";
        assert_eq!(page, want);
    }
}
