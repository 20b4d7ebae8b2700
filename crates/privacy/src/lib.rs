//! Keys of the people whose data became tokens, and records of what was done with data.

mod book;
mod records;

pub use book::{Book, Life};
pub use records::{Flow, Processing, Records};
