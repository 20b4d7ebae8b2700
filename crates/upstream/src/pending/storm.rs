//! A million calls with the same few ids through one table, answered in any order, twice, or too late.

use std::collections::HashMap;

use portcullis_mcp::json::JsonLimits;

use super::*;

const CALLS: u64 = 1_000_000;
const CALLERS: usize = 8;
/// Calls in flight at once.
const OPEN: usize = 256;
/// Ids that all callers use, as text and as numbers that look alike.
const IDS: [&str; 4] = ["1", "\"1\"", "2", "\"\\u0031\""];

fn message(text: String, limits: &JsonLimits) -> Message {
    Message::parse(Bytes::from(text), limits).unwrap()
}

/// What the table knows of a call, known here as well.
struct Call {
    number: u64,
    caller: usize,
    id: &'static str,
}

#[test]
fn a_million_calls_with_the_same_ids_never_cross_and_answers_that_come_twice_or_late_go_nowhere() {
    let mut pending = Pending::new(true);
    let limits = JsonLimits::answer(&portcullis_core::Limits::default());
    let callers: Vec<_> = (0..CALLERS).map(|_| mpsc::channel::<Piece>(1)).collect();
    let sessions: Vec<_> = (0..CALLERS).map(|caller| format!("s{caller}")).collect();
    let requests: HashMap<_, _> = IDS
        .map(|id| {
            (
                id,
                message(
                    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"t"}}}}"#),
                    &limits,
                ),
            )
        })
        .into();
    let mut open: Vec<Call> = Vec::with_capacity(OPEN);
    // A fixed sequence: what fails once fails again.
    let mut chance = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |bound: usize| {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        (chance % bound as u64) as usize
    };
    let (mut answered, mut late) = (0_u64, 0_u64);
    for begun in 0..CALLS + OPEN as u64 {
        if begun < CALLS {
            let (caller, id) = (below(CALLERS), IDS[below(IDS.len())]);
            let to = callers[caller].0.clone();
            let (number, _) = pending.register(&requests[id], Some(&sessions[caller]), to).unwrap();
            open.push(Call { number, caller, id });
        }
        if open.len() < OPEN && begun < CALLS {
            continue;
        }
        let Some(next) = (!open.is_empty()).then(|| below(open.len())) else { break };
        let Call { number, caller, id } = open.swap_remove(next);
        let answer = message(format!(r#"{{"jsonrpc":"2.0","id":{number},"result":{{}}}}"#), &limits);
        let gave_up = below(64) == 0;
        if gave_up {
            assert!(pending.forget(number));
        }
        match pending.route(&answer) {
            Route::Deliver(to, piece) => {
                assert!(!gave_up && piece.last && to.len() == 1, "call {number}");
                assert!(to[0].same_channel(&callers[caller].0), "call {number} went to another caller");
                let expected = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#);
                assert_eq!(piece.bytes, expected.as_bytes(), "call {number}");
                answered += 1;
            }
            Route::Drop | Route::Unroutable(_) => {
                assert!(gave_up, "the answer to call {number} was lost");
                late += 1;
            }
        }
        if below(64) == 0 {
            assert!(matches!(pending.route(&answer), Route::Drop), "call {number} was answered twice");
        }
    }
    assert_eq!((answered + late, open.len(), pending.calls.len()), (CALLS, 0, 0));
    assert!(late > CALLS / 128, "{late}");
}
