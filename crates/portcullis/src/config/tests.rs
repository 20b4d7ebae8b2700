//! The loader against everything a person can get wrong.
