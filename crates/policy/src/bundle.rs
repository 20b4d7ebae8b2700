//! Compiles what an operator wrote into one validated, immutable set of policies.

use alloc::{
    borrow::ToOwned,
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;

use cedar_policy::{Policy, PolicyId, PolicySet, PrincipalConstraint, ResourceConstraint, Schema};
use cedar_policy::{ValidationMode, ValidationWarning, Validator};
use miette::Diagnostic;
use portcullis_core::{Approval, Digest, Label, Labels, Limits, Target, Treatment};

use crate::{
    Agent, Effect, PolicySource, Residency, Role, approval,
    cache::DecisionCache,
    compiled::{Compiled, buffers},
    entities::Words,
    hierarchy::Hierarchy,
    labels::Facts,
    reads::{Reads, Source, Unknown, can_fail, weakened},
    render,
    slice::{SEEN, Slices},
};

/// One mistake in the policies.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct PolicyError {
    /// The Cedar file, or ``role `NAME` `` for a rule of a role.
    pub file: String,
    /// The line in the file, from 1.
    pub line: Option<u32>,
    /// The policy, by id.
    pub policy: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(policy) = &self.policy {
            write!(f, ": policy `{policy}`")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// The policies in force: immutable, validated, with their decision cache.
#[derive(Debug)]
pub struct Policies {
    pub(crate) policies: Vec<Compiled>,
    pub(crate) words: Words,
    pub(crate) slices: Slices,
    pub(crate) hierarchy: Hierarchy,
    pub(crate) facts: Facts,
    pub(crate) residency: Residency,
    pub(crate) agents: BTreeMap<String, Agent>,
    paced: bool,
    pub(crate) seeing: bool,
    pub(crate) cache: DecisionCache,
    digest: Digest,
}

impl Policies {
    /// Compiles and validates; reports all mistakes at once.
    ///
    /// # Errors
    /// Every mistake found.
    pub fn compile(source: &PolicySource, limits: &Limits) -> Result<Self, Vec<PolicyError>> {
        let words = Words::new().map_err(|error| alloc::vec![of_schema(&error.to_string())])?;
        let mut bench = Bench { words: &words, roles: &source.roles, found: Vec::new(), errors: Vec::new() };
        let (hierarchy, rings) = Hierarchy::of(&source.roles);
        for (role, message, hint) in rings {
            bench.fail(&format!("role `{role}`"), None, None, message, hint);
        }
        bench.rules();
        bench.flow(source);
        for (file, text) in &source.cedar {
            bench.file(file, text);
        }
        bench.ids();
        bench.known_roles();
        bench.validate(source);
        let Bench { found, errors, .. } = bench;
        if !errors.is_empty() {
            return Err(errors);
        }
        let facts = Facts::new(source.servers.clone());
        let agents = source.agents.clone();
        let residency = source.residency.clone();
        let around = [hierarchy.to_text(), facts.to_text(), format!("{agents:?}"), residency.to_text()];
        let parts: Vec<&[u8]> = core::iter::once(Self::schema())
            .chain(around.iter().map(String::as_str))
            .chain(found.iter().flat_map(|one| [one.id.as_str(), one.text.as_str()]))
            // Zero bytes cannot stand in either, so the parts cannot run together.
            .flat_map(|part| [part.as_bytes(), b"\0".as_slice()])
            .collect();
        let digest = Digest::of_parts(&parts);
        let slices = Slices::new(&found);
        let cache = DecisionCache::new(limits.decision_cache_max);
        let paced = found.iter().any(|one| one.text.contains("calls_last_minute"));
        let seeing = found.iter().any(|one| one.reads.context.has(SEEN));
        Ok(Self {
            paced,
            seeing,
            policies: found,
            words,
            slices,
            hierarchy,
            facts,
            agents,
            residency,
            cache,
            digest,
        })
    }

    /// SHA-256 of the schema and every policy, for ledger entries and approvals.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The Cedar schema that policies are validated against.
    #[must_use]
    pub const fn schema() -> &'static str {
        include_str!("portcullis.cedarschema")
    }

    /// The version of the schema: it grows with every change that a policy can notice.
    pub const SCHEMA_VERSION: u32 = 3;

    /// The labels that the operator gave what is aimed at.
    #[must_use]
    pub fn labels(&self, target: &Target) -> Labels {
        self.facts.labels(target)
    }

    /// `roles` and all that they inherit.
    #[must_use]
    pub fn all_roles(&self, roles: &[String]) -> BTreeSet<String> {
        self.hierarchy.all(roles).cloned().collect()
    }

    /// What one use of it costs, in units that the operator chose.
    #[must_use]
    pub fn cost(&self, target: &Target) -> u64 {
        self.facts.cost(target)
    }

    /// Whether a policy reads how many calls the caller has made.
    #[must_use]
    pub fn is_paced(&self) -> bool {
        self.paced
    }

    /// Whether a policy is the flow rule of a server.
    pub(crate) fn is_flow(&self, id: &str) -> bool {
        self.policies.iter().any(|one| one.id == id && one.file == FLOW)
    }

    /// Every policy as Cedar text, the roles compiled, for people to read.
    #[must_use]
    pub fn to_cedar(&self) -> String {
        let mut out = String::new();
        let mut file = "";
        for one in &self.policies {
            if one.file != file {
                file = &one.file;
                out.push_str(&format!("// {}\n\n", file.escape_debug()));
            }
            out.push_str(&one.text);
            out.push_str("\n\n");
        }
        out
    }

    /// The detectors that policies name in `@warn`, `@ask`, `@mask`, `@drop`, `@refuse` and `@restore`, sorted, so that wiring can refuse unknown ones.
    #[must_use]
    pub fn detectors(&self) -> Vec<String> {
        let names: BTreeSet<&String> =
            self.policies.iter().flat_map(|one| one.obligations.keys().chain(&one.restore)).collect();
        names.into_iter().cloned().collect()
    }
}

/// Where the flow rule stands, in place of a file.
const FLOW: &str = "flow rule";

/// Where policies are put together and mistakes collected.
struct Bench<'a> {
    words: &'a Words,
    roles: &'a [Role],
    found: Vec<Compiled>,
    errors: Vec<PolicyError>,
}

