//! The control plane: admin API and background jobs.
