//! All descriptors of this process at once.
#![expect(unsafe_code, reason = "close_range(2) has no safe wrapper")]

use std::io;

/// The first descriptor after the three that every program has.
const FIRST: libc::c_uint = 3;

/// Marks every descriptor but the first three as closed when a program is executed. Nothing is closed here, so that it
/// takes nothing away from whoever holds one.
///
/// # Errors
/// The kernel does not know the call (before Linux 5.11), or something around us forbids it.
pub fn close_on_exec() -> io::Result<()> {
    // SAFETY: with this flag no descriptor is closed; numbers alone are passed.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
