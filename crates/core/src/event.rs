//! The event classes of the ledger. A name is stable for ever; what an entry carries beside it is versioned.

macro_rules! events {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal),+ $(,)?) => {
        /// What a ledger entry is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Event { $($(#[doc = $doc])+ $variant),+ }

        impl Event {
            /// Every event class, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The stable name, the `event` member of an entry.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// What it means, for the reference page.
            #[must_use]
            pub const fn doc(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+)),+ }
            }
        }
    };
}

events! {
    /// A message passed every check and is about to be forwarded.
    CallIntent = "call.intent",
    /// What became of a forwarded message; `intent` is the index of its intent.
    CallOutcome = "call.outcome",
    /// A message was refused; `code` says why.
    CallRefused = "call.refused",
    /// A question from a server to a client was passed on or refused.
    ServerRequest = "server.request",
    /// The gateway started.
    GatewayStarted = "gateway.started",
    /// The gateway stopped in order.
    GatewayStopped = "gateway.stopped",
    /// The ledger was opened after an unclean end; says what was recovered.
    LedgerRecovered = "ledger.recovered",
    /// Rules were compiled and put in force; carries their digest.
    ConfigChanged = "config.changed",
    /// A changed configuration was refused; the old rules stay.
    ConfigRefused = "config.refused",
    /// An API key was created.
    KeyCreated = "key.created",
    /// An API key was revoked.
    KeyRevoked = "key.revoked",
    /// A caller was given a role for a time.
    GrantCreated = "grant.created",
    /// A caller was given a role for a time in an emergency; somebody should look at it.
    GrantBreakGlass = "grant.break_glass",
    /// A grant was revoked before its time.
    GrantRevoked = "grant.revoked",
    /// A caller connected to a server: a token for it was granted.
    ConnectionGranted = "connection.granted",
    /// The token of a connection was renewed.
    ConnectionRefreshed = "connection.refreshed",
    /// A token for a server was obtained in exchange for the caller's own.
    ConnectionExchanged = "connection.exchanged",
    /// A connection was revoked and its token forgotten.
    ConnectionRevoked = "connection.revoked",
    /// A connection could not be made or ended by itself; `detail` says why.
    ConnectionFailed = "connection.failed",
    /// Somebody put a secret, or a new value for it, into the gateway's own keeping.
    SecretPut = "secret.put",
    /// Somebody took a secret out of the gateway's own keeping.
    SecretRemoved = "secret.removed",
    /// Somebody had a secret fetched anew; `secret` in `data` is its reference, `how` whether its source made a new value.
    SecretRenewed = "secret.renewed",
    /// A secret has a new value, which is used from now on; `secret` in `data` is its reference.
    SecretRotated = "secret.rotated",
    /// A secret that the gateway handed out came back from a server, and was masked or refused; `secret` in `data` is its
    /// reference, `place` where it stood.
    SecretLeaked = "secret.leaked",
    /// Somebody had a credential planted, whose appearance raises an alarm; `canary` in `data` is its name.
    CanaryCreated = "canary.created",
    /// Somebody had a planted credential forgotten: it is not looked for any more.
    CanaryRemoved = "canary.removed",
    /// A credential that was planted appeared; `canary` in `data` is its name, `place` where it stood.
    CanarySeen = "canary.seen",
    /// A caller uses a secret for the first time since the gateway started; `secret` in `data` is its reference.
    SecretUsed = "secret.used",
    /// A certificate for the gateway was obtained and is shown from now on; `until` in `data` is when it ends.
    CertificateObtained = "certificate.obtained",
    /// No certificate could be obtained; what was shown stays, and it is tried again. `detail` in `data` says why.
    CertificateFailed = "certificate.failed",
    /// The data keys of the store could be opened, after a start without them.
    SealOpened = "seal.opened",
    /// The keys of the store were wrapped anew, got a new version, or lost old ones; `what` says which.
    SealRotated = "seal.rotated",
    /// Every data key was destroyed: what was sealed can never be read again.
    SealShredded = "seal.shredded",
    /// A server was added at run time.
    ServerAdded = "server.added",
    /// A server was removed at run time.
    ServerRemoved = "server.removed",
    /// A definition was pinned on first use.
    DefinitionPinned = "definition.pinned",
    /// A definition was seen for the first time and waits for review, or cannot be pinned as `code` and `detail` say.
    DefinitionObserved = "definition.observed",
    /// A definition that would have been pinned on first use, or was, waits for a person; `detail` names what was seen in it.
    DefinitionHeld = "definition.held",
    /// A pinned definition changed upstream and is quarantined.
    DefinitionChanged = "definition.changed",
    /// A definition vanished upstream.
    DefinitionVanished = "definition.vanished",
    /// A server changed more definitions than are recorded one by one; `data` has how many of each event, and the digest of
    /// the canonical JSON of all as `[kind, name, event, digest]`, in the order of kinds and names.
    DefinitionsChanged = "definitions.changed",
    /// A person approved a definition.
    DefinitionApproved = "definition.approved",
    /// A person rejected a definition.
    DefinitionRejected = "definition.rejected",
    /// An operator stopped a caller, session, server, tool or everything.
    KillSet = "kill.set",
    /// An operator lets go on what was stopped.
    KillLifted = "kill.lifted",
    /// A call needs the approval of people; `approval` in `data` names the question.
    ApprovalAsked = "approval.asked",
    /// Somebody said yes.
    ApprovalGranted = "approval.granted",
    /// Somebody said no.
    ApprovalDenied = "approval.denied",
    /// An approved call is about to be made; the approval is used up.
    ApprovalRedeemed = "approval.redeemed",
    /// A call came for whose question or approval the time was over.
    ApprovalExpired = "approval.expired",
    /// Somebody asked what is held about a person; `subject` in `data` names the person by a keyed digest.
    SubjectSearched = "subject.searched",
    /// What is held about a person was erased; `subject` in `data` names the person by a keyed digest.
    SubjectErased = "subject.erased",
    /// A sink could not be delivered to for ten seconds; `sink` in `data` is its name.
    SinkFailing = "sink.failing",
    /// A sink that was failing takes messages again.
    SinkRecovered = "sink.recovered",
    /// A sink did not want an entry, while it took others; `index` in `data` says which.
    SinkSkipped = "sink.skipped",
    /// Somebody had a sink go on at another entry; `next` in `data` says at which.
    SinkMoved = "sink.moved",
    /// Somebody tries a sink out: this entry goes to it.
    SinkTested = "sink.tested",
    /// Somebody searched the ledger; `filters` in `data` says for what, words by a keyed digest, `count` how many entries the
    /// answer had, `complete` of how many, `purpose` what for.
    LedgerSearched = "ledger.searched",
    /// Somebody had the index of the ledger made anew.
    IndexRebuilt = "index.rebuilt",
    /// A confined server tried what it may not, as far as the gateway sees it; `kind` says what.
    SandboxDenied = "sandbox.denied",
    /// Somebody tried to use the admin API and was refused.
    AdminRefused = "admin.refused",
}
