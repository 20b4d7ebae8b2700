//! Entries that would go out where anybody reads them, or nowhere.

use crate::{
    decode::place,
    mistake::ConfigMistake,
    sections::Settings,
    values::{NAME_HINT, is_name},
    yaml::Node,
};

/// Sinks that cannot be, or should not.
pub(super) fn mistakes(settings: &Settings, root: &Node) -> Vec<ConfigMistake> {
    let mut out = Vec::new();
    let mut refuse = |key: String, message: &str, hint: &str| {
        out.push(ConfigMistake::new(place(root, &key), key, message, hint));
    };
    for (name, sink) in &settings.sinks {
        let key = format!("sinks.{name}");
        if !is_name(name) {
            refuse(key.clone(), "cannot name a sink", NAME_HINT);
        }
        let is_file = sink.kind.0 == "file";
        match (&sink.url, &sink.path) {
            (None, _) if !is_file => refuse(key.clone(), "has no `url`", "say where the receiver is"),
            (_, None) if is_file => refuse(key.clone(), "has no `path`", "name the file"),
            (Some(_), _) if is_file => refuse(format!("{key}.url"), "has no meaning for a file", "remove it"),
            (_, Some(_)) if !is_file => {
                refuse(format!("{key}.path"), "has a meaning for files alone", "remove it")
            }
            _ => {}
        }
        let open = sink.url.as_ref().is_some_and(|url| url.is_clear() && !url.is_local());
        if open && !sink.danger_plain_text {
            refuse(
                format!("{key}.url"),
                "entries would be sent in the clear",
                "use `https` or `tls`; or set `danger_plain_text: true` and know who is on the way",
            );
        }
    }
    out
}
