//! From settings to what the other crates take.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use portcullis_core::{Review, TargetKind};
use portcullis_inspect::InspectSettings;
use portcullis_policy::{self as policy, Agent};
use portcullis_usage::{Amount, Quota, Share};

use super::{
    Config, ConfigMistake, Place, Rule, Server,
    governance::{AgentSection, ApprovalSection, Flow, QuotaSection, QuotaShare},
    privacy::{self, Preset},
    sections::{AnswerTreatment, Detector, Settings, Treatment},
    values::{DetectorName, Form, PatternText},
};

/// What detectors do by themselves: to ask them all takes milliseconds, and a file is judged more than once.
static DETECTORS: LazyLock<InspectSettings> = LazyLock::new(InspectSettings::default);

/// Files that one `policies` entry may name.
const POLICY_FILES_MAX: usize = 1_000;
/// Bytes of one policy file.
const POLICY_BYTES_MAX: u64 = 1_048_576;

impl Config {
    /// Roles and policy files, ready to be compiled. Reads the files.
    ///
    /// # Errors
    /// Every file or folder that cannot be read.
    pub fn policy_source(
        &self,
        servers: &BTreeMap<String, Server>,
    ) -> Result<policy::PolicySource, Vec<ConfigMistake>> {
        let declared = &self.settings.roles;
        let mut roles: Vec<policy::Role> =
            policy::builtin_roles().into_iter().filter(|role| !declared.contains_key(&role.name)).collect();
        for (name, role) in declared {
            let permits = role.allow.iter().flat_map(|rule| rules(policy::Effect::Permit, rule));
            let forbids = role.deny.iter().flat_map(|rule| rules(policy::Effect::Forbid, rule));
            let rules = permits.chain(forbids).collect();
            let inherits = role.inherits.iter().map(|role| role.0.clone()).collect();
            roles.push(policy::Role { name: name.clone(), doc: role.description.clone(), inherits, rules });
        }
        let mut cedar = Vec::new();
        let mut mistakes = Vec::new();
        for (index, path) in self.settings.policies.iter().enumerate() {
            let read = policy_files(path).and_then(|files| {
                files
                    .iter()
                    .map(|file| Ok((file.display().to_string(), policy_text(file)?)))
                    .collect::<Result<Vec<_>, String>>()
            });
            match read {
                Ok(texts) => cedar.extend(texts),
                Err(reason) => {
                    let key = format!("policies[{index}]");
                    mistakes.push(ConfigMistake::new(
                        Place::START,
                        key,
                        reason,
                        "name a `.cedar` file, or a folder of them",
                    ));
                }
            }
        }
        let servers = servers.iter().map(|(name, server)| (name.clone(), server.facts.compiled())).collect();
        let flow_off = self.settings.flow == Flow::Off;
        let flow_approval = self.settings.flow_approval.as_ref().map(ApprovalSection::compiled);
        let agents = self.settings.compiled_agents();
        let residency = self.settings.compiled_residency();
        let source =
            policy::PolicySource { roles, cedar, servers, agents, residency, flow_off, flow_approval };
        if mistakes.is_empty() { Ok(source) } else { Err(mistakes) }
    }
}

impl Config {
    /// Key sets that `run` would read and cannot.
    pub fn unreadable_files(&self) -> Vec<ConfigMistake> {
        let mut mistakes = Vec::new();
        for (index, jwt) in self.settings.identities.jwt.iter().enumerate() {
            for (key, path, hint) in [
                ("jwks_file", &jwt.jwks_file, "name a JSON Web Key Set"),
                ("ca", &jwt.ca, "name a PEM file with certificates"),
            ] {
                if let Some(path) = path
                    && let Err(error) = std::fs::File::open(path)
                {
                    let reason = format!("`{}` cannot be read: {error}", path.display());
                    let key = format!("identities.jwt[{index}].{key}");
                    mistakes.push(ConfigMistake::new(Place::START, key, reason, hint));
                }
            }
        }
        mistakes
    }
}

