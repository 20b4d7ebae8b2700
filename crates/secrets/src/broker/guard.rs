//! What is handed out is looked for from then on.

use std::sync::Arc;

use crate::{
    Broker,
    reference::{Place, Reference},
    watch::{Leak, Watched, Why, is_secret},
};

/// Takes values out of a line.
pub type Censor = Arc<dyn Fn(String) -> String + Send + Sync>;

impl Broker {
    /// Everything that was handed out and must not come back.
    #[must_use]
    pub const fn watched(&self) -> &Arc<Watched> {
        &self.watched
    }

    /// A value is about to be handed out. What stands in a variable or a file may be no secret.
    pub(super) fn arm(&self, reference: &Reference, name: impl FnOnce() -> String, value: &str) {
        let secret = match reference.place() {
            Place::Literal => false,
            Place::Env(name) => !reference.prefix().is_empty() || is_secret(name, value),
            Place::File(path) => !reference.prefix().is_empty() || is_secret(&path.to_string_lossy(), value),
            Place::Local(_) | Place::Vault { .. } | Place::Aws { .. } => true,
        };
        if secret {
            drop(self.watched.arm(name, value));
        }
    }

    /// What takes values out of lines that a server writes beside its answers, and tells of them. As long as it is there,
    /// the values that stand in `given` are looked for.
    pub fn censor<'a>(
        self: &Arc<Self>,
        server: &Arc<str>,
        given: impl Iterator<Item = &'a String>,
    ) -> Censor {
        let holds: Vec<_> = given.flat_map(|value| self.watched.holds(value)).collect();
        let (broker, server) = (Arc::clone(self), Arc::clone(server));
        Arc::new(move |mut line: String| {
            let _held = &holds;
            for leak in broker.watched.find(&line).into_iter().rev() {
                line.replace_range(leak.range.clone(), "****");
                broker.tell(leak, &server);
            }
            line
        })
    }

    fn tell(self: &Arc<Self>, leak: Leak, server: &Arc<str>) {
        if !self.watched.is_news(&leak, server) {
            return;
        }
        let canary = leak.why == Why::Canary;
        tracing::error!(secret = %leak.name, %server, canary, "a secret is on the standard error of a server");
        let (broker, server) = (Arc::clone(self), Arc::clone(server));
        tokio::spawn(async move {
            if let Err(error) = broker.witness.leaked(&leak.name, canary, &server).await {
                tracing::error!(secret = %leak.name, %error, "a leak could not be recorded");
            }
        });
    }
}
