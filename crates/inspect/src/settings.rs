//! Which detectors run and what is done about what they find.

use alloc::{collections::BTreeMap, string::String};

use portcullis_core::{Direction, Labels, Treatment, kind::KindError};

use crate::{CATALOG, Form};

/// What is done about the finds of one detector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DetectorSettings {
    /// Whether it runs at all.
    pub enabled: bool,
    /// In what callers send.
    pub arguments: Treatment,
    /// In what servers answer.
    pub answers: Treatment,
}

impl DetectorSettings {
    /// The treatment in one direction.
    #[must_use]
    pub const fn treatment(&self, direction: Direction) -> Treatment {
        match direction {
            Direction::Inward => self.arguments,
            Direction::Outward => self.answers,
        }
    }
}

/// The settings of detectors, by name. One that is not named keeps its own defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectSettings {
    /// Detector name to its settings.
    pub detectors: BTreeMap<String, DetectorSettings>,
    /// Detector name to how its finds look when they are masked; [`Form::Placeholder`] where nothing is said.
    pub forms: BTreeMap<String, Form>,
    /// Detector name to the labels that its finds give a session; the detector's own ([`crate::labels_of`]) where nothing is said.
    pub labels: BTreeMap<String, Labels>,
}

/// Every detector with its own defaults.
impl Default for InspectSettings {
    fn default() -> Self {
        let defaults = CATALOG.iter().filter_map(|kind| {
            let detector = (kind.build)(&()).ok()?;
            Some((String::from(kind.name), detector.defaults()))
        });
        Self { detectors: defaults.collect(), forms: BTreeMap::new(), labels: BTreeMap::new() }
    }
}

/// The detectors cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InspectError {
    /// The settings name a detector that does not exist.
    #[error("there is no detector `{name}`")]
    Unknown {
        /// The name.
        name: String,
    },
    /// A detector cannot be built.
    #[error(transparent)]
    Build(#[from] KindError),
}
