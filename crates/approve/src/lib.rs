//! Calls that wait for people. A call that policy allows only with an approval is not held open: it is refused with the
//! name of a question, people answer the question, and the same call passes once when it comes again.

mod answer;
mod binding;
mod counts;
mod desk;
mod hook;
mod question;
mod refusal;
mod signature;

pub use answer::{HookError, REASON_BYTES_MAX};
pub use binding::{Binding, round};
pub use counts::Counts;
pub use desk::{AnswerError, Desk, HELD_BYTES_MAX, Parts, Used};
pub use hook::{Hook, Hooks, Person};
pub use question::{Confirmation, Held, Shown, Waiting};
pub use signature::{Signature, SignatureError};
