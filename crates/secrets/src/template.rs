//! Names with a place for the caller in them.

use std::fmt;

/// What stands for the id of the caller.
const CALLER: &str = "caller.id";

/// A name, in parts: what is written, and places for the id of the caller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Part {
    Text(String),
    Caller,
}

impl Template {
    /// Reads a name.
    ///
    /// # Errors
    /// What stands between braces and is not known.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once('{') {
            let (inside, after) = after.split_once('}').ok_or_else(|| after.to_owned())?;
            if inside != CALLER {
                return Err(inside.to_owned());
            }
            parts.extend((!before.is_empty()).then(|| Part::Text(before.to_owned())));
            parts.push(Part::Caller);
            rest = after;
        }
        if rest.contains('}') {
            return Err(rest.to_owned());
        }
        parts.extend((!rest.is_empty()).then(|| Part::Text(rest.to_owned())));
        Ok(Self(parts))
    }

    /// Whether it differs by caller.
    pub(crate) fn personal(&self) -> bool {
        self.0.contains(&Part::Caller)
    }

    /// Whether the name may be that of some caller.
    pub(crate) fn fits(&self, name: &str) -> bool {
        let text = |part: Option<&Part>| match part {
            Some(Part::Text(text)) => text.clone(),
            Some(Part::Caller) | None => String::new(),
        };
        let (first, last) = (text(self.0.first()), text(self.0.last().filter(|_| self.0.len() > 1)));
        name.len() >= first.len() + last.len() && name.starts_with(&first) && name.ends_with(&last)
    }

    /// The name for a caller; nothing where one is needed and there is none.
    #[must_use]
    pub fn filled(&self, caller: Option<&str>) -> Option<String> {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Caller => out.push_str(&escaped(caller?)),
            }
        }
        Some(out)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Caller => write!(f, "{{{CALLER}}}"),
        })
    }
}

/// One segment of a path, whatever the id holds, and another one for every other id: letters, digits and `-` stay,
/// every other byte becomes `_` and two hexadecimal digits. Percent signs would be undone on the way, and a `/`, a `..` or
/// a `#` of an identity provider would name the secret of somebody else.
fn escaped(id: &str) -> String {
    let mut out = String::with_capacity(id.len());
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' {
            out.push(char::from(byte));
        } else {
            out.push('_');
            for digit in [byte >> 4, byte & 15] {
                out.extend(char::from_digit(u32::from(digit), 16).map(|digit| digit.to_ascii_uppercase()));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_id_of_a_caller_becomes_one_segment() {
        let template = Template::parse("users/{caller.id}/github").unwrap();
        for (id, path) in [
            ("key:deploy-bot", "users/key_3Adeploy-bot/github"),
            ("jwt:https://i#../admin", "users/jwt_3Ahttps_3A_2F_2Fi_23_2E_2E_2Fadmin/github"),
            ("a_b", "users/a_5Fb/github"),
            ("", "users//github"),
        ] {
            assert_eq!(template.filled(Some(id)).unwrap(), path);
        }
        assert_eq!(template.filled(None), None, "nobody's secret is used for nobody");
        assert_eq!(Template::parse("app").unwrap().filled(None).unwrap(), "app");
    }

    proptest! {
        #[test]
        fn two_callers_never_share_a_name(a in ".*", b in ".*") {
            prop_assert_eq!(a == b, escaped(&a) == escaped(&b));
            prop_assert!(escaped(&a).bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
        }
    }
}
