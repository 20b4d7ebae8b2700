//! What a server is run with, before its secrets are joined.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use portcullis_core::{Digest, Refusal};
use portcullis_net::stdio::Command;
use portcullis_secrets::{Broker, Value};

/// What to run. Comes from the operator's configuration alone; nothing of it may depend on a client but the values of
/// secrets that each caller has one of.
#[derive(Clone, Debug)]
pub struct Program {
    /// The program; no shell is involved.
    pub program: String,
    /// Its arguments. `${NAME}` stands for the variable of that name under `env`.
    pub args: Vec<String>,
    /// Its environment, on top of a minimal clean one.
    pub env: BTreeMap<String, Value>,
    /// Its working directory.
    pub cwd: Option<PathBuf>,
}

impl Program {
    /// What looks for the values that it was given.
    pub(super) fn guard(&self) -> Option<&Arc<Broker>> {
        self.env.values().find_map(Value::broker)
    }

    /// Whether what it is given can be another thing later.
    pub(super) fn changes(&self) -> bool {
        self.env.values().any(Value::changes)
    }

    /// The command for a caller, or for whoever shares it.
    ///
    /// # Errors
    /// `secret.unavailable`.
    pub(super) async fn command(&self, caller: Option<&str>) -> Result<Command, Refusal> {
        let mut env = BTreeMap::new();
        for (name, value) in &self.env {
            env.insert(name.clone(), value.get(caller).await?.expose().clone());
        }
        let args = self.args.iter().map(|argument| with_variables(argument, &env)).collect();
        Ok(Command { program: self.program.clone(), args, env, cwd: self.cwd.clone() })
    }
}

/// What a child is given, as something to compare.
pub(super) fn given(command: &Command) -> Digest {
    let pairs = command.env.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]);
    Digest::of_parts(&pairs.collect::<Vec<_>>())
}

/// An argument with the values of the server's own variables: a secret stands under `env` as a reference, and is
/// filled in only where the command is made.
fn with_variables(argument: &str, env: &BTreeMap<String, String>) -> String {
    let (mut out, mut rest) = (String::new(), argument);
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let value = after.split_once('}').and_then(|(name, next)| Some((env.get(name)?, next)));
        match value {
            Some((value, next)) => {
                out.push_str(value);
                rest = next;
            }
            None => {
                out.push_str("${");
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::with_variables;

    #[test]
    fn arguments_take_the_variables_of_their_server_and_nothing_else() {
        let env = [("A", "${B}"), ("B", "b")].map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        for (argument, expected) in [
            ("--k=${B}", "--k=b"),
            ("${A}${B}", "${B}b"),
            ("${C} ${", "${C} ${"),
            ("${C${B}", "${Cb"),
            ("$B", "$B"),
        ] {
            assert_eq!(with_variables(argument, &env), expected);
        }
    }
}
