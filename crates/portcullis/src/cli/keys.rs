//! `portcullis key`: API keys.

use clap::Subcommand;
use portcullis_admin::api::{CreateKey, CreatedKey, Key as KeyView, KeyList};

use super::{
    Common, Failure,
    client::{Client, NONE},
    output::{Output, table},
};

/// API keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Create a key; its text is printed once and kept nowhere
    #[command(after_help = "\
Examples:
  portcullis key create ci --role operator --expires 90d
  portcullis key create laptop --role reader --server files --server git --user")]
    Create {
        /// What people call it
        name: String,
        /// Role of whoever presents it (repeat for several)
        #[arg(long = "role", required = true, value_name = "ROLE")]
        roles: Vec<String>,
        /// Server that it reaches (repeat for several) [default: all]
        #[arg(long = "server", value_name = "SERVER")]
        servers: Vec<String>,
        /// Time until it expires, like 12h or 90d [default: never]
        #[arg(long, value_name = "TIME", value_parser = seconds)]
        expires: Option<u64>,
        /// It stands for a person, not a program
        #[arg(long)]
        user: bool,
    },
    /// List all keys, revoked and expired ones too
    #[command(after_help = "Example:\n  portcullis key list --json")]
    List,
    /// Revoke a key, with effect on the next request
    #[command(after_help = "Example:\n  portcullis key revoke k3jd92mfp01x")]
    Revoke {
        /// Its id, as `key list` shows it
        id: String,
    },
}

/// `90d`, `12h`, `30m`, `45s` as seconds.
pub(crate) fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a time like 90d, 12h, 30m or 45s");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let number: u64 = text.strip_suffix(unit).and_then(|digits| digits.parse().ok()).ok_or_else(wrong)?;
    let factor = match unit {
        'd' => 86_400,
        'h' => 3_600,
        'm' => 60,
        's' => 1,
        _ => return Err(wrong()),
    };
    number.checked_mul(factor).ok_or_else(wrong)
}

pub(super) fn carry_out(common: &Common, command: Key, output: &Output) -> Result<(), Failure> {
    let client = Client::connect(common)?;
    match command {
        Key::Create { name, roles, servers, expires, user } => {
            let question = CreateKey {
                name,
                roles,
                servers: (!servers.is_empty()).then_some(servers),
                kind: user.then(|| String::from("user")),
                expires_in_s: expires,
            };
            let created: CreatedKey = client.ask("create_key", "", NONE, Some(&question))?;
            output.show(&created, |created| {
                format!(
                    "{}\n\nid {}; this text is shown once: keep it where the client finds it.",
                    created.text, created.key.id
                )
            });
        }
        Key::List => {
            let list: KeyList = client.ask("list_keys", "", NONE, NONE)?;
            output.show(&list, |list| {
                let rows: Vec<Vec<String>> = list.keys.iter().map(row).collect();
                table(&["id", "name", "state", "kind", "roles", "servers", "created", "expires"], &rows)
            });
        }
        Key::Revoke { id } => {
            let key: KeyView = client.ask("revoke_key", &id, NONE, NONE)?;
            output.show(&key, |key| format!("revoked {} ({})", key.id, key.name));
        }
    }
    Ok(())
}

fn row(key: &KeyView) -> Vec<String> {
    vec![
        key.id.clone(),
        key.name.clone(),
        key.state.clone(),
        key.kind.clone(),
        key.roles.join(","),
        key.servers.as_ref().map_or_else(|| String::from("all"), |servers| servers.join(",")),
        key.created.clone(),
        key.expires.clone().unwrap_or_else(|| String::from("never")),
    ]
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn times_are_read_with_their_unit_and_nothing_else() {
        for (text, expected) in [("90d", 7_776_000), ("12h", 43_200), ("30m", 1_800), ("45s", 45)] {
            assert_eq!(seconds(text), Ok(expected));
        }
        for wrong in
            ["", "d", "5", "5w", "-5d", "1.5h", "99999999999999999999d", "9999999999999999999d", "5€"]
        {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
