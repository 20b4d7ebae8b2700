//! The one idea behind every list of interchangeable parts (detectors, ways to authenticate, sinks): a [`Kind`]
//! describes and builds one part, a catalogue is a plain slice of them, and documentation reads the slice.

use alloc::{string::String, vec::Vec};

/// One interchangeable part: its name, what it is for, and how to build it from its parts `P`.
#[derive(Clone, Copy, Debug)]
pub struct Kind<T, P: ?Sized = ()> {
    /// The name in configuration, metrics, findings and documents.
    pub name: &'static str,
    /// One sentence on what it is for.
    pub doc: &'static str,
    /// Builds the part.
    pub build: fn(&P) -> Result<T, KindError>,
}

/// A part could not be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` cannot be built: {reason}")]
pub struct KindError {
    /// The kind.
    pub name: &'static str,
    /// What is wrong.
    pub reason: String,
}

/// Builds every part of a catalogue, in order.
///
/// # Errors
/// The first part that cannot be built.
pub fn build_all<T, P: ?Sized>(catalog: &[Kind<T, P>], parts: &P) -> Result<Vec<T>, KindError> {
    catalog.iter().map(|kind| (kind.build)(parts)).collect()
}

/// Declares the modules of a folder and the catalogue of what they hold. Each module has a `KIND` constant; a
/// file that is not listed is not compiled, and `xtask tidy` fails on it.
///
/// ```ignore
/// catalog! { pub CATALOG: [Kind<Box<dyn Detector>>] = control_characters, email }
/// ```
#[macro_export]
macro_rules! catalog {
    ($(#[$meta:meta])* $vis:vis $name:ident: [$kind:ty] = $($module:ident),+ $(,)?) => {
        $(mod $module;)+
        $(#[$meta])*
        $vis const $name: &[$kind] = &[$($module::KIND),+];
    };
}
