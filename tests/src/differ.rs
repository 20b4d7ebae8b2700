//! One message played twice, directly at its server and through the gateway, and both sides' view of it compared byte
//! for byte.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use portcullis_testkit::{Era, Fault, Hostile, McpClient, Outcome, Received, Reply};
use serde_json::{Value, json};

use crate::pair::Pair;

/// What may differ, by name, and why. Everything else must not; each row has a test that shows it and nothing beside
/// it, and a row of the same name in `docs/operate/what-changes.md`.
pub const INTENDED: &[(&str, &str)] = &[
    (
        "request headers",
        "only those of the protocol reach a server, and the server's own credentials are added",
    ),
    ("session ids", "a client knows the gateway's, a server its own"),
    (
        "task ids",
        "a client knows the gateway's, sealed for it, a server its own; lists name only the caller's",
    ),
    ("extensions", "those that are neither understood nor listed are not offered to the other side"),
    (
        "request ids over stdio",
        "callers share a child, so ids and progress tokens are numbered and given back",
    ),
    ("line breaks over stdio", "a message to a child is one line; breaks between members become spaces"),
    ("opening over stdio", "a shared child is opened once, by the gateway"),
    ("lists", "answered from the pinned catalogue, on one page, with what the caller may use"),
    (
        "masked values",
        "a text in which a detector found something is written anew, or its member left out (`drop`), and nothing around it; with `warn` marks stand round it, a text before the content, and `dev.portcullis/warning` in `_meta`",
    ),
    (
        "reads",
        "a result of 2026-07-28 is used again as long as its `ttlMs` lasts; `ttlMs` then says what is left of it",
    ),
    ("cache scope", "`public` becomes `private`, since the answer was made for one caller"),
    (
        "event framing",
        "events are written anew: messages and their ids are the server's; words of comments, events of another name than `message`, and ids that are long or hold what a detector finds are left out",
    ),
    ("response headers", "content type and session are kept; the others are the gateway's own"),
    ("a server's 401 and 403", "they concern the gateway's credential and become `upstream.unavailable`"),
];

/// Request headers that may differ.
const HEADERS_OF_HOPS: &[&str] =
    &["authorization", "connection", "content-length", "host", "transfer-encoding"];

/// One request and what the server says to it.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// Its method.
    pub method: &'static str,
    /// What the header `Mcp-Name` mirrors.
    pub subject: Option<(&'static str, &'static str)>,
    /// Members of `params` but `_meta`, each followed by a comma.
    pub params: String,
    /// Members of `_meta`, each preceded by a comma.
    pub meta: String,
    /// Members beside `params`, each followed by a comma.
    pub beside: String,
    /// HTTP status of the answer.
    pub status: u16,
    /// Messages in their order, the answer last. `$ID` and `$TOKEN` are the request's own.
    pub replies: Vec<String>,
}

impl Case {
    /// The request's text.
    #[must_use]
    pub fn request(&self, era: Era, id: &str, token: &str) -> String {
        let version = match era {
            Era::Legacy => "",
            Era::Modern => {
                r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"#
            }
        };
        let Self { method, params, meta, beside, .. } = self;
        format!(
            " {{{beside} \"method\" :\"{}\",\n\"params\":{{{params}\"_meta\":{{{version}\"progressToken\":{token}{meta}}} }},\"id\":{id},\"jsonrpc\":\"\\u0032.0\"}}\n",
            method.replacen('/', "\\/", 1)
        )
    }

    /// The messages of the answer.
    #[must_use]
    pub fn answers(&self, id: &str, token: &str) -> Vec<String> {
        self.replies.iter().map(|reply| reply.replace("$ID", id).replace("$TOKEN", token)).collect()
    }

    fn shape(&self) -> Value {
        let mut params = json!({});
        if let (Some((name, value)), Some(members)) = (self.subject, params.as_object_mut()) {
            members.insert(name.to_owned(), json!(value));
        }
        json!({"method": self.method, "params": params})
    }
}

/// How a server writes its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// One JSON body.
    Json,
    /// An event stream as the specification writes it.
    Events,
    /// An event stream with everything the format allows.
    OddEvents,
}

