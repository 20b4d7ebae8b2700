//! Which detectors run and what is done about what they find.

use alloc::{boxed::Box, collections::BTreeMap, string::String, vec::Vec};

use portcullis_core::{Direction, Labels, Treatment, kind::KindError};

use crate::{CATALOG, Detector, Form, Recogniser, labels_of};

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
    /// Detector name to values that are no finds of it; `*` stands for any text.
    pub allowed: BTreeMap<String, Vec<String>>,
    /// What is looked for beyond the detectors of the catalogue.
    pub recognisers: Vec<Recogniser>,
}

/// A detector, and what its finds are called.
type Named = (&'static str, Box<dyn Detector>);

impl InspectSettings {
    /// What finds can be called.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        let own = self.recognisers.iter().map(|recogniser| recogniser.name);
        CATALOG.iter().map(|kind| kind.name).chain(own).collect()
    }

    /// Looks for more, with the defaults of recognisers.
    pub fn add(&mut self, recognisers: Vec<Recogniser>) {
        for one in &recognisers {
            let defaults =
                DetectorSettings { enabled: true, arguments: Treatment::Pass, answers: Treatment::Mask };
            self.detectors.insert(one.name.into(), defaults);
        }
        self.recognisers.extend(recognisers);
    }

    /// What kind of data the finds of a detector are.
    #[must_use]
    pub fn labels_of(&self, name: &str) -> Labels {
        let own = || self.recognisers.iter().find(|recogniser| recogniser.name == name);
        let own = || own().map_or_else(|| labels_of(name), |recogniser| recogniser.labels);
        self.labels.get(name).copied().unwrap_or_else(own)
    }

    /// Every detector there is.
    pub(crate) fn build(&self) -> Result<Vec<Named>, InspectError> {
        let built = CATALOG.iter().map(|kind| Ok((kind.name, (kind.build)(&())?)));
        let own = self.recognisers.iter().map(|one| {
            let wrong = |reason| InspectError::Recogniser { name: one.name, reason };
            Ok((one.name, one.build().map_err(wrong)?))
        });
        built.chain(own.take(Recogniser::COUNT_MAX)).collect()
    }
}

impl InspectSettings {
    /// Nothing said about any detector.
    const fn none() -> Self {
        Self {
            detectors: BTreeMap::new(),
            forms: BTreeMap::new(),
            labels: BTreeMap::new(),
            allowed: BTreeMap::new(),
            recognisers: Vec::new(),
        }
    }
}

/// Every detector with its own defaults.
impl Default for InspectSettings {
    fn default() -> Self {
        let defaults = CATALOG.iter().filter_map(|kind| {
            let detector = (kind.build)(&()).ok()?;
            Some((String::from(kind.name), detector.defaults()))
        });
        Self { detectors: defaults.collect(), ..Self::none() }
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
    /// A recogniser cannot be built.
    #[error("recogniser `{name}`: {reason}")]
    Recogniser {
        /// Its name.
        name: &'static str,
        /// Why.
        reason: String,
    },
    /// A detector cannot be built.
    #[error(transparent)]
    Build(#[from] KindError),
}
