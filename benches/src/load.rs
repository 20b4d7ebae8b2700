//! The client side: lanes, each one connection with one session, that call in a closed or an open loop and
//! check every answer.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri, body::Incoming};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::payload::{self, Era, Expected};

/// Lists that are measured.
const LISTS: usize = 400;

/// What is called, and how.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Where; plain http on loopback.
    pub(crate) url: Uri,
    /// Bearer token, where one is needed.
    pub(crate) token: Option<String>,
    /// Revision spoken.
    pub(crate) era: Era,
    /// The tool that is called.
    pub(crate) tool: &'static str,
}

/// What a loop saw. Latencies in microseconds, sorted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// One per call.
    pub(crate) latencies_us: Vec<u32>,
    /// From the first call to the last answer.
    pub(crate) elapsed: Duration,
}

impl Outcome {
    /// Calls answered.
    pub(crate) fn calls(&self) -> usize {
        self.latencies_us.len()
    }

    /// The latency that `share` of the calls did not exceed.
    pub(crate) fn quantile_us(&self, share: f64) -> f64 {
        let last = self.latencies_us.len().saturating_sub(1);
        let place = (last as f64 * share).round() as usize;
        self.latencies_us.get(place).map_or(0.0, |us| f64::from(*us))
    }

    /// Calls per second.
    pub(crate) fn rate(&self) -> f64 {
        self.calls() as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// One connection with its session.
#[derive(Debug)]
pub(crate) struct Lane {
    sender: SendRequest<Full<Bytes>>,
    target: Target,
    headers: HeaderMap,
    next_id: u64,
}

/// Opens `count` lanes to the target.
pub(crate) async fn open(target: &Target, count: usize) -> Result<Vec<Lane>> {
    let mut lanes = Vec::with_capacity(count);
    for _ in 0..count {
        lanes.push(Lane::open(target.clone()).await?);
    }
    Ok(lanes)
}

/// Ends the sessions of the lanes, so that the next round starts with none.
pub(crate) async fn close(lanes: Vec<Lane>) -> Result<()> {
    for mut lane in lanes {
        if lane.target.era == Era::Legacy {
            let response = lane.send(Method::DELETE, Bytes::new()).await?;
            response.into_body().collect().await?;
        }
    }
    Ok(())
}

/// Every lane sends its next call when the last answer is whole, for `time`.
pub(crate) async fn closed(lanes: &mut Vec<Lane>, size: usize, time: Duration) -> Result<Outcome> {
    let expected = lanes.first().map(|lane| Expected::new(size, lane.target.era)).context("no lane")?;
    let start = Instant::now();
    let end = start + time;
    let mut runs = JoinSet::new();
    for mut lane in lanes.drain(..) {
        let expected = expected.clone();
        runs.spawn(async move {
            let mut latencies = Vec::new();
            while Instant::now() < end {
                let begun = Instant::now();
                lane.call(size, &expected).await?;
                latencies.push(micros(begun.elapsed()));
            }
            Ok((lane, latencies))
        });
    }
    gather(runs, lanes, start).await
}

/// Calls fall due at a fixed rate, shared out over the lanes; latency counts from the due time, so a stall is
/// seen by every call that it delays.
pub(crate) async fn paced(lanes: &mut Vec<Lane>, size: usize, rate: u32, time: Duration) -> Result<Outcome> {
    let expected = lanes.first().map(|lane| Expected::new(size, lane.target.era)).context("no lane")?;
    let start = Instant::now();
    let mut due = Vec::with_capacity(lanes.len());
    let mut runs = JoinSet::new();
    for mut lane in lanes.drain(..) {
        let expected = expected.clone();
        // Bounded by the number of calls in `time`: the pacer must never wait for a slow lane.
        let (tell, mut told) = mpsc::unbounded_channel::<Instant>();
        due.push(tell);
        runs.spawn(async move {
            let mut latencies = Vec::new();
            while let Some(at) = told.recv().await {
                lane.call(size, &expected).await?;
                latencies.push(micros(at.elapsed()));
            }
            Ok((lane, latencies))
        });
    }
    let calls = (f64::from(rate) * time.as_secs_f64()) as u32;
    // The runtime's timers count whole milliseconds; a thread's sleep is good to some 50 µs.
    let pacer = std::thread::spawn(move || {
        for (number, lane) in (0..calls).zip(due.iter().cycle()) {
            let at = start + Duration::from_secs(1) * number / rate;
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            if lane.send(at).is_err() {
                return;
            }
        }
    });
    let outcome = gather(runs, lanes, start).await;
    ensure!(pacer.join().is_ok(), "the pacer stopped");
    outcome
}

async fn gather(
    mut runs: JoinSet<Result<(Lane, Vec<u32>)>>,
    lanes: &mut Vec<Lane>,
    start: Instant,
) -> Result<Outcome> {
    let mut latencies_us = Vec::new();
    while let Some(run) = runs.join_next().await {
        let (lane, latencies) = run??;
        lanes.push(lane);
        latencies_us.extend(latencies);
    }
    let elapsed = start.elapsed();
    ensure!(!latencies_us.is_empty(), "no call was answered");
    latencies_us.sort_unstable();
    Ok(Outcome { latencies_us, elapsed })
}

/// The median time of a list of so many tools, µs, and the rest in words.
pub(crate) async fn lists(target: &Target, tools: usize) -> Result<(f64, String)> {
    let mut lanes = open(target, 1).await?;
    let lane = lanes.first_mut().context("no lane")?;
    // The first answers wait for the catalogue.
    let whole = loop {
        let length = lane.list().await?;
        if length > tools * 100 {
            break length;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let mut times = Vec::with_capacity(LISTS);
    for _ in 0..LISTS {
        let begun = Instant::now();
        ensure!(lane.list().await?.abs_diff(whole) < 16, "the list changed");
        times.push(begun.elapsed().as_secs_f64() * 1_000_000.0);
    }
    times.sort_by(f64::total_cmp);
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or(f64::INFINITY);
    Ok((at(50), format!("p99 {:.0}, {} KiB", at(99), whole / 1024)))
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

impl Lane {
    async fn open(target: Target) -> Result<Self> {
        let address = target.url.authority().context("the URL names no host")?;
        let stream =
            TcpStream::connect(address.as_str()).await.with_context(|| format!("cannot reach {address}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_str(address.as_str())?);
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        headers.insert("accept", HeaderValue::from_static("application/json, text/event-stream"));
        if let Some(token) = &target.token {
            headers.insert("authorization", HeaderValue::from_str(&format!("Bearer {token}"))?);
        }
        let mut lane = Self { sender, target, headers, next_id: 1 };
        lane.introduce().await?;
        Ok(lane)
    }

    /// What the revision asks for before the first call.
    async fn introduce(&mut self) -> Result<()> {
        match self.target.era {
            Era::Legacy => {
                let response = self.send(Method::POST, payload::initialize()).await?;
                let session = response.headers().get("mcp-session-id").cloned();
                let status = response.status();
                let body = response.into_body().collect().await?.to_bytes();
                ensure!(status == StatusCode::OK, "initialize: {status} {}", String::from_utf8_lossy(&body));
                if let Some(session) = session {
                    self.headers.insert("mcp-session-id", session);
                }
                self.announce(&[]);
                let response = self.send(Method::POST, payload::initialized()).await?;
                let status = response.status();
                response.into_body().collect().await?;
                ensure!(status == StatusCode::ACCEPTED, "notifications/initialized: {status}");
            }
            Era::Modern => self.announce(&[("mcp-method", "tools/call"), ("mcp-name", self.target.tool)]),
        }
        Ok(())
    }

    fn announce(&mut self, more: &[(&'static str, &'static str)]) {
        let version = HeaderValue::from_static(self.target.era.version());
        self.headers.insert("mcp-protocol-version", version);
        for (name, value) in more {
            self.headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
    }

    /// One call; an answer that is not the right one ends the bench.
    async fn call(&mut self, size: usize, expected: &Expected) -> Result<()> {
        let id = self.next_id;
        self.next_id += 1;
        let response =
            self.send(Method::POST, payload::call(id, self.target.tool, size, self.target.era)).await?;
        let status = response.status();
        let mut body = response.into_body();
        let mut start = Vec::with_capacity(64);
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            length += data.len();
            start.extend(data.iter().take(64_usize.saturating_sub(start.len())));
        }
        if status != StatusCode::OK || !expected.fits(id, &start, length) {
            let seen = String::from_utf8_lossy(&start).into_owned();
            bail!("{}: call {id} got {status}, {length} bytes, `{seen}…`", self.target.url);
        }
        Ok(())
    }

    /// The list of tools, whole; its length.
    pub(crate) async fn list(&mut self) -> Result<usize> {
        let id = self.next_id;
        self.next_id += 1;
        let body = format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"tools/list\",\"params\":{{}}}}");
        let response = self.send(Method::POST, Bytes::from(body)).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(status == StatusCode::OK, "tools/list: {status} {}", String::from_utf8_lossy(&body));
        Ok(body.len())
    }

    /// The session's own event stream, opened and then left alone. Dropping it closes the connection.
    pub(crate) async fn stream(mut self) -> Result<(Self, Incoming)> {
        self.headers.insert("accept", HeaderValue::from_static("text/event-stream"));
        let response = self.send(Method::GET, Bytes::new()).await?;
        let status = response.status();
        ensure!(status == StatusCode::OK, "GET: {status}");
        let mut body = response.into_body();
        ensure!(body.frame().await.is_some(), "the stream ended at once");
        Ok((self, body))
    }

    async fn send(&mut self, method: Method, body: Bytes) -> Result<Response<Incoming>> {
        self.sender.ready().await?;
        let path = self.target.url.path_and_query().context("the URL has no path")?.as_str();
        let mut request = Request::builder().method(method).uri(path).body(Full::new(body))?;
        request.headers_mut().clone_from(&self.headers);
        Ok(self.sender.send_request(request).await?)
    }
}
