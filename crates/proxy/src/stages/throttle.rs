//! Rates per source, before any parsing or cryptography, and per caller.

use std::net::{IpAddr, Ipv6Addr};

use portcullis_core::{Action, Caller, Code, Digest, Refusal};
use portcullis_usage::{Charged, Refused, Use};

use super::alive::Alive;
use crate::{
    gateway::Gateway,
    rules::Rules,
    throttle::{Hold, Taken},
    trail::Trail,
};

/// What a failed authentication costs its source, in messages: guessing must not be cheap.
const FAILED_AUTHENTICATION_COST: u64 = 10;

/// The key under which a source address is counted. One network of IPv6 is one source: each of its hosts has 2^64
/// addresses to choose from, by which it would never meet its rate nor its failed authentications again.
#[must_use]
pub fn key(source: IpAddr) -> String {
    match source.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            format!("{}/64", Ipv6Addr::from_bits(network))
        }
    }
}

/// Judges the rate of a source address.
///
/// # Errors
/// `limit.rate`.
pub fn source(gateway: &Gateway, source: &str, rules: &Rules) -> Result<(), Refusal> {
    let limits = &rules.limits;
    let (rate, burst) = (limits.source_rate_per_s, limits.source_burst_max);
    let now = gateway.clock.ticks_us();
    judge(gateway.sources.take(source, 1, rate, burst, limits.rate_entries_max, now), "source_rate_per_s")
}

/// Charges a source for a credential that was not valid.
pub fn charge_failure(gateway: &Gateway, source: &str) {
    gateway.sources.charge(source, FAILED_AUTHENTICATION_COST - 1);
}

/// Judges the rate of a caller and counts the call among its running ones.
///
/// # Errors
/// `limit.rate`, `limit.concurrency`.
pub fn caller(gateway: &Gateway, caller: &Caller, rules: &Rules) -> Result<Hold, Refusal> {
    let limits = &rules.limits;
    let (rate, burst) = (limits.caller_rate_per_s, limits.caller_burst_max);
    let now = gateway.clock.ticks_us();
    judge(
        gateway.callers.take(&caller.id, 1, rate, burst, limits.rate_entries_max, now),
        "caller_rate_per_s",
    )?;
    gateway
        .caller_calls
        .start(&caller.id, limits.caller_calls_max)
        .ok_or_else(|| Refusal::new(Code::LimitConcurrency, "limits.caller_calls_max"))
}

/// Counts a stream among those of its caller and its server.
///
/// # Errors
/// `limit.concurrency`.
pub fn stream(gateway: &Gateway, caller: &Caller, server: &str, rules: &Rules) -> Result<[Hold; 2], Refusal> {
    let limits = &rules.limits;
    let held = |what| Refusal::new(Code::LimitConcurrency, what);
    let of_caller = gateway.caller_streams.start(&caller.id, limits.caller_streams_max);
    let of_server = gateway.server_streams.start(server, limits.server_streams_max);
    Ok([
        of_caller.ok_or_else(|| held("limits.caller_streams_max"))?,
        of_server.ok_or_else(|| held("limits.server_streams_max"))?,
    ])
}

/// Counts a call that policy allows against the quotas.
///
/// # Errors
/// `quota.exceeded`; `quota.unavailable` where it cannot be counted durably.
pub async fn quota(
    gateway: &Gateway,
    caller: &Caller,
    trail: &Trail,
    rules: &Rules,
) -> Result<Charged, Refusal> {
    let (Some(target), Some(action)) = (&trail.target, trail.action) else { return Ok(Charged::default()) };
    let bytes = trail.input.map_or(0, |input| input.size);
    let cost = if rules.quotas.is_empty() { 0 } else { rules.policy.cost(target) };
    let roles = rules.policy.all_roles(&caller.roles);
    let used = Use { caller, roles: &roles, action, target, bytes, cost, now: gateway.clock.now() };
    let charged = gateway.usage.meter.charge(&rules.quotas, &used, &rules.limits).await;
    charged.map_err(|refused| match &refused {
        Refused::Exceeded(exceeded) => {
            Refusal::new(Code::QuotaExceeded, refused.to_string()).retry_after_s(exceeded.retry_after_s)
        }
        Refused::Full(_) | Refused::Store(_) => {
            Refusal::new(Code::QuotaUnavailable, refused.to_string()).retry_after_s(1)
        }
    })
}

/// Judges how often a caller makes calls that are alike but for numbers, case and spaces: somebody who goes round in circles
/// does not notice, and each round costs.
///
/// # Errors
/// `limit.rate`.
pub fn alike(gateway: &Gateway, alive: &Alive, rules: &Rules) -> Result<(), Refusal> {
    let limits = &rules.limits;
    let (rate, aimed) = (limits.alike_rate_per_min, &alive.permitted.valid.aimed);
    let message = aimed.call.message().filter(|_| rate > 0 && aimed.call.action() == Action::CallTool);
    let Some(message) = message else { return Ok(()) };
    let arguments = message.params().and_then(|params| params.get("arguments"));
    let shape = shape(arguments.map_or(&[][..], |arguments| arguments.raw()));
    let key = format!("{} {} {}", alive.permitted.caller.id, aimed.target, Digest::of(&shape));
    // A bucket counts by the second; by this clock a second is a minute.
    let now = gateway.clock.ticks_us() / 60;
    judge(gateway.alike.take(&key, 1, rate, rate, limits.rate_entries_max, now), "alike_rate_per_min")
}

/// What is left of arguments without numbers, case and spaces.
fn shape(arguments: &[u8]) -> Vec<u8> {
    let mut shape = Vec::with_capacity(arguments.len());
    for byte in arguments.iter().filter(|byte| !byte.is_ascii_whitespace()) {
        let byte = if byte.is_ascii_digit() { b'0' } else { byte.to_ascii_lowercase() };
        if byte != b'0' || shape.last() != Some(&b'0') {
            shape.push(byte);
        }
    }
    shape
}

fn judge(taken: Taken, limit: &str) -> Result<(), Refusal> {
    let refusal = |text: String| Refusal::new(Code::LimitRate, text).retry_after_s(1);
    match taken {
        Taken::Within => Ok(()),
        Taken::FirstBeyond => Err(refusal(format!("limits.{limit}"))),
        // Only the first of a run has an entry of its own: a flood must not become a flood of the ledger.
        Taken::Beyond => Err(refusal(String::new())),
    }
}

#[cfg(test)]
mod tests {
    use super::{key, shape};

    #[test]
    fn arguments_are_alike_that_differ_in_numbers_case_and_spaces_alone() {
        let same = |one: &str, other: &str| shape(one.as_bytes()) == shape(other.as_bytes());
        assert!(same(r#"{"page": 9, "q": "Where"}"#, r#"{"page":10,"q":"where"}"#));
        assert!(!same(r#"{"q":"where"}"#, r#"{"q":"when"}"#));
    }

    #[test]
    fn all_addresses_of_one_ipv6_network_are_one_source() {
        for (address, expected) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
            ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ] {
            assert_eq!(key(address.parse().unwrap()), expected);
        }
    }
}
