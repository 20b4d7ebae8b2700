//! Where ledger entries go beside the ledger, as configured.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use portcullis_admin::{Pending, SinkBook, SinkState};
use portcullis_certs::Spiffe;
use portcullis_config::{Config, FieldKeep, Reference, SinkGrade, SinkSection, SinkStart};
use portcullis_core::{Clock, Secret};
use portcullis_net::{guard::EgressPolicy, tls::Workload};
use portcullis_secrets::Broker;
use portcullis_siem::{
    Counts, Couriers, Credential, Fields, Filter, Format, Grade, Keep, Parts, Reach, Settings,
};
use portcullis_store::SinkPlaces;

use super::{
    compile::World,
    judge::{Found, mistake},
    server_tls,
    start::Core,
};

/// A secret by its reference.
#[derive(Debug)]
struct Followed {
    reference: Reference,
    /// Nothing while a configuration is only looked at.
    broker: Option<Arc<Broker>>,
}

#[async_trait]
impl Credential for Followed {
    async fn value(&self) -> Result<Secret<String>, String> {
        let broker = self.broker.as_ref().ok_or("nothing follows references here")?;
        broker.value(&self.reference, None).await.map_err(|failure| failure.to_string())
    }
}

/// The couriers of a gateway, none of them on its way as yet.
pub(super) fn couriers(world: &World, places: Arc<dyn SinkPlaces>, counts: Counts) -> Couriers {
    Couriers::new(Parts {
        ledger: Arc::clone(&world.ledger),
        places,
        log: Arc::clone(&world.instance),
        clock: Arc::clone(&world.clock),
        key: world.index(),
        counts,
    })
}

/// What cannot be used of the section `sinks`.
pub(super) fn check(config: &Config) -> Found {
    let clock: Arc<dyn Clock> = Arc::new(super::SystemClock::new());
    let mut found = Found::new();
    for (name, section) in &config.settings.sinks {
        let built = settings(name, section, (None, Some(Workload::default())), &clock)
            .and_then(|one| Couriers::check(&[one]));
        if let Err(reason) = built {
            found.push(mistake(format!("sinks.{name}"), reason, "docs/operate/siem.md shows each kind"));
        }
    }
    found
}

/// Has entries go where this configuration says.
///
/// # Errors
/// What cannot be used; then they go where they went.
pub(super) fn apply(core: &Core, config: &Config) -> Result<(), String> {
    core.telemetry.warn(&config.settings.dangers());
    let one = |(name, section): (&String, &SinkSection)| {
        let with = (Some(&core.world.broker), core.world.spiffe.as_ref().map(Spiffe::workload));
        settings(name, section, with, &core.world.clock)
    };
    core.couriers.apply(config.settings.sinks.iter().map(one).collect::<Result<_, _>>()?)
}

fn settings(
    name: &str,
    section: &SinkSection,
    (broker, workload): (Option<&Arc<Broker>>, Option<Workload>),
    clock: &Arc<dyn Clock>,
) -> Result<Settings, String> {
    let mut parts = vec![format!("{section:?}")];
    let tls = server_tls::read(section.tls.as_ref(), workload, &mut parts)?;
    let local = section.url.as_ref().is_some_and(portcullis_config::Receiver::is_local);
    let token = section.token.clone().map(|reference| {
        Arc::new(Followed { reference, broker: broker.map(Arc::clone) }) as Arc<dyn Credential>
    });
    let format =
        Format::named(&section.format.0).ok_or_else(|| format!("unknown format `{}`", section.format.0))?;
    Ok(Settings {
        name: name.to_owned(),
        kind: section.kind.0.clone(),
        url: section.url.as_ref().map(|url| url.0.clone()),
        path: section.path.clone(),
        token,
        format,
        filter: Filter {
            events: section.events.clone(),
            except: section.except.clone(),
            servers: section.servers.clone(),
            grade: grade(section.severity),
        },
        fields: Fields {
            identity: keep(section.identity),
            network: keep(section.network),
            content: keep(section.content),
        },
        index: section.index.clone(),
        acknowledged: section.acknowledged,
        file_bytes_max: section.file_bytes_max.0,
        files_kept: section.files_kept.0,
        from_start: section.from == SinkStart::Start,
        reach: Reach {
            egress: EgressPolicy {
                allow_http: local || section.danger_plain_text,
                ..EgressPolicy::of(local, section.allow_private)
            },
            tls,
            timeout: Duration::from_millis(section.timeout_ms.0),
        },
        clock: Arc::clone(clock),
        signature: parts.join("\n"),
    })
}

const fn grade(grade: SinkGrade) -> Grade {
    match grade {
        SinkGrade::Info => Grade::Info,
        SinkGrade::Low => Grade::Low,
        SinkGrade::Medium => Grade::Medium,
        SinkGrade::High => Grade::High,
        SinkGrade::Critical => Grade::Critical,
    }
}

const fn keep(keep: FieldKeep) -> Keep {
    match keep {
        FieldKeep::Keep => Keep::Keep,
        FieldKeep::Digest => Keep::Digest,
        FieldKeep::LeaveOut => Keep::LeaveOut,
    }
}

/// What the admin API asks of them.
#[derive(Debug)]
pub(super) struct Book(pub(super) Arc<Core>);

impl SinkBook for Book {
    fn list(&self) -> Vec<SinkState> {
        let plain = |name: &str| {
            let config = self.0.config.load();
            config.settings.sinks.get(name).is_some_and(|section| section.danger_plain_text)
        };
        let view = |status: portcullis_siem::Status| SinkState {
            plain_text: plain(&status.name),
            name: status.name,
            kind: status.kind,
            format: status.format,
            next: status.next,
            lag: status.lag,
            delivered: status.delivered,
            skipped: status.skipped,
            error: status.error,
            last_ms: status.delivered_ms,
        };
        self.0.couriers.states().into_iter().map(view).collect()
    }

    fn go_to(&self, sink: &str, index: u64) -> Pending<Result<(), String>> {
        let (core, sink) = (Arc::clone(&self.0), sink.to_owned());
        Box::pin(async move { core.couriers.go_to(&sink, index).await })
    }
}
