//! What a message asks for, in words that policy, ledger, metrics and documents share.

use core::fmt;

macro_rules! actions {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal),+ $(,)?) => {
        /// What a message asks for. The name is the Cedar action id and the `action` member of ledger entries.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Action { $($(#[doc = $doc])+ $variant),+ }

        impl Action {
            /// Every action, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The stable name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// What the action means, for the reference page.
            #[must_use]
            pub const fn doc(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+)),+ }
            }
        }
    };
}

actions! {
    /// Run a tool (`tools/call`).
    CallTool = "call_tool",
    /// Render a prompt (`prompts/get`).
    GetPrompt = "get_prompt",
    /// Read a resource (`resources/read`).
    ReadResource = "read_resource",
    /// Be told when a resource changes (`resources/subscribe`, and its end).
    SubscribeResource = "subscribe_resource",
    /// Ask for completions of an argument (`completion/complete`).
    Complete = "complete",
    /// Open a connection to a server, keep it alive, learn what it offers, end it (`initialize`,
    /// `server/discover`, the lists, `ping`, `logging/setLevel`, `subscriptions/listen`, event streams).
    Connect = "connect",
    /// Answer a question that the server asked of the client (sampling, elicitation, roots).
    Answer = "answer",
    /// Follow or cancel a long-running task (`tasks/*`).
    Task = "task",
    /// Send a method beyond the specification, one of those that the operator lists for the server (`methods`).
    CallMethod = "call_method",
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
