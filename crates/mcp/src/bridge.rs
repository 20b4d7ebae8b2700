//! Translation between the two eras, as functions over bytes: what a message of one revision says, written as the other
//! revision says it. Values are moved as they were written; only the members that the revisions disagree about change.

mod answer;
mod notification;
mod object;
mod offer;
mod question;
mod request;
mod table;

pub use answer::{Kind, kind, pages_to_visit, to_legacy as answer_to_legacy, to_modern as answer_to_modern};
pub use notification::{Filter, for_call, for_listener, for_session};
pub use offer::{
    capability_lacking, client_capabilities, discover_result, initialize_result, result_message,
};
pub use question::{Question, answer_to_server, input_required, questions_inside, to_client};
pub use request::{
    Declared, Round, param_headers, same_in_each_round, to_legacy as request_to_legacy,
    to_modern as request_to_modern,
};
pub use table::{Passage, passage};

/// Prefix of the members of `_meta` that the newer revision reserves for itself.
const RESERVED: &str = "io.modelcontextprotocol/";
