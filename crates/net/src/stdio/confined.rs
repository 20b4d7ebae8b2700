//! A confined child: what it is started with, who counts its processes, and what its end says about it.

use std::{ffi::OsStr, os::unix::process::ExitStatusExt as _, process::ExitStatus, sync::Arc};

use rustix::process::Signal;

use super::{ChildOptions, Command, Violation, child::Group};
use crate::{
    incident::{Incident, IncidentKind, Report},
    sandbox::{Bounds, NOT_CONFINED, Prepared, SandboxError, Words, overcrowded, overfull},
};

/// A child that is confined, from before its start until after its end.
#[derive(Debug)]
pub(super) struct Confined {
    server: Arc<str>,
    report: Report,
    bounds: Bounds,
    pub(super) prepared: Prepared,
    counting: Vec<tokio::task::JoinHandle<()>>,
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
            bounds: sandbox.confinement.bounds,
            prepared: sandbox.prepare(&options.name, &words)?,
            counting: Vec::new(),
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

    /// From here on it is watched, and its processes and files are counted.
    pub(super) fn started(mut self, pid: u32, group: &Arc<Group>) -> Self {
        self.watch(pid);
        if let Some(max) = self.bounds.processes_max {
            let words = ("processes", "processes");
            let (kind, violation) = (IncidentKind::Processes, Violation::TooManyProcesses);
            self.bounded(group, overcrowded(pid, max), max, (kind, violation, words));
        }
        if let Some(max) = self.bounds.temp_bytes_max {
            let folder = self.prepared.temp.path().to_path_buf();
            let words = ("temporary folder", "bytes");
            let (kind, violation) = (IncidentKind::Disk, Violation::DiskFull);
            self.bounded(group, overfull(folder, max), max, (kind, violation, words));
        }
        self
    }

    /// Kills the group when `beyond` ends, which says how much there was.
    fn bounded(
        &mut self,
        group: &Arc<Group>,
        beyond: impl Future<Output = u64> + Send + 'static,
        max: u64,
        (kind, violation, (target, unit)): (IncidentKind, Violation, (&'static str, &'static str)),
    ) {
        let (group, server, report) = (Arc::clone(group), Arc::clone(&self.server), self.report.clone());
        self.counting.push(tokio::spawn(async move {
            let count = beyond.await;
            group.kill_for(violation);
            tracing::warn!(%server, count, max, "a confined child had too many {unit} and is killed");
            let (target, detail) = (target.to_owned(), format!("{count} {unit}, {max} are allowed"));
            report.send(Incident { server, kind, target, detail, count: 1 });
        }));
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
        for counting in &self.counting {
            counting.abort();
        }
    }
}
