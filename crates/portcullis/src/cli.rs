//! The command line: what each command takes, and where it is carried out. Commands that need a running gateway talk
//! to its admin API; the others work on files alone.

mod approvals;
mod audit;
mod canaries;
mod check;
mod client;
mod confine;
mod connections;
mod doctor;
mod export;
mod grants;
mod import;
mod inspect;
mod keys;
mod kills;
mod policy;
mod privacy;
mod reference;
mod run;
mod scan;
mod seal;
mod secrets;
mod servers;
mod sinks;
#[cfg(test)]
mod tests;
mod tls;
mod tools;
mod wrap;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use url::Url;

use crate::output::{self, Failure, Output, exit};

const AFTER_HELP: &str = "\
Examples:
  portcullis run                                  start a safe gateway on this machine
  portcullis key create ci --role operator        make an API key (printed once)
  portcullis tool diff files/read_file            see what a server changed
  portcullis audit tail -f                        watch every decision
  portcullis audit verify                         check the whole ledger, offline

Exit codes:
  0  done                    1  refused or failed       2  wrong usage
  3  no gateway reached      4  verification failed     5  mistakes in the configuration";

/// The security gateway for the Model Context Protocol.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, after_help = AFTER_HELP, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Common {
    /// Configuration file [default: portcullis.yaml where it exists]
    #[arg(long, short = 'c', global = true, value_name = "FILE", env = "PORTCULLIS_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Data directory [default: `data` of the configuration, ./portcullis-data]
    #[arg(long, global = true, value_name = "DIR", env = "PORTCULLIS_DATA")]
    pub(crate) data: Option<PathBuf>,
    /// Admin API of the gateway [default: admin.addr in the data directory]
    #[arg(long, global = true, value_name = "URL", env = "PORTCULLIS_ADMIN")]
    pub(crate) admin: Option<Url>,
    /// File with the admin token [default: admin.token in the data directory]
    #[arg(long, global = true, value_name = "FILE", env = "PORTCULLIS_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the gateway
    Run(run::Run),
    /// Check the configuration without starting, with the code that `run` uses
    Check,
    /// API keys: create, list, revoke
    #[command(subcommand)]
    Key(keys::Key),
    /// Connections of callers to servers with accounts of their own: list, revoke
    #[command(subcommand)]
    Connection(connections::Connection),
    /// Secrets that the configuration names by reference: check, list
    #[command(subcommand)]
    Secret(secrets::Secret),
    /// Encryption at rest: status, rotation of keys, destruction of keys
    #[command(subcommand)]
    Seal(seal::Seal),
    /// Certificates for first runs, and pins of public keys
    #[command(subcommand)]
    Tls(tls::Tls),
    /// Servers behind the gateway: list, add, remove
    #[command(subcommand)]
    Server(servers::Server),
    /// Tools, prompts, resources and templates: what servers offer, and what is approved
    #[command(subcommand)]
    Tool(tools::Tool),
    /// Calls that wait for people: list, show, approve, deny
    #[command(subcommand, after_help = approvals::AFTER_HELP)]
    Approval(approvals::Approval),
    /// Stop a caller, session, server, tool or everything, at once
    #[command(subcommand, after_help = kills::AFTER_HELP)]
    Kill(kills::Kill),
    /// Let go on what was stopped
    #[command(subcommand, after_help = kills::AFTER_HELP)]
    Unkill(kills::Unkill),
    /// Policies: check, test and compare them, ask who may do what and why
    #[command(subcommand)]
    Policy(policy::Policy),
    /// Personal data: what is held about a person, erasure, records of processing
    #[command(subcommand)]
    Privacy(privacy::Privacy),
    /// Roles for a time: give, list, revoke
    #[command(subcommand)]
    Grant(grants::Grant),
    /// What was used of each quota
    #[command(subcommand)]
    Quota(grants::Quota),
    /// The ledger: watch, search, verify, prove
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Where entries of the ledger go as well: list, test, backfill
    #[command(subcommand)]
    Sink(sinks::Sink),
    /// Look at a running set-up from the outside, and say what to fix
    #[command(after_help = doctor::AFTER_HELP)]
    Doctor(doctor::Doctor),
    /// Point an MCP client at the gateway
    #[command(after_help = export::AFTER_HELP)]
    Export(export::Export),
    /// Take servers over from the configurations of MCP clients
    #[command(after_help = import::AFTER_HELP)]
    Import(import::Import),
    /// Detectors: what they find in a text, and what they cost
    #[command(subcommand)]
    Inspect(inspect::Inspect),
    /// List what servers offer, with findings, for people and CI; no tool is called
    #[command(after_help = scan::AFTER_HELP)]
    Scan(scan::Scan),
    /// Guard one MCP server for an MCP host on this machine, over standard input and output
    Wrap(wrap::Wrap),
    /// Run the built-in sample MCP server on standard input and output
    SampleServer,
    /// Give up rights, then become a command: how the gateway starts a confined server
    #[command(hide = true)]
    Confine(confine::Confine),
    /// Print completions for a shell
    #[command(after_help = "Example:\n  portcullis completions bash > /etc/bash_completion.d/portcullis")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the generated reference pages into a folder
    #[command(hide = true)]
    Generate {
        /// The folder
        folder: PathBuf,
    },
}

/// Carries out one command; the exit code says how it went.
pub(crate) fn carry_out(cli: Cli) -> ExitCode {
    let Cli { common, command } = cli;
    let output = Output::new(common.json);
    let done = match command {
        Command::Run(options) => return run::run(&common, options, &output),
        Command::Confine(command) => return confine::confine(command, &output),
        Command::Check => check::check(&common, &output),
        Command::Key(command) => keys::carry_out(&common, command, &output),
        Command::Connection(command) => connections::carry_out(&common, command, &output),
        Command::Secret(command) => secrets::carry_out(&common, command, &output),
        Command::Seal(command) => seal::carry_out(&common, command, &output),
        Command::Tls(command) => tls::carry_out(command, &output),
        Command::Server(command) => servers::carry_out(&common, command, &output),
        Command::Tool(command) => tools::carry_out(&common, command, &output),
        Command::Approval(command) => approvals::carry_out(&common, command, &output),
        Command::Kill(command) => kills::kill(&common, command, &output),
        Command::Unkill(command) => kills::unkill(&common, command, &output),
        Command::Privacy(command) => privacy::carry_out(&common, command, &output),
        Command::Policy(command) => policy::carry_out(&common, command, &output),
        Command::Grant(command) => grants::carry_out(&common, command, &output),
        Command::Quota(command) => grants::quotas(&common, &command, &output),
        Command::Sink(command) => sinks::carry_out(&common, command, &output),
        Command::Audit(command) => audit::carry_out(&common, command, &output),
        Command::Doctor(options) => return doctor::doctor(&common, &options, &output),
        Command::Export(options) => export::export(&common, &options, &output),
        Command::Import(options) => import::import(&common, &options, &output),
        Command::Inspect(command) => inspect::carry_out(&common, command, &output),
        Command::Scan(options) => return scan::scan(&common, options, &output),
        Command::Wrap(options) => return wrap::wrap(&common, options, &output),
        Command::SampleServer => {
            portcullis_sample::run().map_err(|error| Failure::refused(format!("{error:#}")))
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "portcullis", &mut script);
            output.raw(&script);
            Ok(())
        }
        Command::Generate { folder } => reference::write(&folder),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => output.fail(&failure),
    }
}
