//! Calls that wait for people. A call that policy allows only with an approval is not held open: it is refused with the
//! name of a question, people answer the question, and the same call passes once when it comes again.

mod binding;
mod counts;
mod desk;
mod question;
mod refusal;

pub use binding::{Binding, round};
pub use counts::Counts;
pub use desk::{AnswerError, Desk, Parts, Used};
pub use question::{Confirmation, Shown, Waiting};
