//! The system calls that no safe library offers: seccomp's user notification. The only crate with `unsafe` (ADR 21).

#[cfg(target_os = "linux")]
pub mod notify;
