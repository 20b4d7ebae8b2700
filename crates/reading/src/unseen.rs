//! Characters that take no room.

/// Characters that take no room, and bidi controls. Keep in step with [`unseen_bytes`].
pub const fn is_invisible(unit: u32) -> bool {
    matches!(
        unit,
        0xad | 0x034f
            | 0x061c
            | 0x115f
            | 0x1160
            | 0x180b..=0x180f
            | 0x200b..=0x200f
            | 0x202a..=0x202e
            | 0x2060..=0x206f
            | 0x3164
            | 0xfe00..=0xfe0f
            | 0xfeff
            | 0xffa0
            | 0xe0000..=0xe0fff
    )
}

/// Whether the UTF-8 bytes may hold an unseen character that is not ASCII.
pub fn unseen_bytes(bytes: &[u8]) -> bool {
    let second = |at: usize| bytes.get(at + 1).copied().unwrap_or_default();
    let third = |at: usize| bytes.get(at + 2).copied().unwrap_or_default();
    // General Punctuation, soft hyphen and C1, planes 14.
    memchr::memchr3_iter(0xe2, 0xc2, 0xf3, bytes).any(|at| match bytes.get(at) {
        Some(0xe2) => match second(at) {
            0x80 => matches!(third(at), 0x8b..=0x8f | 0xaa..=0xae),
            0x81 => matches!(third(at), 0xa0..=0xaf),
            _ => false,
        },
        Some(0xc2) => second(at) < 0xa0 || second(at) == 0xad,
        _ => true,
    }) || memchr::memchr3_iter(0xef, 0xe1, 0xe3, bytes).any(|at| match bytes.get(at) {
        Some(0xef) => matches!((second(at), third(at)), (0xb8, 0x80..=0x8f) | (0xbb, 0xbf) | (0xbe, 0xa0)),
        Some(0xe1) => matches!((second(at), third(at)), (0x85, 0x9f | 0xa0) | (0xa0, 0x8b..=0x8f)),
        _ => (second(at), third(at)) == (0x85, 0xa4),
    }) || memchr::memchr2_iter(0xcd, 0xd8, bytes).any(|at| match bytes.get(at) {
        Some(0xcd) => second(at) == 0x8f,
        _ => second(at) == 0x9c,
    })
}
