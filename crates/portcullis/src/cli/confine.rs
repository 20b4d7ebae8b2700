//! `portcullis confine POLICY -- COMMAND…`: gives up rights, then becomes the command. Started by the gateway itself.

use std::{ffi::OsString, os::unix::process::CommandExt as _, process::ExitCode};

use clap::Args;
use portcullis_net::sandbox::{NOT_CONFINED, Policy};

use crate::output::{Failure, Output};

/// What `confine` takes.
#[derive(Args, Debug)]
pub(crate) struct Confine {
    /// The policy, as JSON
    policy: String,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Returns only where the program was not started. There is no thread beside this one, so nothing keeps its rights.
pub(super) fn confine(confine: Confine, output: &Output) -> ExitCode {
    let Confine { policy, command } = confine;
    let failed = |reason: String| {
        output.fail(&Failure::refused(reason));
        ExitCode::from(NOT_CONFINED)
    };
    let mut words = command.into_iter();
    let Some(program) = words.next() else { return failed("no command".to_owned()) };
    if let Err(reason) = Policy::parse(&policy).and_then(|policy| policy.apply()) {
        return failed(format!("cannot confine: {reason}"));
    }
    let error = std::process::Command::new(&program).args(words).exec();
    failed(format!(
        "cannot start `{}` confined: {error}; is it readable? see `read` of its sandbox",
        program.display()
    ))
}
