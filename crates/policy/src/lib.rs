//! Who may do what: roles and Cedar policies compiled, decided and explained.
//!
//! Deny by default: nothing is allowed that no policy permits, `forbid` wins over `permit`, and a policy that fails
//! to evaluate refuses (Cedar alone would skip it).
#![no_std]

extern crate alloc;

mod audience;
mod bundle;
mod cache;
mod compiled;
mod decide;
mod entities;
mod explain;
mod permit;
mod reads;
mod render;
mod request;
mod scopes;
mod slice;
mod source;

pub use audience::Audience;
pub use bundle::{Policies, PolicyError};
pub use explain::{Explanation, PolicyView, WhyNot};
pub use permit::{Decision, Denial, Permit};
pub use request::{Arguments, RequestContext};
pub use scopes::{ScopeRules, StepUp};
pub use source::{Effect, Pattern, PatternError, PolicySource, Role, Rule, builtin_roles};
