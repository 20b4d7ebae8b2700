//! Metrics for Prometheus and, where configured, one OTLP span per call.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use opentelemetry::{
    Context, KeyValue,
    trace::{
        Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags,
        TraceId, TraceState, Tracer as _, TracerProvider as _,
    },
};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracer, SdkTracerProvider},
};
use portcullis_config::Otlp;
use portcullis_core::Limits;
use portcullis_net::{
    body::read_bounded,
    client::{HttpUpstream, UpstreamOptions},
    guard::EgressPolicy,
};
use portcullis_proxy::trace::{Span, Tracer};
use portcullis_store::Ledger;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _},
    metrics::{
        family::Family,
        gauge::{ConstGauge, Gauge},
    },
    registry::Registry,
};
use tokio::runtime::Handle;

/// Metrics and traces of this node.
pub(crate) struct Telemetry {
    registry: Registry,
    dangers: Dangers,
    traces: Option<(SdkTracerProvider, Arc<Spans>)>,
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").field("traces", &self.traces.is_some()).finish_non_exhaustive()
    }
}

/// Metrics about the ledger: name and meaning.
pub(crate) const LEDGER_METRICS: [(&str, &str); 3] = [
    ("portcullis_ledger_healthy", "Whether entries can be appended"),
    ("portcullis_ledger_size", "Entries that survive a crash"),
    ("portcullis_ledger_lag", "Durable entries that no checkpoint covers yet"),
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Danger {
    key: String,
}

/// Switches that give up protection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dangers(Family<Danger, Gauge>);

impl Dangers {
    /// Counted in `registry`.
    pub(crate) fn registered(registry: &mut Registry) -> Self {
        let dangers = Self::default();
        let help = "1 for each `danger_` switch of the configuration that is on";
        registry.register("portcullis_danger", help, dangers.0.clone());
        dangers
    }

    /// For the reference.
    pub(crate) fn sample(&self) {
        self.0.get_or_create(&Danger { key: String::new() }).set(1);
    }
}

/// The state of the ledger at the time of the scrape.
#[derive(Debug)]
struct LedgerState(Arc<dyn Ledger>);

impl Collector for LedgerState {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let status = self.0.status();
        let values = [u64::from(status.healthy), status.durable, status.lag];
        for ((name, help), value) in LEDGER_METRICS.into_iter().zip(values) {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

impl Telemetry {
    pub(crate) fn new(
        mut registry: Registry,
        otlp: Option<&Otlp>,
        ledger: Arc<dyn Ledger>,
    ) -> anyhow::Result<Self> {
        let dangers = Dangers::registered(&mut registry);
        registry.register_collector(Box::new(LedgerState(ledger)));
        let traces = otlp.map(exporter).transpose()?;
        Ok(Self { registry, dangers, traces })
    }

    /// The metrics as text.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(_) => String::new(),
        }
    }

    /// Tells of the switches that are on, in the log and in the metrics.
    pub(crate) fn warn(&self, dangers: &[(String, &'static str)]) {
        self.dangers.0.clear();
        for (key, what) in dangers {
            tracing::warn!(key, "DANGER: {what}");
            self.dangers.0.get_or_create(&Danger { key: key.clone() }).set(1);
        }
    }

    pub(crate) fn tracer(&self) -> Option<Arc<dyn Tracer>> {
        self.traces.as_ref().map(|(_, spans)| Arc::clone(spans) as Arc<dyn Tracer>)
    }

    /// Sends what is waiting.
    pub(crate) fn shutdown(&self) {
        if let Some((provider, _)) = &self.traces {
            let provider = provider.clone();
            // Its threads block; the runtime must not.
            let _ = tokio::task::block_in_place(move || provider.shutdown());
        }
    }
}

fn exporter(otlp: &Otlp) -> anyhow::Result<(SdkTracerProvider, Arc<Spans>)> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(Sender::new(otlp)?)
        .with_endpoint(otlp.endpoint.as_str())
        .build()
        .context("traces cannot be exported")?;
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(Sampler::TraceIdRatioBased(otlp.sample_ratio.0))
        .with_resource(Resource::builder().with_service_name("portcullis").build())
        .build();
    let tracer = provider.tracer("portcullis");
    Ok((provider, Arc::new(Spans(tracer))))
}

/// Sends spans through the guarded client, on the runtime of the gateway: the exporter has a thread without one.
#[derive(Debug)]
struct Sender {
    client: Arc<HttpUpstream>,
    runtime: Handle,
}

impl Sender {
    fn new(otlp: &Otlp) -> anyhow::Result<Self> {
        // The collector is the operator's own choice, often on this machine or in this network.
        let egress = EgressPolicy::of(true, true);
        let options = UpstreamOptions::new(egress, &Limits::default());
        let client = HttpUpstream::new(&otlp.endpoint, &options).context("telemetry.otlp.endpoint")?;
        Ok(Self { client: Arc::new(client), runtime: Handle::current() })
    }
}

#[async_trait::async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = Arc::clone(&self.client);
        let sent = self.runtime.spawn(async move {
            let response = client.send(request.map(Full::new)).await?;
            let (head, body) = response.into_parts();
            let body = read_bounded(body, 1_048_576, Duration::from_secs(5)).await?;
            Ok::<_, HttpError>(Response::from_parts(head, body))
        });
        sent.await?
    }
}

/// Turns finished calls into spans (OpenTelemetry conventions for MCP).
#[derive(Debug)]
struct Spans(SdkTracer);

impl Tracer for Spans {
    fn call(&self, call: &Span) {
        let end = SystemTime::now();
        let start = end.checked_sub(Duration::from_micros(call.duration_us)).unwrap_or(end);
        let name = if call.target.is_empty() {
            call.method.clone().into_owned()
        } else {
            format!("{} {}", call.method, call.target)
        };
        let mut attributes = vec![
            KeyValue::new("mcp.method.name", call.method.clone()),
            KeyValue::new("mcp.protocol.version", call.revision),
        ];
        attributes.extend(call.refusal.map(|code| KeyValue::new("error.type", code.name())));
        let builder = SpanBuilder::from_name(name)
            .with_kind(SpanKind::Server)
            .with_start_time(start)
            .with_attributes(attributes);
        let parent = call.parent.as_deref().and_then(parent).unwrap_or_default();
        let mut span = self.0.build_with_context(builder, &parent);
        if call.refusal.is_some() {
            span.set_status(Status::error("refused"));
        }
        span.end_with_timestamp(end);
    }
}

/// The context that a `traceparent` names. Its sampling flag is not taken over: that decision is ours.
fn parent(text: &str) -> Option<Context> {
    let mut parts = text.split('-').skip(1);
    let trace = TraceId::from_hex(parts.next()?).ok()?;
    let span = SpanId::from_hex(parts.next()?).ok()?;
    let context = SpanContext::new(trace, span, TraceFlags::default(), true, TraceState::default());
    Some(Context::new().with_remote_span_context(context))
}