/// The files that one entry stands for, sorted so that the digest of the rules does not depend on the disk.
fn policy_files(path: &Path) -> Result<Vec<PathBuf>, String> {
    let cannot = |error: std::io::Error| format!("`{}` cannot be read: {error}", path.display());
    if !std::fs::metadata(path).map_err(cannot)?.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(cannot)? {
        let file = entry.map_err(cannot)?.path();
        if file.extension().is_some_and(|extension| extension == "cedar") {
            files.push(file);
        }
        if files.len() > POLICY_FILES_MAX {
            return Err(format!("`{}` has more than {POLICY_FILES_MAX} policy files", path.display()));
        }
    }
    files.sort();
    if files.is_empty() { Err(format!("`{}` has no `.cedar` file", path.display())) } else { Ok(files) }
}

fn policy_text(path: &Path) -> Result<String, String> {
    use std::io::Read as _;
    let cannot = |error: std::io::Error| format!("`{}` cannot be read: {error}", path.display());
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(cannot)?;
    file.take(POLICY_BYTES_MAX + 1).read_to_string(&mut text).map_err(cannot)?;
    if text.len() as u64 > POLICY_BYTES_MAX {
        return Err(format!("`{}` has more than {POLICY_BYTES_MAX} bytes", path.display()));
    }
    Ok(text)
}

/// One rule as written is one rule per kind of thing that it names.
fn rules(effect: policy::Effect, rule: &Rule) -> Vec<policy::Rule> {
    let Rule {
        actions,
        servers,
        tools,
        prompts,
        resources,
        labels,
        seen,
        environments,
        warn,
        ask,
        mask,
        drop,
        refuse,
        restore,
        buffer,
        approval,
    } = rule;
    let one = |kinds: &[TargetKind], items: &[PatternText]| policy::Rule {
        effect,
        actions: actions.clone(),
        servers: patterns(servers),
        items: patterns(items),
        kinds: kinds.to_vec(),
        labels: labels.iter().copied().collect(),
        seen: seen.iter().copied().collect(),
        environments: environments.clone(),
        warn: names(warn),
        ask: names(ask),
        mask: names(mask),
        drop: names(drop),
        refuse: names(refuse),
        restore: names(restore),
        buffer: *buffer,
        approval: approval.as_ref().map(ApprovalSection::compiled),
    };
    let groups: [(&[TargetKind], &[PatternText]); 3] = [
        (&[TargetKind::Tool], tools),
        (&[TargetKind::Prompt], prompts),
        (&[TargetKind::Resource, TargetKind::Template], resources),
    ];
    let named: Vec<policy::Rule> = groups
        .iter()
        .filter(|(_, items)| !items.is_empty())
        .map(|(kinds, items)| one(kinds, items))
        .collect();
    if named.is_empty() { vec![one(&[], &[])] } else { named }
}

/// Patterns were checked when they were read, so none is lost here.
fn patterns(texts: &[PatternText]) -> Vec<policy::Pattern> {
    texts.iter().filter_map(|text| text.0.parse().ok()).collect()
}

fn names(detectors: &[DetectorName]) -> Vec<String> {
    detectors.iter().map(|name| name.0.clone()).collect()
}

impl Settings {
    /// The programs that may act for others, as policy takes them.
    pub(super) fn compiled_agents(&self) -> BTreeMap<String, Agent> {
        let one = |(id, section): (&String, &AgentSection)| {
            let roles = section.roles.iter().map(|role| role.0.clone()).collect();
            (id.clone(), Agent { owner: section.owner.clone(), roles })
        };
        self.agents.iter().map(one).collect()
    }

    /// The quotas, as the data plane takes them.
    pub fn compiled_quotas(&self) -> Vec<Quota> {
        let patterns = |texts: &[PatternText]| texts.iter().filter_map(|text| text.0.parse().ok()).collect();
        let one = |(name, section): (&String, &QuotaSection)| Quota {
            name: name.clone(),
            callers: patterns(&section.callers),
            roles: section.roles.iter().map(|role| role.0.clone()).collect(),
            servers: patterns(&section.servers),
            items: patterns(&section.tools),
            share: match section.per {
                QuotaShare::All => Share::All,
                QuotaShare::Caller => Share::Caller,
                QuotaShare::CallerAndTool => Share::CallerAndTool,
                QuotaShare::Role => Share::Role,
                QuotaShare::Tool => Share::Tool,
            },
            window_s: section.window_s.0,
            most: Amount {
                calls: section.calls.map_or(u64::MAX, |most| most.0),
                bytes: section.bytes.map_or(u64::MAX, |most| most.0),
                cost: section.cost.map_or(u64::MAX, |most| most.0),
            },
        };
        self.quotas.iter().map(one).collect()
    }

