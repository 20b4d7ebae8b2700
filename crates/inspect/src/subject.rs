//! What detectors are shown: one decoded text, where it stands, and what it is for.

use portcullis_core::Direction;

/// What a text is for. The same words are ordinary in one place and an attack in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Something that a caller sends to a server.
    Argument,
    /// Something that a server answers, asks or tells.
    Answer,
    /// A server's description of a tool, a prompt, a resource or itself, which a model reads before every call.
    Definition,
}

impl Role {
    /// The role of what stands at `place` (a JSON pointer into a message) that travels that way.
    #[must_use]
    pub fn of(direction: Direction, place: &str) -> Self {
        const LISTS: &[&str] = &[
            "/result/tools/",
            "/result/prompts/",
            "/result/resources/",
            "/result/resourceTemplates/",
            "/result/instructions",
        ];
        match direction {
            Direction::Inward => Self::Argument,
            Direction::Outward if LISTS.iter().any(|list| place.starts_with(list)) => Self::Definition,
            Direction::Outward => Self::Answer,
        }
    }

    /// Which way it travels.
    #[must_use]
    pub const fn direction(self) -> Direction {
        match self {
            Self::Argument => Direction::Inward,
            Self::Answer | Self::Definition => Direction::Outward,
        }
    }
}

/// One decoded text.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// What it is for.
    pub role: Role,
    /// Where it stands: a JSON pointer into its message.
    pub place: &'a str,
    /// The text.
    pub text: &'a str,
}

impl<'a> Subject<'a> {
    /// The name under which the text stands: the last member of its place that is not the index of an array.
    #[must_use]
    pub fn key(&self) -> &'a str {
        self.place
            .rsplit('/')
            .find(|part| !part.is_empty() && !part.bytes().all(|byte| byte.is_ascii_digit()))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_definitions_and_instructions_are_definitions_and_names_stand_before_indices() {
        for (direction, place, expected) in [
            (Direction::Inward, "/params/arguments/q", Role::Argument),
            (Direction::Outward, "/result/content/0/text", Role::Answer),
            (Direction::Outward, "/result/tools/3/description", Role::Definition),
            (Direction::Outward, "/result/instructions", Role::Definition),
            (Direction::Outward, "/result/toolsmith", Role::Answer),
        ] {
            assert_eq!(Role::of(direction, place), expected, "{place}");
            assert_eq!(expected.direction(), direction);
        }
        let key = |place| Subject { role: Role::Answer, place, text: "" }.key();
        assert_eq!((key("/a/password/0"), key("/a/mrn"), key("")), ("password", "mrn", ""));
    }
}
