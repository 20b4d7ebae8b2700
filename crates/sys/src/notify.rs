//! seccomp's user notification: a filter whose matches are judged by another process.
#![expect(unsafe_code, reason = "seccomp(2) and the ioctls of its listener have no safe wrapper")]

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

/// One instruction of a filter: code, two jumps, operand.
pub type Instruction = (u16, u8, u8, u32);

/// What a filter returns where the listener is to judge.
pub const JUDGE: u32 = libc::SECCOMP_RET_USER_NOTIF;

/// Where calls arrive that a filter does not decide. When it is closed, these calls fail with `ENOSYS`.
#[derive(Debug)]
pub struct Listener(OwnedFd);

/// One call of a thread that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Names this call for the answer.
    pub id: u64,
    /// The calling thread, in our own namespace.
    pub thread: u32,
    /// The number of the call.
    pub number: i64,
    /// Its arguments; what they point to may change at any time.
    pub arguments: [u64; 6],
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The kernel does it, with whatever its arguments point to by then: never a way to decide what is allowed.
    Proceed,
    /// It is not done and returns zero.
    Done,
    /// It is not done and fails with this number.
    Fail(i32),
}

impl Listener {
    /// Whether this kernel has user notification, and means by it what this library means.
    #[must_use]
    pub fn supported() -> bool {
        let mut sizes =
            libc::seccomp_notif_sizes { seccomp_notif: 0, seccomp_notif_resp: 0, seccomp_data: 0 };
        // SAFETY: the kernel writes one `seccomp_notif_sizes` to where `sizes` is.
        let result =
            unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_NOTIF_SIZES, 0, &raw mut sizes) };
        // A kernel with larger ones would write beyond ours.
        result == 0
            && usize::from(sizes.seccomp_notif) <= size_of::<libc::seccomp_notif>()
            && usize::from(sizes.seccomp_notif_resp) <= size_of::<libc::seccomp_notif_resp>()
    }

    /// Puts the calling thread, and all that it starts, under a filter. New privileges must have been given up before.
    ///
    /// # Errors
    /// The kernel does not know user notification, or the thread has such a filter already (`EBUSY`).
    pub fn install(program: &[Instruction]) -> io::Result<Self> {
        if !Self::supported() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut filter: Vec<libc::sock_filter> = program
            .iter()
            .map(|(code, jt, jf, k)| libc::sock_filter { code: *code, jt: *jt, jf: *jf, k: *k })
            .collect();
        let len = u16::try_from(filter.len()).map_err(io::Error::other)?;
        let program = libc::sock_fprog { len, filter: filter.as_mut_ptr() };
        let listen = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
        // A signal does not cut a call short that is being judged (Linux 5.19); older kernels do without.
        for flags in [listen | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, listen] {
            // SAFETY: `program` points to `len` instructions that outlive the call, which copies them.
            let fd = unsafe {
                libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
            };
            if fd >= 0 {
                let fd = i32::try_from(fd).map_err(io::Error::other)?;
                // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
                return Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }));
            }
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(libc::EINVAL) {
                return Err(error);
            }
        }
        Err(io::Error::from_raw_os_error(libc::EINVAL))
    }

    /// Takes the next call. To be called when the descriptor is readable; otherwise it may wait.
    ///
    /// # Errors
    /// `ENOENT` where the caller is gone meanwhile.
    pub fn next(&self) -> io::Result<Call> {
        let mut seen = libc::seccomp_notif {
            id: 0,
            pid: 0,
            flags: 0,
            data: libc::seccomp_data { nr: 0, arch: 0, instruction_pointer: 0, args: [0; 6] },
        };
        // SAFETY: the kernel writes one `seccomp_notif` to where `seen` is.
        let result =
            unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut seen) };
        checked(result)?;
        let number = i64::from(seen.data.nr.cast_unsigned());
        Ok(Call { id: seen.id, thread: seen.pid, number, arguments: seen.data.args })
    }

    /// Whether the caller still waits, so that what was read of it by its number was its own.
    #[must_use]
    pub fn waits(&self, call: &Call) -> bool {
        let id = call.id;
        // SAFETY: the kernel reads one `u64` from where `id` is.
        let result =
            unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id) };
        checked(result).is_ok()
    }

    /// Lets the caller go on.
    ///
    /// # Errors
    /// `ENOENT` where the caller is gone.
    pub fn answer(&self, call: &Call, answer: Answer) -> io::Result<()> {
        let (error, flags) = match answer {
            Answer::Proceed => {
                (0, u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).map_err(io::Error::other)?)
            }
            Answer::Done => (0, 0),
            Answer::Fail(number) => (-number.saturating_abs(), 0),
        };
        let response = libc::seccomp_notif_resp { id: call.id, val: 0, error, flags };
        // SAFETY: the kernel reads one `seccomp_notif_resp` from where `response` is, and writes none of it.
        let result =
            unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw const response) };
        checked(result)
    }
}

impl From<OwnedFd> for Listener {
    /// A listener that another process handed over. Any other descriptor gives errors, and nothing worse: the kernel
    /// knows the requests of a listener by their numbers.
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn checked(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