    /// Where data may go, as policy takes it.
    pub(super) fn compiled_residency(&self) -> policy::Residency {
        let privacy::Privacy {
            preset: _,
            caller_regions,
            region_claim,
            residency,
            token_lifetime_s: _,
            token_scope: _,
        } = &self.privacy;
        let allowed = |section: &privacy::ResidencySection| policy::Allowed {
            regions: section.regions.iter().cloned().collect(),
            answers: match section.answers {
                privacy::Abroad::Mask => portcullis_core::Treatment::Mask,
                privacy::Abroad::Refuse => portcullis_core::Treatment::Refuse,
            },
        };
        policy::Residency {
            data: residency.iter().map(|(label, section)| (label, allowed(section))).collect(),
            roles: caller_regions.iter().map(|(role, region)| (role.clone(), region.clone())).collect(),
            claim: region_claim.clone(),
        }
    }

    /// Whom to ask about what detectors find.
    pub fn compiled_review(&self) -> Review {
        let own = |(name, section): (&DetectorName, &Detector)| {
            Some((name.0.clone(), section.approval.as_ref()?.of_finds()))
        };
        let others = self.inspect_approval.as_ref();
        let others = others.map_or_else(ApprovalSection::reviewers, ApprovalSection::of_finds);
        Review { others, detectors: self.inspect.iter().filter_map(own).collect() }
    }

    /// What each detector does: its own defaults or those of the preset, and what the file says instead.
    pub fn compiled_inspect(&self) -> InspectSettings {
        let preset = self.privacy.preset.map(preset_of);
        let mut all = preset.map_or_else(|| DETECTORS.clone(), portcullis_inspect::Preset::settings);
        all.add(self.recognisers.iter().filter_map(|(name, section)| section.compiled(name)).collect());
        for (name, section) in &self.inspect {
            if let Some(detector) = all.detectors.get_mut(&name.0) {
                detector.enabled = section.enabled;
                detector.arguments = section.arguments.map_or(detector.arguments, treatment_of);
                detector.answers = section.answers.map_or(detector.answers, answer_treatment_of);
            }
            if let Some(labels) = &section.labels {
                all.labels.insert(name.0.clone(), labels.iter().copied().collect());
            }
            if !section.allow.is_empty() {
                all.allowed.insert(name.0.clone(), section.allow.clone());
            }
            if let Some(form) = section.form {
                all.forms.insert(name.0.clone(), form_of(form));
            }
        }
        all
    }
}

const fn treatment_of(treatment: Treatment) -> portcullis_core::Treatment {
    match treatment {
        Treatment::Ask => portcullis_core::Treatment::Ask,
        Treatment::Mask => portcullis_core::Treatment::Mask,
        Treatment::Pass => portcullis_core::Treatment::Pass,
        Treatment::Refuse => portcullis_core::Treatment::Refuse,
    }
}

const fn answer_treatment_of(treatment: AnswerTreatment) -> portcullis_core::Treatment {
    match treatment {
        AnswerTreatment::Pass => portcullis_core::Treatment::Pass,
        AnswerTreatment::Ask => portcullis_core::Treatment::Ask,
        AnswerTreatment::Warn => portcullis_core::Treatment::Warn,
        AnswerTreatment::Mask => portcullis_core::Treatment::Mask,
        AnswerTreatment::Drop => portcullis_core::Treatment::Drop,
        AnswerTreatment::Refuse => portcullis_core::Treatment::Refuse,
    }
}

const fn preset_of(preset: Preset) -> portcullis_inspect::Preset {
    match preset {
        Preset::Gdpr => portcullis_inspect::Preset::Gdpr,
        Preset::HipaaSafeHarbor => portcullis_inspect::Preset::HipaaSafeHarbor,
        Preset::NoneButSecrets => portcullis_inspect::Preset::NoneButSecrets,
        Preset::Pci => portcullis_inspect::Preset::Pci,
    }
}

const fn form_of(form: Form) -> portcullis_inspect::Form {
    match form {
        Form::Generalise => portcullis_inspect::Form::Generalise,
        Form::Placeholder => portcullis_inspect::Form::Placeholder,
        Form::Pseudonym => portcullis_inspect::Form::Pseudonym,
        Form::Stars => portcullis_inspect::Form::Stars,
        Form::Token => portcullis_inspect::Form::Token,
    }
}
