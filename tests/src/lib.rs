//! End-to-end tests live in `tests/`; what several of them share is here.

pub mod pair;
