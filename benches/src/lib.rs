//! Bench programs.
