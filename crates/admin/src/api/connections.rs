//! Connections of callers to servers: listed, revoked. Tokens never come near this API.

use portcullis_core::Timestamp;
use portcullis_store::ConnectionRow;

use super::{Control, control::OPERATOR};
use crate::{parts::Revoked, problem::Problem, wire::wire};

wire! { answer
    /// A caller's connection to a server, without its tokens.
    Connection {
        /// Whose it is.
        caller: String,
        /// The server.
        server: String,
        /// Who issued the token.
        issuer: String,
        /// Scopes that were granted.
        scopes: Vec<String>,
        /// When the user consented (RFC 3339).
        granted: String,
        /// When the token was last renewed (RFC 3339).
        refreshed: Option<String>,
        /// When the token ends (RFC 3339); it is renewed before, where the issuer allows that.
        expires: Option<String>,
    }
}

wire! { answer
    /// Every connection.
    ConnectionList {
        /// By server and caller.
        connections: Vec<Connection>,
    }
}

wire! { question
    /// A connection to be revoked.
    RevokeConnection {
        /// Whose it is.
        caller: String,
        /// The server.
        server: String,
    }
}

wire! { answer
    /// A connection that is over.
    RevokedConnection {
        /// Whose it was.
        caller: String,
        /// The server.
        server: String,
        /// Whether the authorization server took the token back, too.
        told: bool,
        /// Why it did not.
        reason: Option<String>,
    }
}

fn view(row: ConnectionRow) -> Connection {
    let text = |at: Timestamp| at.to_string();
    Connection {
        caller: row.caller,
        server: row.server,
        issuer: row.issuer,
        scopes: row.scopes.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect(),
        granted: text(row.granted),
        refreshed: row.refreshed.map(text),
        expires: row.expires.map(text),
    }
}

impl Control {
    pub(super) async fn all_connections(&self) -> Result<ConnectionList, Problem> {
        let rows = self.parts.connections.list().await.map_err(Problem::Store)?;
        Ok(ConnectionList { connections: rows.into_iter().map(view).collect() })
    }

    pub(super) async fn end_connection(
        &self,
        question: RevokeConnection,
    ) -> Result<RevokedConnection, Problem> {
        let RevokeConnection { caller, server } = question;
        let revoked = self.parts.connections.revoke(&caller, &server, OPERATOR).await;
        let (told, reason) = match revoked.map_err(Problem::Store)? {
            Revoked::Unknown => {
                return Err(Problem::NotFound(format!("`{caller}` is not connected to `{server}`")));
            }
            Revoked::Everywhere => (true, None),
            Revoked::Here(reason) => (false, Some(reason)),
        };
        Ok(RevokedConnection { caller, server, told, reason })
    }
}
