//! Landlock: which files, which ports, and whom a signal reaches. Best effort by itself; what is required was asked
//! for before, and is checked again here.

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

use super::{Policy, Sockets};

/// Truncation is governed since here: without it a file could be emptied that may not be written.
const FILES: ABI = ABI::V3;
const TCP: ABI = ABI::V4;
/// The newest rights that this was tested with.
const NEWEST: ABI = ABI::V6;

fn strict() -> Ruleset {
    Ruleset::default().set_compatibility(CompatLevel::HardRequirement)
}

pub(super) fn has_files() -> bool {
    strict().handle_access(AccessFs::from_all(FILES)).and_then(Ruleset::create).is_ok()
}

pub(super) fn has_tcp() -> bool {
    strict().handle_access(AccessNet::from_all(TCP)).and_then(Ruleset::create).is_ok()
}

pub(super) fn has_scope() -> bool {
    strict().scope(Scope::from_all(NEWEST)).and_then(Ruleset::create).is_ok()
}

/// Restricts the calling thread.
pub(super) fn restrict(policy: &Policy) -> Result<(), String> {
    let status = rules(policy).and_then(RulesetCreated::restrict_self).map_err(|error| error.to_string())?;
    match status.ruleset {
        RulesetStatus::NotEnforced if policy.required => Err("not enforced".to_owned()),
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced | RulesetStatus::NotEnforced => {
            Ok(())
        }
    }
}

fn rules(policy: &Policy) -> Result<RulesetCreated, RulesetError> {
    let mut ruleset =
        Ruleset::default().handle_access(AccessFs::from_all(NEWEST))?.scope(Scope::from_all(NEWEST))?;
    if policy.network != Sockets::Any {
        ruleset = ruleset.handle_access(AccessNet::from_all(TCP))?;
    }
    let devices: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::WriteFile;
    // Device nodes lend what no path rule governs.
    let write = AccessFs::from_all(NEWEST) & !(AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev);
    let mut created = ruleset
        .create()?
        .add_rules(path_beneath_rules(&policy.read, AccessFs::from_read(NEWEST)))?
        .add_rules(path_beneath_rules(super::files::DEVICES, devices))?
        .add_rules(path_beneath_rules(&policy.write, write))?;
    if let Sockets::Proxy(port) = policy.network {
        created = created.add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
    }
    Ok(created)
}
