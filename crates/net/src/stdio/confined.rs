//! A confined child: what it is started with, who counts its processes, and what its end says about it.

use std::{ffi::OsStr, os::unix::process::ExitStatusExt as _, process::ExitStatus, sync::Arc};

use rustix::process::Signal;

use super::{ChildOptions, Command, Violation, child::Group};
use crate::{
    incident::{Incident, IncidentKind, Report},
    sandbox::{NOT_CONFINED, Prepared, SandboxError, Words, overcrowded},
};

/// A child that is confined, from before its start until after its end.
#[derive(Debug)]
pub(super) struct Confined {
    server: Arc<str>,
    report: Report,
    processes_max: Option<u64>,
    pub(super) prepared: Prepared,
    counting: Option<tokio::task::JoinHandle<()>>,
}

impl Confined {
    pub(super) fn prepare(command: &Command, options: &ChildOptions) -> Result<Option<Self>, SandboxError> {
        let Some(sandbox) = &options.sandbox else { return Ok(None) };
        let variable = |name: &str| {
            let own = command.env.get(name).map(OsStr::new);
            own.or_else(|| options.base_env.0.get(OsStr::new(name)).map(AsRef::as_ref))
        };
        let words = Words {
            program: &command.program,
            args: &command.args,
            cwd: command.cwd.as_deref(),
            path: variable("PATH"),
            home: variable("HOME"),
        };
        Ok(Some(Self {
            server: Arc::clone(&options.name),
            report: sandbox.surroundings.report.clone(),
            processes_max: sandbox.confinement.bounds.processes_max,
            prepared: sandbox.prepare(&options.name, &words)?,
            counting: None,
        }))
    }

    /// The same options, with the credential of its way out masked in what it says.
    pub(super) fn discreet(&self, options: &ChildOptions) -> ChildOptions {
        let mut options = options.clone();
        let Some(lease) = &self.prepared.lease else { return options };
        let credential = lease.credential();
        let inner = options.stderr_filter.take();
        options.stderr_filter = Some(Arc::new(move |line: String| {
            let line = line.replace(credential.expose().as_str(), "****");
            inner.as_ref().map_or_else(|| line.clone(), |inner| inner(line.clone()))
        }));
        options
    }

    /// From here on its processes are counted.
    pub(super) fn started(mut self, pid: u32, group: &Arc<Group>) -> Self {
        self.watch(pid);
        let Some(max) = self.processes_max else { return self };
        let (group, server, report) = (Arc::clone(group), Arc::clone(&self.server), self.report.clone());
        self.counting = Some(tokio::spawn(async move {
            let count = overcrowded(pid, max).await;
            group.kill_for(Violation::TooManyProcesses);
            tracing::warn!(%server, count, max, "a confined child had too many processes and is killed");
            let (target, detail) = ("processes".to_owned(), format!("{count} processes, {max} are allowed"));
            report.send(Incident { server, kind: IncidentKind::Processes, target, detail, count: 1 });
        }));
        self
    }

    /// It does not run before somebody watches it; where nobody can, it gives up by itself.
    #[cfg(target_os = "linux")]
    fn watch(&mut self, pid: u32) {
        if let Some(watch) = &mut self.prepared.watch
            && let Err(error) = watch.start(pid, &self.server, &self.report)
        {
            tracing::error!(server = %self.server, %error, "a confined child cannot be watched");
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn watch(&mut self, _pid: u32) {}

    /// Reports an end that the sandbox brought about.
    pub(super) fn ended(&self, status: ExitStatus) {
        if status.code() == Some(i32::from(NOT_CONFINED)) {
            tracing::error!(server = %self.server, "the child was not started: it could not be confined");
        }
        let kind = match status.signal() {
            Some(signal) if signal == Signal::SYS.as_raw() => IncidentKind::Syscall,
            Some(signal) if signal == Signal::XCPU.as_raw() => IncidentKind::Cpu,
            Some(signal) if signal == Signal::XFSZ.as_raw() => IncidentKind::FileSize,
            Some(_) | None => return,
        };
        let detail = format!("ended by the kernel: {status}");
        let (server, target) = (Arc::clone(&self.server), "main process".to_owned());
        self.report.send(Incident { server, kind, target, detail, count: 1 });
    }
}

impl Drop for Confined {
    fn drop(&mut self) {
        if let Some(counting) = &self.counting {
            counting.abort();
        }
    }
}
