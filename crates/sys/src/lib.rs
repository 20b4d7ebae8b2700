//! The system calls that no safe library offers: seccomp's user notification, and a mark on all descriptors. The only crate with `unsafe` (ADR 21).

#[cfg(target_os = "linux")]
pub mod descriptors;
#[cfg(target_os = "linux")]
pub mod notify;
