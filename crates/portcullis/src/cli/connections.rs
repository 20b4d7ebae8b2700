//! `portcullis connection`: who is connected to which server with an account of its own.

use clap::Subcommand;
use portcullis_admin::api::{Connection as View, ConnectionList, RevokeConnection, RevokedConnection};

use super::{
    Common, Failure,
    client::{Client, NONE},
    output::{Output, table},
};

/// Connections of callers to servers.
#[derive(Debug, Subcommand)]
pub(crate) enum Connection {
    /// List all connections, without their tokens
    #[command(after_help = "Example:\n  portcullis connection list --json")]
    List,
    /// Revoke a connection: the authorization server is told, where it wants to know, and the tokens are forgotten
    #[command(after_help = "Example:\n  portcullis connection revoke key:k3jd92mfp01x files")]
    Revoke {
        /// Whose it is, as `connection list` shows it
        caller: String,
        /// The server
        server: String,
    },
}

pub(super) fn carry_out(common: &Common, command: Connection, output: &Output) -> Result<(), Failure> {
    let client = Client::connect(common)?;
    match command {
        Connection::List => {
            let list: ConnectionList = client.ask("list_connections", "", NONE, NONE)?;
            output.show(&list, |list| {
                let rows: Vec<Vec<String>> = list.connections.iter().map(row).collect();
                table(&["caller", "server", "issuer", "scopes", "granted", "renewed", "expires"], &rows)
            });
        }
        Connection::Revoke { caller, server } => {
            let question = RevokeConnection { caller, server };
            let done: RevokedConnection = client.ask("revoke_connection", "", NONE, Some(&question))?;
            output.show(&done, |done| match &done.reason {
                None => format!("revoked the connection of {} to {}", done.caller, done.server),
                Some(reason) => format!(
                    "forgot the tokens of {} for {}; the authorization server did not take them back: {reason}",
                    done.caller, done.server
                ),
            });
        }
    }
    Ok(())
}

fn row(connection: &View) -> Vec<String> {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| String::from("-"));
    vec![
        connection.caller.clone(),
        connection.server.clone(),
        connection.issuer.clone(),
        connection.scopes.join(" "),
        connection.granted.clone(),
        or_none(&connection.refreshed),
        or_none(&connection.expires),
    ]
}
