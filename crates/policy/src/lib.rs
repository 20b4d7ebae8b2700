//! Who may do what: roles and Cedar policies compiled, decided and explained.
//!
//! Deny by default: nothing is allowed that no policy permits, `forbid` wins over `permit`, and a policy that fails
//! to evaluate refuses (Cedar alone would skip it).
#![no_std]

extern crate alloc;

mod approval;
mod audience;
mod bundle;
mod cache;
mod case;
mod compare;
mod compiled;
mod decide;
mod delegation;
mod entities;
mod explain;
mod hierarchy;
mod labels;
mod lint;
mod pattern;
mod permit;
mod reads;
mod render;
mod replay;
mod request;
mod residency;
mod resident;
mod scopes;
mod slice;
mod source;
mod verdict;

pub use audience::Audience;
pub use bundle::{Policies, PolicyError};
pub use case::{Case, Outcome, kind_named, labels_named};
pub use compare::{Change, Comparison, compare};
pub use explain::{Explanation, PolicyView, WhyNot};
pub use labels::ServerFacts;
pub use lint::{Lint, lint};
pub use pattern::{Pattern, PatternError};
pub use permit::{Decision, Denial, Permit};
pub use portcullis_core::{Label, Labels};
pub use replay::{By, Recorded, Shift, Simulation, learn, simulate, to_yaml};
pub use request::{Arguments, RequestContext};
pub use residency::{Allowed, Places, Residency};
pub use scopes::{ScopeRules, StepUp};
pub use source::{Agent, Effect, PolicySource, Role, Rule, builtin_roles};
pub use verdict::Verdict;
