//! What works on files alone: cases, and the difference between two configurations.

use std::path::{Path, PathBuf};

use portcullis_config::{self as config, Config, Overrides};
use portcullis_policy::{Case, Comparison, Outcome, Policies, PolicySource, compare};
use serde_json::{Value, json};

use crate::cli::{
    Common, Failure, check,
    output::{Output, printable},
};

/// Cases in one file.
const CASES_MAX: usize = 10_000;

pub(super) const TEST_HELP: &str = "\
Examples:
  portcullis policy test tests/policy.yaml
  portcullis policy test --config candidate.yaml tests/*.yaml --json

A file of cases:
  cases:
    - name: a clerk pays up to 100
      roles: [clerk]
      server: billing
      tool: pay
      arguments: {amount: 100}
      expect: allow            # or deny, or a code like policy.flow
      policies: [small-payments]   # where it matters which ones decide
Also: caller, caller_kind, proof, scopes, claims, actors, action, prompt, resource, at, source_ip, seen, calls_last_minute,
revision.";

/// The roles and policies of a configuration, compiled as `run` does.
pub(super) fn compiled(config: &Config) -> Result<(PolicySource, Policies), Failure> {
    let file = config.path.as_ref().map_or_else(String::new, |path| path.display().to_string());
    let source = crate::wire::source(config, &config.settings.servers);
    let source = source.map_err(|mistakes| Failure::mistakes(&file, &mistakes))?;
    let policies = Policies::compile(&source, &config.settings.limits).map_err(|errors| {
        Failure::refused(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })?;
    Ok((source, policies))
}

/// The roles and policies of a candidate. Where its file says nothing about servers, what is said in `base` counts, as it
/// does under `shadow`.
pub(super) fn load(path: &Path, base: Option<&Path>) -> Result<(PolicySource, Policies), Failure> {
    let mut config = check::load(Some(path), &Overrides::default())?;
    if config.settings.servers.is_empty() && Some(path) != base {
        config.settings.servers = check::load(base, &Overrides::default())?.settings.servers;
    }
    compiled(&config)
}

fn cases(path: &Path) -> Result<Vec<Case>, Failure> {
    let name = path.display();
    let bytes = config::read_bounded(path).map_err(|error| Failure::refused(format!("`{name}`: {error}")))?;
    let text =
        String::from_utf8(bytes).map_err(|_| Failure::refused(format!("`{name}` is not UTF-8 text")))?;
    let value = config::to_json(&text).map_err(|mistakes| Failure::mistakes(&name.to_string(), &mistakes))?;
    let wrong = |message: String| Failure::refused(format!("`{name}`: {message}"));
    let Some(Value::Array(items)) = value.get("cases") else {
        return Err(wrong("has no list `cases`\nhint: `portcullis policy test --help` shows one".to_owned()));
    };
    if items.is_empty() || items.len() > CASES_MAX {
        return Err(wrong(format!("a file has 1 to {CASES_MAX} cases, not {}", items.len())));
    }
    let read = |(index, item): (usize, &Value)| {
        serde_json::from_value(item.clone()).map_err(|error| wrong(format!("case {}: {error}", index + 1)))
    };
    items.iter().enumerate().map(read).collect()
}

pub(super) fn test(common: &Common, files: &[PathBuf], output: &Output) -> Result<(), Failure> {
    let config = check::load(common.config.as_deref(), &Overrides::default())?;
    let (_, policies) = compiled(&config)?;
    let mut outcomes: Vec<Outcome> = Vec::new();
    for file in files {
        outcomes.extend(cases(file)?.iter().map(|case| case.run(&policies)));
    }
    let failed = outcomes.iter().filter(|outcome| !outcome.passed).count();
    let summary = json!({ "passed": outcomes.len() - failed, "failed": failed, "cases": outcomes });
    output.show(&summary, |_| {
        let line = |outcome: &Outcome| match &outcome.problem {
            None => format!("ok      {}\n", printable(&outcome.name)),
            Some(problem) => {
                format!("FAILED  {}\n        {}\n", printable(&outcome.name), printable(problem))
            }
        };
        let lines: String = outcomes.iter().map(line).collect();
        format!("{lines}{} passed, {failed} failed", outcomes.len() - failed)
    });
    if failed == 0 {
        return Ok(());
    }
    Err(Failure::refused(format!("{failed} of {} cases failed", outcomes.len())))
}

pub(super) fn diff(before: &Path, after: &Path, exit_code: bool, output: &Output) -> Result<(), Failure> {
    let (old, new) = (load(before, Some(before))?, load(after, Some(before))?);
    let found: Comparison = compare((&old.0, &old.1), (&new.0, &new.1)).map_err(Failure::refused)?;
    output.show(&found, |found| printable(&found.to_string()));
    if exit_code && !found.is_empty() {
        return Err(Failure::refused("the policies differ"));
    }
    Ok(())
}