impl Media {
    /// A whole HTTP answer with these messages.
    #[must_use]
    pub fn response(self, status: u16, messages: &[String]) -> Hostile {
        let (kind, body) = match self {
            Self::Json => ("application/json", messages.concat()),
            Self::Events => ("text/event-stream", messages.iter().map(|one| event("", one, "\n")).collect()),
            Self::OddEvents => {
                let odd = |one: &String| {
                    event(": hello\r\nretry: 77\r\nid: é 1\r\nevent:message\r\nx: y\r\n", one, "\r\n")
                };
                ("text/event-stream; charset=utf-8", messages.iter().map(odd).collect())
            }
        };
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status} Scripted\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n");
        Hostile::Raw(format!("{head}{body}").into_bytes())
    }
}

fn event(before: &str, message: &str, end: &str) -> String {
    // Each of the three line ends begins another line of data.
    let message = message.replace("\r\n", "\n");
    let lines = message.split(['\n', '\r']).map(|line| format!("data: {line}{end}"));
    format!("{before}{}{end}", lines.collect::<String>())
}

/// One event as a client reads it: every field, and the data joined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// `event`, which is `message` where it is not given.
    pub kind: String,
    /// `id`.
    pub id: Option<String>,
    /// `retry`.
    pub retry: Option<String>,
    /// `data`.
    pub data: String,
}

/// The events of a stream, read as the standard says.
#[must_use]
pub fn events(text: &str) -> Vec<Event> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let blocks = text.split("\n\n").filter(|block| !block.trim().is_empty());
    let parse = |block: &str| {
        let mut event = Event { kind: "message".into(), ..Event::default() };
        let mut data = Vec::new();
        for line in block.lines() {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
            match name {
                "event" => event.kind = value,
                "id" => event.id = Some(value),
                "retry" => event.retry = Some(value),
                "data" => data.push(value),
                _ => {}
            }
        }
        event.data = data.join("\n");
        event
    };
    blocks.map(parse).filter(|event| *event != Event { kind: "message".into(), ..Event::default() }).collect()
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, direct: &T, through: &T) -> Outcome {
    if direct == through {
        return Ok(());
    }
    let (direct, through) = (format!("{direct:?}"), format!("{through:?}"));
    let equal = direct.chars().zip(through.chars()).take_while(|(one, other)| one == other).count();
    let around = |text: &str| text.chars().skip(equal.saturating_sub(60)).take(160).collect::<String>();
    Err(Fault::from(format!("{what} differ: direct «{}», through «{}»", around(&direct), around(&through))))
}

fn head(request: &Received) -> Vec<(String, String)> {
    let kept = |(name, _): &&(String, String)| !HEADERS_OF_HOPS.contains(&name.as_str());
    let mut head: Vec<_> = request.headers.iter().filter(kept).cloned().collect();
    head.sort();
    head
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What both sides of one exchange saw must be the same.
///
/// # Errors
/// The first thing that differs, or a request that did not arrive.
pub fn compare(received: &[Received], direct: &Reply, through: &Reply) -> Outcome {
    let [first, second] = received else {
        return Err(format!(
            "{} of 2 requests arrived: {} {}",
            received.len(),
            through.status,
            through.text()
        )
        .into());
    };
    same("the requests", &text(&first.body), &text(&second.body))?;
    same("the bytes of the requests", &first.body, &second.body)?;
    same("the request lines", &(&first.http_method, &first.target), &(&second.http_method, &second.target))?;
    same("the request headers", &head(first), &head(second))?;
    same("the statuses", &direct.status, &through.status)?;
    let kind = |reply: &Reply| reply.header("content-type").split(';').next().unwrap_or_default().to_owned();
    if direct.body.is_empty() {
        return same("the answers", &text(&direct.body), &text(&through.body));
    }
    same("the media types", &kind(direct), &kind(through))?;
    if kind(direct) == "text/event-stream" {
        return same("the events", &events(&direct.text()), &events(&through.text()));
    }
    same("the answers", &direct.text(), &through.text())?;
    same("the bytes of the answers", &direct.body, &through.body)
}

/// A client at the server itself and one at the gateway before it, in the same revision.
#[derive(Debug)]
pub struct Both<'a> {
    pair: &'a Pair,
    direct: McpClient,
    through: McpClient,
}

impl<'a> Both<'a> {
    /// Opens both.
    ///
    /// # Errors
    /// One of them is refused.
    pub async fn open(pair: &'a Pair, era: Era) -> Outcome<Self> {
        let direct = McpClient::connect(&pair.server.url(), None, era).await?;
        Ok(Self { pair, direct, through: pair.client(era).await? })
    }

