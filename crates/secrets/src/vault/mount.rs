//! Which engine answers under a path.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use http::Method;
use serde_json::Value;

use super::Vault;
use crate::source::Failure;

/// Mounts that are remembered; beyond, they are asked for each time.
const MOUNTS_MAX: usize = 1_000;

/// How a path is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Engine {
    /// KV version 2: `data` comes behind the mount, which has so many segments.
    Kv2 {
        /// Segments of the mount.
        depth: usize,
    },
    /// As it is: KV version 1, and engines that make credentials.
    Other,
}

/// The mounts that are known, by path.
#[derive(Debug)]
pub(super) struct Mounts {
    known: Mutex<BTreeMap<String, Engine>>,
    unknown: Engine,
}

impl Mounts {
    pub(super) const fn new(kv_version: u8) -> Self {
        let unknown = if kv_version == 1 { Engine::Other } else { Engine::Kv2 { depth: 1 } };
        Self { known: Mutex::new(BTreeMap::new()), unknown }
    }

    /// The engine of the longest mount that is a beginning of the path.
    fn find(&self, segments: &[&str]) -> Option<Engine> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        (1..=segments.len()).rev().find_map(|depth| known.get(&segments.get(..depth)?.join("/")).copied())
    }

    fn keep(&self, mount: &str, engine: Engine) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < MOUNTS_MAX {
            known.insert(mount.to_owned(), engine);
        }
    }
}

impl Vault {
    /// The engine behind a path, asked of the server the first time.
    pub(super) async fn engine(&self, segments: &[&str]) -> Result<Engine, Failure> {
        if let Some(engine) = self.mounts.find(segments) {
            return Ok(engine);
        }
        // Without a token nothing can be read either.
        self.session().await?;
        let path: Vec<&str> =
            ["sys", "internal", "ui", "mounts"].into_iter().chain(segments.iter().copied()).collect();
        let data = match self.authorized(&Method::GET, &path, None, None).await {
            Ok(mut answer) => answer.get_mut("data").map(Value::take).unwrap_or_default(),
            // The token may read secrets and nothing else.
            Err(Failure::Forbidden(_) | Failure::Absent(_)) => return Ok(self.mounts.unknown),
            Err(failure @ Failure::Unavailable(_)) => return Err(failure),
        };
        let Some(mount) = data.get("path").and_then(Value::as_str) else { return Ok(self.mounts.unknown) };
        let mount = mount.trim_matches('/');
        let depth = mount.split('/').count();
        let second = data.pointer("/options/version").and_then(Value::as_str) == Some("2");
        let kv =
            data.get("type").and_then(Value::as_str).is_some_and(|kind| matches!(kind, "kv" | "generic"));
        let engine = if kv && second { Engine::Kv2 { depth } } else { Engine::Other };
        self.mounts.keep(mount, engine);
        Ok(engine)
    }
}
