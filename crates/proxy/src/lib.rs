//! The data plane: the pipeline of proofs every message goes through.