    /// Plays a request at both and compares.
    ///
    /// # Errors
    /// What differs.
    pub async fn play(&self, case: &Case, media: Media, id: &str, token: &str) -> Outcome {
        self.pair.server.on(case.method, media.response(case.status, &case.answers(id, token)));
        let body = case.request(self.direct.era, id, token);
        self.send(&case.shape(), &body)
            .await
            .map_err(|fault| Fault::from(format!("{}, {:?}, {media:?}: {fault}", case.name, self.direct.era)))
    }

    /// Sends the same body to both and compares.
    ///
    /// # Errors
    /// What differs.
    pub async fn send(&self, shape: &Value, body: &str) -> Outcome {
        self.pair.server.forget();
        let direct = self.direct.send_raw(shape, body.to_owned()).await?;
        let through = self.through.send_raw(shape, body.to_owned()).await?;
        compare(&self.pair.server.received(), &direct, &through)
    }
}

/// A recording child: where it writes what it was sent, and the file it answers from.
#[derive(Debug)]
pub struct Recording {
    program: PathBuf,
    seen: PathBuf,
    replies: PathBuf,
}

impl Recording {
    /// A child of this program that keeps its files in `folder`.
    #[must_use]
    pub fn new(program: &str, folder: &Path, name: &str) -> Self {
        let (seen, replies) = (folder.join(format!("{name}.seen")), folder.join("replies"));
        Self { program: program.into(), seen, replies }
    }

    /// The command as a JSON array, which is YAML as well.
    #[must_use]
    pub fn command(&self) -> String {
        json!([self.program, self.seen, self.replies]).to_string()
    }

    /// What it answers from now on.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn answers(&self, replies: &[String]) -> Outcome {
        let lines = replies.iter().map(|reply| format!("{}\n", on_one_line(reply)));
        Ok(std::fs::write(&self.replies, lines.collect::<String>())?)
    }

    /// Every line it was sent.
    ///
    /// # Errors
    /// It was never started.
    pub fn seen(&self) -> Outcome<String> {
        Ok(std::fs::read_to_string(&self.seen)?)
    }

    /// The last line it was sent.
    ///
    /// # Errors
    /// There is none.
    pub fn last(&self) -> Outcome<String> {
        Ok(self.seen()?.lines().last().ok_or("nothing was sent")?.to_owned())
    }

    /// Runs it alone, sends one line and returns what it says.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn direct(&self, line: &str) -> Outcome<Vec<String>> {
        let mut child = Command::new(&self.program);
        child.arg(&self.seen).arg(&self.replies).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = child.spawn()?;
        // Taken and dropped, so that the child sees the end of its input.
        writeln!(child.stdin.take().ok_or("no input")?, "{line}")?;
        let output = child.wait_with_output()?;
        Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect())
    }
}

/// The text as a line transport carries it.
#[must_use]
pub fn on_one_line(text: &str) -> String {
    text.replace(['\r', '\n'], " ")
}

/// Plays a request at a child alone and at one behind the gateway, and compares.
///
/// # Errors
/// What differs.
pub async fn play_lines(case: &Case, alone: &Recording, behind: &Recording, client: &McpClient) -> Outcome {
    let (id, token) = ("\"\\u0069 1\"", "\"\\/t\"");
    behind.answers(&case.replies)?;
    let body = case.request(client.era, id, token);
    let direct = alone.direct(&on_one_line(&body))?;
    let reply = client.send_raw(&case.shape(), body.clone()).await?;
    let through = if reply.header("content-type").starts_with("text/event-stream") {
        events(&reply.text()).into_iter().map(|event| event.data).collect()
    } else {
        vec![reply.text()]
    };
    same("the answers", &direct, &through)?;
    same("the first lines", &on_one_line(&body), &alone.last()?)?;
    let line = behind.last()?;
    let number: Value = serde_json::from_str::<Value>(&line)?.get("id").cloned().unwrap_or(Value::Null);
    let number = number.as_u64().ok_or_else(|| format!("no number: {line}"))?.to_string();
    // Apart from the two that belong to one client, the child was sent what the client sent.
    same("the lines", &on_one_line(&case.request(client.era, &number, &number)), &line)
}
