//! What a text is called: by the words before it, or by the name of the member that holds it.

/// Bytes before a value in which its label ends.
const BEFORE_BYTES_MAX: usize = 48;
/// Bytes between a label and its value.
const BETWEEN_BYTES_MAX: usize = 8;

/// Where a label stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// As a name that a sign parts from the value: `name: `, `"name": "`, or the name of the member.
    Named,
    /// As a word before it: `patient `.
    Said,
}

/// Which of the labels (in small letters) stands right before that place, and how.
pub(crate) fn before<'a>(labels: &'a str, (key, text): (&str, &str), start: usize) -> Option<(&'a str, Way)> {
    let from = text.ceil_char_boundary(start.saturating_sub(BEFORE_BYTES_MAX + BETWEEN_BYTES_MAX));
    let before = text.get(from..start)?;
    let bare = before.trim_end_matches([' ', '\t', '"', '\'', '=', ':', '>', '|', '*', '\n', '\r', '\\']);
    let between = before.get(bare.len()..)?;
    if from == 0
        && bare.is_empty()
        && between.bytes().all(|byte| matches!(byte, b' ' | b'"' | b'\n'))
        && !key.is_empty()
    {
        return ends(labels, key).map(|label| (label, Way::Named));
    }
    let apart = between.bytes().any(|byte| matches!(byte, b':' | b'=' | b'>' | b'|'));
    if between.is_empty() || between.len() > BETWEEN_BYTES_MAX || (between.contains('\n') && !apart) {
        return None;
    }
    let label = ends(labels, bare)?;
    Some((label, if apart { Way::Named } else { Way::Said }))
}

/// Which of the labels a text ends in, as a word or as a part of a name of a program.
fn ends<'a>(labels: &'a str, text: &str) -> Option<&'a str> {
    let from = text.ceil_char_boundary(text.len().saturating_sub(BEFORE_BYTES_MAX));
    let near = text.get(from..)?;
    let last = near.chars().next_back()?.to_ascii_lowercase();
    let fits = |label: &&str| {
        if !label.ends_with(last) && last.is_ascii() {
            return false;
        }
        let Some(at) = near.len().checked_sub(label.len()) else { return false };
        let Some((rest, last)) = near.split_at_checked(at) else { return false };
        let same = last.eq_ignore_ascii_case(label) || (!label.is_ascii() && last.to_lowercase() == *label);
        let camel = rest.ends_with(char::is_lowercase) && last.starts_with(char::is_uppercase);
        same && (!rest.ends_with(char::is_alphanumeric) || camel)
    };
    labels.split('|').filter(fits).max_by_key(|label| label.len())
}
