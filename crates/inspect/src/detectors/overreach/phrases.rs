//! The words by which a definition reaches beyond its tool. Alternatives are parted by a bar; a number is how many words may
//! stand before.

/// However many words.
pub(super) const ALL: usize = usize::MAX;

/// An order that stands for every call.
pub(super) const STANDING: &str = "always|must|automatically|silently|secretly|every|required";
/// What it orders.
pub(super) const SENDS: &str =
    "bcc|cc|forward|forwards|submit|upload|send|transmit|mirror|relay|leak|exfiltrate";
/// Where mail goes.
pub(super) const PLACES: &str = "email|e-mail|address|inbox|mailbox|webhook|endpoint";

/// What is to be done to what another tool is given or answers.
pub(super) const CHANGES: &str = "modify|modifies|replace|replaces|override|overrides|overwrite|alter|change|changes|set|prepend|append|redirect|substitute|rewrite|falsify";
pub(super) const DATA: &str = "result|results|value|values|recipient|recipients|response|responses|output|outputs|argument|arguments|address|addresses";
pub(super) const WHEN: &str = "before|after|when|whenever|while|once|if|changes|alters|modifies|overrides";
pub(super) const TOOLS: &str = "tool|tools|operation|function|command";
/// Before it, which makes it the tool itself.
pub(super) const OWN: &str = "this|the|a|an|any|current|same|each|every";
pub(super) const TURNS: &[&[(&str, usize)]] = &[&[
    ("this", 0),
    ("tool|server|function", 0),
    ("changes|alters|modifies|overrides", 0),
    ("how|what", 0),
    ("works|behaves|work|behave|does|do|returns", 3),
]];

/// Precedence over other tools, or a bad name for them; and over whatever else a model was told.
pub(super) const PREFERENCE: &[&[(&str, usize)]] = &[
    &[
        ("ignore|disregard|forget", 0),
        ("previous|prior|above|earlier|preceding|all|your|system", 2),
        ("instructions|rules|prompt|prompts|directives|guidelines", 2),
    ],
    &[
        ("always|automatically", 0),
        ("choose|select|prefer|pick", 0),
        ("this", 0),
        ("tool|function|server|one", 0),
    ],
    &[("this", 0), ("tool|function", 0), ("no", ALL), ("matter", 0)],
    &[("no", 0), ("matter", 0), ("this", 8), ("tool|function", 0)],
    &[("this", 0), ("tool|function", 0), ("rather|instead", 0), ("than|of", 0), ("other|others|any|all", 0)],
    &[("tool|tools", 0), ("highest|top|absolute", ALL), ("priority", 0)],
    &[("highest|top|absolute", 0), ("priority", 0), ("tool|tools", ALL)],
    &[
        ("never|not|don't", 0),
        ("use|call|choose|select", 0),
        ("any|the|all", 0),
        ("other|others", 0),
        ("tool|tools|function|functions", 0),
    ],
    &[("even", 0), ("if|when", 0), ("another|other", 0), ("tool|tools|function", 0)],
    &[
        ("other|another", 0),
        ("tool|tools|function|functions", 0),
        ("are|is|return|returns|give|gives", 1),
        ("wrong|deprecated|insecure|unsafe|outdated|inaccurate|broken|malicious|compromised", 2),
    ],
    &[("available|present|installed", 0), ("do", 0), ("not", 0), ("use|call", 0), ("it|them", 0)],
];

/// What was said, to the model or by other tools.
pub(super) const CONVERSATION: &[&[(&str, usize)]] = &[
    &[
        ("full|entire|whole|complete|previous|prior|all|past|raw", 0),
        ("conversation|chat|dialogue|transcript|messages", 3),
    ],
    &[("conversation|chat|message|dialogue", 0), ("history|log|transcript", 0)],
    &[("system", 0), ("prompt|message|instructions", 0)],
    &[("environment", 0), ("variables", 0)],
    &[
        ("output|outputs|result|results|response|responses", 0),
        ("of|from", 0),
        ("other|previous|earlier|prior|another", 2),
        ("tool|tools|call|calls", 0),
    ],
    &[("your", 0), ("instructions|reasoning", 1)],
    &[("list", 0), ("of", 0), ("tools", 2)],
];
/// That it is to be given.
pub(super) const FILLS: &str =
    "fill|include|pass|put|contain|contains|paste|copy|provide|supply|add|attach|write|dump";
/// Where.
pub(super) const SLOTS: &str = "parameter|argument|field|param|sidenote|notes|context";
/// The same by the name of a parameter, in letters alone.
pub(super) const NAMES: &str = "conversationhistory|chathistory|fullconversation|entireconversation|conversationcontext|previousmessages|previousconversation|allmessages|messagehistory|fullcontext|chatcontext|fullprompt|originalprompt|chainofthought|availabletools|othertools|toolresults|tooloutputs";

/// Files of secrets.
pub(super) const SECRETS: &str = "~/.|/.env| .env|/etc/passwd|/etc/shadow|id_rsa|id_ed25519|.git-credentials|.aws/credentials|.npmrc|.netrc|.kube/config|mcp.json";
pub(super) const READS: &str = "read|call|open|fetch|cat|send|load|include|pass|attach|prepend|append|upload";
pub(super) const ORDERS: &str =
    "before|first|must|always|initialise|initialize|prior|each|every|also|otherwise|required";

/// Commands in code.
pub(super) const EVALUATED: &str = "os.system('|os.system(\"|subprocess.run('|subprocess.run([|subprocess.call(|subprocess.popen(|child_process.exec(|.getruntime().exec(|eval(\"|exec(\"";

/// Words of which one stands in each text that is seen by another rule than of standing orders, changes and files.
pub(super) const ANCHORS: &str = "instructions|rules|directives|guidelines|tool|this function|this server|this one|function|priority|others|no matter|not use|not call|conversation|chat|dialogue|transcript|messages|history|context|prompt|message log|message transcript|system message|system instructions|environment|calls|your|alters|modifies|overrides|thought|<script|os.system|subprocess.|child_process|getruntime|eval(|exec(";
