//! The security gateway for the Model Context Protocol: one binary, every command.

mod cli;
mod logging;
mod output;
mod wire;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    cli::carry_out(cli::Cli::parse())
}
