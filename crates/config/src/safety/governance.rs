//! Rules that cannot take effect, and questions or secrets shown to the wrong side.

use portcullis_policy::Label;

use crate::{
    decode::place,
    governance::{Flow, QuotaShare},
    mistake::ConfigMistake,
    sections::{AnswerTreatment, Detector, Settings, Treatment},
    values::{DetectorName, NAME_HINT, is_local, is_name},
    yaml::Node,
};

/// Settings of security that cannot take effect.
pub(super) fn mistakes(settings: &Settings, root: &Node) -> Vec<ConfigMistake> {
    let mut out = Vec::new();
    let mut refuse = |key: &str, message: &str, hint: &str| {
        out.push(ConfigMistake::new(place(root, key), key, message, hint));
    };
    let labelled = |label: Label| {
        settings.servers.values().any(|server| server.facts.labels.values().any(|all| all.contains(&label)))
    };
    // What is private and what strangers wrote, detectors find as well.
    if root.get("flow").is_some() && settings.flow != Flow::Off && !labelled(Label::WritesExternal) {
        let message = "cannot take effect: the rule needs things labelled `writes_external`";
        refuse("flow", message, "label tools under `servers.NAME.labels`, or remove `flow`");
    }
    if (settings.flow == Flow::Approve) != settings.flow_approval.is_some() {
        let message = "`flow: approve` and `flow_approval` go together";
        refuse("flow_approval", message, "say whom to ask, or set `flow: refuse`");
    }
    hooks(settings, &mut refuse);
    reviews(settings, &mut refuse);
    for (id, agent) in &settings.agents {
        if agent.owner.trim().is_empty() {
            refuse(&format!("agents.{id}.owner"), "names nobody", "say who answers for the program");
        }
        if !id.contains(':') {
            refuse(
                &format!("agents.{id}"),
                "is the id of no caller",
                "write key:ID, jwt:ISSUER#SUBJECT, client:ISSUER#CLIENT or cert:NAME",
            );
        }
    }
    for (name, quota) in &settings.quotas {
        let key = format!("quotas.{name}");
        if quota.calls.is_none() && quota.bytes.is_none() && quota.cost.is_none() {
            refuse(&key, "bounds nothing", "set `calls`, `bytes` or `cost`");
        }
        if quota.per == QuotaShare::Role && quota.roles.is_empty() {
            refuse(&key, "cannot take effect: `per: role` counts for each of `roles`", "name the roles");
        }
    }
    let inspect = settings.compiled_inspect();
    for (name, role) in &settings.roles {
        for (index, rule) in role.allow.iter().enumerate() {
            let tokens = |detector: &&DetectorName| {
                inspect.forms.get(&detector.0) == Some(&portcullis_inspect::Form::Token)
            };
            for detector in rule.restore.iter().filter(|detector| !tokens(detector)) {
                let message = format!("cannot take effect: `{}` makes no tokens", detector.0);
                let hint = format!("set `inspect.{}.form: token`, or remove it here", detector.0);
                refuse(&format!("roles.{name}.allow[{index}]"), &message, &hint);
            }
            for detector in
                [&rule.warn, &rule.ask, &rule.mask, &rule.drop, &rule.refuse].into_iter().flatten()
            {
                let off = inspect.detectors.get(&detector.0).is_some_and(|settings| !settings.enabled);
                if off {
                    let message =
                        format!("cannot take effect: the detector `{}` is switched off", detector.0);
                    let hint = "enable it under `inspect`, or remove it here";
                    refuse(&format!("roles.{name}.allow[{index}]"), &message, hint);
                }
            }
        }
    }
    out
}

/// Questions about finds that nobody could answer, or that are never asked.
fn reviews(settings: &Settings, refuse: &mut impl FnMut(&str, &str, &str)) {
    let rules = || settings.roles.values().flat_map(|role| &role.allow);
    let answers = |section: &Detector| section.answers == Some(AnswerTreatment::Ask);
    let asks = |section: &Detector| answers(section) || section.arguments == Some(Treatment::Ask);
    // What policies in files ask about is known only once they are compiled.
    let elsewhere = !settings.policies.is_empty();
    let own = settings.inspect.iter().map(|(name, section)| {
        let of_answers = answers(section) || rules().any(|rule| rule.ask.contains(name));
        let asked = elsewhere || of_answers || asks(section);
        (format!("inspect.{}.approval", name.0), section.approval.as_ref(), (asked, of_answers))
    });
    let own_for = |section: &&Detector| section.approval.is_none();
    let of_answers = settings.inspect.values().filter(own_for).any(answers);
    let asked = elsewhere || settings.inspect.values().any(asks) || rules().any(|rule| !rule.ask.is_empty());
    let all = (String::from("inspect_approval"), settings.inspect_approval.as_ref(), (asked, of_answers));
    for (key, approval, (asked, of_answers)) in own.chain([all]) {
        let Some(approval) = approval else { continue };
        if of_answers && approval.by_caller && approval.roles.is_empty() {
            refuse(&key, "nobody could let an answer through: who reads it cannot", "name `roles`");
        }
        if !asked {
            refuse(
                &key,
                "cannot take effect: nothing is treated with `ask`",
                "set `arguments: ask` or `answers: ask`, or remove it",
            );
        }
        if approval.by_caller && approval.people.0 > 1 {
            refuse(
                &key,
                "`by_caller` where several people are asked for",
                "ask for one person, or remove it",
            );
        }
    }
}

/// Chat systems that would show questions or secrets to the wrong side.
fn hooks(settings: &Settings, refuse: &mut impl FnMut(&str, &str, &str)) {
    for (name, hook) in &settings.approval_hooks {
        let key = format!("approval_hooks.{name}");
        if !is_name(name) {
            refuse(&key, "is no name", NAME_HINT);
        }
        if hook.url.scheme() != "https" && !(hook.url.scheme() == "http" && is_local(&hook.url)) {
            let message = "questions would be sent over plain HTTP";
            refuse(&format!("{key}.url"), message, "use `https://`");
        }
        if hook.secret.as_literal().is_some() {
            let message = "this is the place of a secret, and a configuration file is not";
            refuse(&format!("{key}.secret"), message, "write `env:NAME` or `file:PATH`");
        }
        if hook.people.is_empty() || hook.people.values().any(|id| id.contains(':')) {
            let message = "each user of the chat needs the id of an API key";
            refuse(&format!("{key}.people"), message, "write it as `portcullis key list` shows it");
        }
    }
}
