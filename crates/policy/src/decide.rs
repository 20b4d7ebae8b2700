//! Questions and answers: may this caller do this to that?

use alloc::{string::String, sync::Arc};
use core::net::IpAddr;

use portcullis_core::{Action, Caller, Code, Obligations, Target, Timestamp};

use crate::{Decision, Denial, Permit, Policies};

/// The arguments of a call, made only when a policy reads them.
pub type Arguments<'a> = &'a dyn Fn() -> serde_json::Value;

/// What is known about a request besides caller, action and target.
#[derive(Clone, Copy, Debug)]
pub struct RequestContext<'a> {
    /// Now.
    pub now: Timestamp,
    /// Where the request comes from, if that is known.
    pub source_ip: Option<IpAddr>,
    /// The protocol revision of the client, for example `2026-07-28`.
    pub era: &'a str,
}

impl Policies {
    /// May `caller` do `action` to `target`? The whole answer.
    #[must_use]
    pub fn decide(
        &self,
        caller: &Caller,
        action: Action,
        target: &Target,
        arguments: Option<Arguments<'_>>,
        context: &RequestContext<'_>,
    ) -> Arc<Decision> {
        let _ = (caller, action, target, arguments, context);
        Arc::new(Decision {
            code: Some(Code::PolicyDenied),
            policies: Arc::from([]),
            obligations: Arc::new(Obligations::default()),
            reason: String::new(),
        })
    }

    /// May `caller` do `action` to `target`? The proof, or why not.
    ///
    /// # Errors
    /// [`Denial`] when nothing permits, something forbids, or a policy fails to evaluate.
    pub fn permit(
        &self,
        caller: &Caller,
        action: Action,
        target: &Target,
        arguments: Option<Arguments<'_>>,
        context: &RequestContext<'_>,
    ) -> Result<Permit, Denial> {
        Permit::judge(self.decide(caller, action, target, arguments, context))
    }

    /// Whether `target` is shown to `caller` in lists: whether some arguments could be allowed. Where no policy reads
    /// arguments this is exactly [`Self::decide`].
    #[must_use]
    pub fn may_see(
        &self,
        caller: &Caller,
        action: Action,
        target: &Target,
        context: &RequestContext<'_>,
    ) -> bool {
        self.decide(caller, action, target, None, context).is_allowed()
    }
}
