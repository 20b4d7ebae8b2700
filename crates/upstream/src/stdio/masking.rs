//! What a child says on standard error, without the values that it was given.

use std::sync::Arc;

use portcullis_net::stdio::StderrFilter;

/// Shorter values of variables are no credentials; to mask them would only make the log unreadable.
const SECRET_BYTES_MIN: usize = 8;

/// Takes the values that a child was given out of what it says on standard error: many programs print their settings.
pub(super) fn without<'a>(values: impl Iterator<Item = &'a String>) -> StderrFilter {
    let lines = values.flat_map(|value| value.lines().map(str::trim));
    let mut secrets: Vec<String> =
        lines.filter(|line| line.len() >= SECRET_BYTES_MIN).map(str::to_owned).collect();
    // A longer value may hold a shorter one.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    Arc::new(move |mut text| {
        for secret in &secrets {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), "****");
            }
            // A long line is cut off, perhaps inside a value.
            let begun = (SECRET_BYTES_MIN..secret.len())
                .rev()
                .filter_map(|length| secret.get(..length))
                .find(|begun| text.ends_with(begun));
            if let Some(begun) = begun {
                text.truncate(text.len() - begun.len());
                text.push_str("****");
            }
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::without;

    #[test]
    fn values_given_to_a_child_are_masked_in_its_words_whole_or_cut_off() {
        let values =
            ["tok-0123456789".to_owned(), "debug".to_owned(), "line-one-long\nline-two-long".to_owned()];
        let filter = without(values.iter());
        for (said, logged) in [
            ("using tok-0123456789, tok-0123456789", "using ****, ****"),
            ("level debug", "level debug"),
            ("key: line-two-long.", "key: ****."),
            ("cut at tok-012345", "cut at ****"),
            ("starts like tok-012", "starts like tok-012"),
        ] {
            assert_eq!(filter(said.to_owned()), logged);
        }
    }
}
