//! What the ledger says, found again. The index is derived: it holds where in the ledger an entry is and by which words
//! it is found, never the entry. Answers are read from the ledger, and each is held against what was verified when it
//! was indexed. `index.rs` builds it, `search.rs` says what is looked for, `answer.rs` finds it.

mod answer;
pub mod bundle;
mod cursor;
mod error;
mod field;
mod graph;
mod index;
mod librarian;
mod moment;
mod report;
mod search;
mod shelf;
mod timeline;
mod words;

pub use answer::{Hit, Page, Paging, scan};
pub use error::ForensicsError;
pub use field::Field;
pub use graph::{Edge, Graph, Node, Thing, Touch};
pub use index::{Index, Status};
pub use librarian::{Librarian, Place};
pub use moment::moment;
pub use report::report;
pub use search::{Order, Search};
pub use shelf::Shelf;
pub use timeline::{CHANGES, Kind, Outcome, Step, Timeline, Used};
