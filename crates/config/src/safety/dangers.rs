//! Settings that give up protection on purpose. They are allowed, and shown wherever somebody looks.

use crate::sections::Settings;

impl Settings {
    /// Every `danger_` switch that is on: its key, and what that means.
    #[must_use]
    pub fn dangers(&self) -> Vec<(String, &'static str)> {
        let vault = self.secrets.vault.iter().filter(|vault| vault.danger_plain_http).map(|_| {
            let what = "secrets come over plain HTTP: whoever is on the way reads them";
            ("secrets.vault.danger_plain_http".to_owned(), what)
        });
        let sinks = self.sinks.iter().filter(|(_, sink)| sink.danger_plain_text).map(|(name, _)| {
            let what =
                "entries of the ledger go out in the clear: whoever is on the way reads and changes them";
            (format!("sinks.{name}.danger_plain_text"), what)
        });
        vault.chain(sinks).collect()
    }
}