impl Bench<'_> {
    fn rules(&mut self) {
        let mut names = BTreeSet::new();
        for role in self.roles {
            let file = format!("role `{}`", role.name);
            if role.name.is_empty() || !names.insert(&role.name) {
                let message = "the name of a role must be unique and not empty".to_owned();
                self.fail(&file, None, None, message, "rename or merge the role");
            }
            for (index, rule) in role.rules.iter().enumerate() {
                let id = render::rule_id(&role.name, index);
                let text = render::rule(role, index, rule);
                match Policy::parse(Some(PolicyId::new(&id)), &text) {
                    Ok(policy) => self.add(policy, &file, None, Some(&role.name)),
                    Err(error) => {
                        self.fail(&file, None, Some(id), error.to_string(), "please report it with the rule");
                    }
                }
            }
        }
    }

    /// Only where something carries data out: where nothing does, decisions depend on nothing seen before.
    fn flow(&mut self, source: &PolicySource) {
        let servers = source.servers.iter().filter(|(_, facts)| facts.any(Label::WritesExternal));
        for (server, _) in servers.filter(|_| !source.flow_off) {
            let id = render::flow_id(server);
            match Policy::parse(Some(PolicyId::new(&id)), render::flow(server, source.flow_approval.as_ref()))
            {
                Ok(policy) => self.add(policy, FLOW, None, None),
                Err(error) => self.fail(FLOW, None, Some(id), error.to_string(), "please report it"),
            }
        }
    }

    fn file(&mut self, file: &str, text: &str) {
        let set: PolicySet = match text.parse() {
            Ok(set) => set,
            Err(errors) => {
                let errors: &cedar_policy::ParseErrors = &errors;
                for error in errors.iter() {
                    let hint = error.help().map_or_else(
                        || "the syntax is described at https://docs.cedarpolicy.com".to_owned(),
                        |help| help.to_string(),
                    );
                    self.fail(file, line(text, error), None, error.to_string(), &hint);
                }
                return;
            }
        };
        for template in set.templates() {
            let message =
                format!("templates (`?principal`, `?resource`) have no use here: `{}`", template.id());
            self.fail(file, None, None, message, "write the policy out, or give callers a role");
        }
        // Cedar numbers the policies of a text `policy0`, `policy1`, …; that is their order.
        let order = |policy: &Policy| {
            policy.id().to_string().trim_start_matches("policy").parse::<usize>().unwrap_or_default()
        };
        let mut policies: Vec<&Policy> = set.policies().collect();
        policies.sort_by_key(|policy| order(policy));
        let mut from = 0;
        for (index, policy) in policies.into_iter().enumerate() {
            let id = match policy.annotation("id") {
                Some(id) if !id.is_empty() => id.to_owned(),
                _ => format!("{file}#{}", index + 1),
            };
            let written = policy.to_cedar().unwrap_or_default();
            let at = text.get(from..).and_then(|rest| rest.find(&written)).map(|at| from + at);
            if let Some(at) = at {
                from = at + written.len();
            }
            self.add(policy.new_id(PolicyId::new(id)), file, at.and_then(|at| line_of(text, at)), None);
        }
    }

    fn add(&mut self, policy: Policy, file: &str, line: Option<u32>, origin: Option<&String>) {
        let id = policy.id().to_string();
        let (obligations, restore, buffer) = self.obligations(&policy, file, line);
        let Some(approval) = self.approval(&policy, file, line) else { return };
        let est = match policy.to_json() {
            Ok(est) => est,
            Err(error) => return self.fail(file, line, Some(id), error.to_string(), "please report it"),
        };
        let reads = match Reads::of(&est) {
            Ok(reads) => reads,
            Err(message) => {
                let hint = "`portcullis policy check --schema` prints the schema with examples";
                return self.fail(file, line, Some(id), message, hint);
            }
        };
        let weak = |sources: &[Source]| {
            let any = sources.iter().any(|source| reads.any_of(*source));
            if !any {
                return Ok(None);
            }
            let policy =
                Policy::from_json(Some(policy.id().clone()), weakened(&est, Unknown::Values(sources)));
            policy.map(Some).map_err(|error| error.to_string())
        };
        let weak =
            weak(&[Source::Arguments]).and_then(|one| Ok((one, weak(&[Source::Arguments, Source::Claims])?)));
        let (some_arguments, some_values) = match weak {
            Ok(both) => both,
            Err(error) => return self.fail(file, line, Some(id), error, "please report it"),
        };
        let known = weakened(&est, Unknown::Caller { context: true });
        let some_request = if can_fail(&est) { None } else { Policy::from_json(None, known).ok() };
        let effect = match policy.effect() {
            cedar_policy::Effect::Forbid => Effect::Forbid,
            cedar_policy::Effect::Permit => Effect::Permit,
        };
        let role = match policy.principal_constraint() {
            PrincipalConstraint::In(uid) | PrincipalConstraint::IsIn(_, uid)
                if *uid.type_name() == self.words.role =>
            {
                Some(uid.id().unescaped().to_owned())
            }
            _ => None,
        };
        let server = match policy.resource_constraint() {
            ResourceConstraint::Eq(uid) | ResourceConstraint::In(uid) | ResourceConstraint::IsIn(_, uid) => {
                self.words.server_of(&uid)
            }
            ResourceConstraint::Any | ResourceConstraint::Is(_) => None,
        };
        let names_callers = policy.entity_literals().iter().any(|uid| self.words.is_caller(uid));
        self.found.push(Compiled {
            id,
            text: policy.to_cedar().unwrap_or_default(),
            policy,
            effect,
            file: file.to_owned(),
            line,
            origin: origin.cloned(),
            role,
            server,
            names_callers,
            obligations,
            restore,
            buffer,
            approval,
            reads,
            some_arguments,
            some_values,
            some_request,
        });
    }

    /// What it asks for; nothing where that was a mistake.
    fn approval(&mut self, policy: &Policy, file: &str, line: Option<u32>) -> Option<Option<Approval>> {
        approval::read(policy, file == FLOW, self.roles, self.words)
            .map_err(|(message, hint)| self.fail(file, line, Some(policy.id().to_string()), message, hint))
            .ok()
    }

    /// What is done about finds, whose tokens in arguments are restored, and whether answers wait until they were judged.
    fn obligations(
        &mut self,
        policy: &Policy,
        file: &str,
        line: Option<u32>,
    ) -> (BTreeMap<String, Treatment>, BTreeSet<String>, bool) {
        let mut out = BTreeMap::new();
        // Mildest first: the stricter wins where two name a detector. That something passes needs no word.
        for treatment in Treatment::ALL.iter().filter(|treatment| **treatment != Treatment::Pass) {
            let names = self.detectors(policy, treatment.name(), file, line);
            out.extend(names.into_iter().map(|name| (name, *treatment)));
        }
        let restore = self.detectors(policy, "restore", file, line).into_iter().collect();
        let buffer = buffers(policy).map_err(|(message, hint)| {
            self.fail(file, line, Some(policy.id().to_string()), message.to_owned(), hint);
        });
        (out, restore, buffer.unwrap_or_default())
    }

    /// The detectors that an annotation names.
    fn detectors(&mut self, policy: &Policy, annotation: &str, file: &str, line: Option<u32>) -> Vec<String> {
        let Some(names) = policy.annotation(annotation) else { return Vec::new() };
        if policy.effect() == cedar_policy::Effect::Forbid {
            let message = format!("`@{annotation}` on a `forbid` has no meaning: there is no call");
            let hint = "put it on the `permit` that allows the call";
            self.fail(file, line, Some(policy.id().to_string()), message, hint);
        }
        let names: Vec<String> = names.split(',').map(|name| name.trim().to_owned()).collect();
        if names.iter().any(String::is_empty) {
            let message = format!("`@{annotation}` lacks the name of a detector");
            let hint = "name detectors separated by commas, as in `@mask(\"email,payment_card\")`";
            self.fail(file, line, Some(policy.id().to_string()), message, hint);
        }
        names.into_iter().filter(|name| !name.is_empty()).collect()
    }

    fn ids(&mut self) {
        let mut seen = BTreeSet::new();
        let mut twice = Vec::new();
        for one in &self.found {
            if !seen.insert(one.id.as_str()) {
                twice.push((one.file.clone(), one.line, one.id.clone()));
            }
        }
        for (file, line, id) in twice {
            self.fail(&file, line, Some(id), "the id is used twice".to_owned(), "give it another `@id`");
        }
    }

    /// A misspelt role in a `forbid` would fail open, silently.
    fn known_roles(&mut self) {
        let mut unknown = Vec::new();
        for one in &self.found {
            for uid in one.policy.entity_literals() {
                let name = uid.id().unescaped();
                if *uid.type_name() == self.words.role && !self.roles.iter().any(|role| role.name == name) {
                    unknown.push((one.file.clone(), one.line, one.id.clone(), name.to_owned()));
                }
            }
        }
        for (file, line, id, name) in unknown {
            let hint = "declare it under `roles`; it may have no rules there";
            self.fail(&file, line, Some(id), format!("there is no role `{name}`"), hint);
        }
    }

    /// Strictly, and warnings are mistakes too: a policy that can never apply protects nothing.
    fn validate(&mut self, source: &PolicySource) {
        let schema = match Schema::from_cedarschema_str(Policies::schema()) {
            Ok((schema, _)) => schema,
            Err(error) => return self.errors.push(of_schema(&error.to_string())),
        };
        let set = match PolicySet::from_policies(self.found.iter().map(|one| one.policy.clone())) {
            Ok(set) => set,
            // Ids used twice, reported before.
            Err(_) => return,
        };
        let result = Validator::new(schema).validate(&set, ValidationMode::Strict);
        let mut mistakes: Vec<PolicyError> = Vec::new();
        let errors = result.validation_errors().map(|one| (one.policy_id(), one as &dyn Diagnostic));
        let warnings = result.validation_warnings().filter(|one| misleads(one));
        let warnings = warnings.map(|one| (one.policy_id(), one as &dyn Diagnostic));
        for (id, mistake) in errors.chain(warnings) {
            let id = id.to_string();
            let policy = self.found.iter().find(|one| one.id == id);
            let text = policy.and_then(|one| source.cedar.iter().find(|(file, _)| *file == one.file));
            let here = text.filter(|_| policy.is_some_and(|one| one.origin.is_none()));
            mistakes.push(PolicyError {
                file: policy.map(|one| one.file.clone()).unwrap_or_default(),
                line: here.and_then(|(_, text)| line(text, mistake)).or(policy.and_then(|one| one.line)),
                policy: Some(id),
                message: mistake.to_string(),
                hint: mistake.help().map_or_else(
                    || "`portcullis policy check --schema` prints what policies may use".to_owned(),
                    |help| help.to_string(),
                ),
            });
        }
        mistakes.sort_by(|a, b| (&a.file, a.line, &a.message).cmp(&(&b.file, b.line, &b.message)));
        self.errors.extend(mistakes);
    }

    fn fail(&mut self, file: &str, line: Option<u32>, policy: Option<String>, message: String, hint: &str) {
        self.errors.push(PolicyError { file: file.to_owned(), line, policy, message, hint: hint.to_owned() });
    }
}

/// Names of tools and resources may mix scripts; a policy that never applies or reads differently than it runs may not.
fn misleads(warning: &ValidationWarning) -> bool {
    !matches!(
        warning,
        ValidationWarning::MixedScriptString(_)
            | ValidationWarning::MixedScriptIdentifier(_)
            | ValidationWarning::ConfusableIdentifier(_)
    )
}

fn of_schema(message: &str) -> PolicyError {
    PolicyError {
        file: "portcullis.cedarschema".to_owned(),
        line: None,
        policy: None,
        message: message.to_owned(),
        hint: "please report it".to_owned(),
    }
}

fn line<D: Diagnostic + ?Sized>(text: &str, mistake: &D) -> Option<u32> {
    let label = mistake.labels()?.next()?;
    line_of(text, label.offset())
}

fn line_of(text: &str, offset: usize) -> Option<u32> {
    let before = text.as_bytes().get(..offset)?;
    u32::try_from(before.iter().filter(|byte| **byte == b'\n').count() + 1).ok()
}
