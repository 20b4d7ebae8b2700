//! JSON Schema for arguments: compiled once when a definition is pinned, bounded, and never fetching anything.

mod cost;

use alloc::{
    borrow::ToOwned,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;

use jsonschema::{PatternOptions, ValidationOptions, Validator};
use portcullis_core::Limits;
use serde_json::Value;

use crate::json::{JsonError, JsonLimits, View, check};

/// No more violations than this are reported for one value.
const VIOLATIONS_MAX: usize = 10;
/// Compiled size of one pattern.
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// Steps back that a pattern with look-around may take before the value counts as not matching.
const BACKTRACKS_MAX: usize = 10_000;

/// A compiled schema.
#[derive(Clone)]
pub struct Schema {
    validator: Validator,
}

/// The schema cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// Checking a value could take too much time or stack: references multiply, nest too deep or go in circles.
    #[error("references multiply, nest or go in circles beyond the bounds")]
    Costly,
    /// Not a schema, an unknown dialect, an external reference, or a pattern that is too costly.
    #[error("not a usable schema at `{place}`: {reason}")]
    Invalid {
        /// JSON pointer into the schema.
        place: String,
        /// What the validator says. Comes from the schema, not from arguments.
        reason: String,
    },
    /// Not acceptable JSON, or too large.
    #[error(transparent)]
    Json(#[from] JsonError),
}

/// One way in which a value does not fit. Says where and which rule, never what the value was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// JSON pointer into the value.
    pub place: String,
    /// JSON pointer into the schema; its last part is the keyword.
    pub rule: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` does not fit `{}`", self.place, self.rule)
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema").finish_non_exhaustive()
    }
}

impl Schema {
    /// Compiles a schema. Without `$schema` it is read as draft 2020-12; older drafts are used where declared.
    ///
    /// # Errors
    /// JSON beyond the limits, something that is no schema, or a reference that leads outside it.
    pub fn compile(schema: &[u8], limits: &Limits) -> Result<Self, SchemaError> {
        let mut bounds = JsonLimits::answer(limits);
        bounds.bytes_max = usize::try_from(limits.schema_bytes_max).unwrap_or(usize::MAX);
        check(schema, &bounds)?;
        Self::build(&View::of(schema).to_value(), bounds.depth_max, || jsonschema::options().offline())
    }

    fn build<'i>(
        schema: &Value,
        depth_max: usize,
        options: impl Fn() -> ValidationOptions<'i>,
    ) -> Result<Self, SchemaError> {
        cost::bound(schema, depth_max)?;
        // Linear time for every pattern that allows it. Look-around does not, but generators emit it, so it gets an
        // engine that gives up early.
        let linear = PatternOptions::regex().size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX);
        let bounded = PatternOptions::fancy_regex()
            .backtrack_limit(BACKTRACKS_MAX)
            .size_limit(PATTERN_BYTES_MAX)
            .dfa_size_limit(PATTERN_BYTES_MAX);
        let validator = options()
            .with_pattern_options(linear)
            .build(schema)
            .or_else(|_| options().with_pattern_options(bounded).build(schema))
            .map_err(|error| SchemaError::Invalid {
                place: error.instance_path().as_str().to_owned(),
                reason: error.masked().to_string(),
            })?;
        Ok(Self { validator })
    }

    /// Checks arguments. Absent ones count as an empty object.
    ///
    /// # Errors
    /// The first violations.
    pub fn check(&self, arguments: Option<View<'_>>) -> Result<(), Vec<Violation>> {
        self.judge(&instance(arguments))
    }

    /// As [`Self::check`], but an argument at one of these paths that is `null` where the schema wants something else
    /// counts as left out: of arguments that headers mirror, the specification lets clients write so (SEP-2243), and of no
    /// others. Where it may not be left out, it does not fit.
    ///
    /// # Errors
    /// The first violations.
    pub fn check_call<'p>(
        &self,
        arguments: Option<View<'_>>,
        mirrored: impl IntoIterator<Item = &'p [String]>,
    ) -> Result<(), Vec<Violation>> {
        let mut value = instance(arguments);
        let Err(violations) = self.judge(&value) else { return Ok(()) };
        let left_out = mirrored.into_iter().filter(|path| leave_out_null(&mut value, path)).count();
        if left_out > 0 && self.validator.is_valid(&value) {
            return Ok(());
        }
        Err(violations)
    }

    fn judge(&self, value: &Value) -> Result<(), Vec<Violation>> {
        if self.validator.is_valid(value) {
            return Ok(());
        }
        let violations = self.validator.iter_errors(value).take(VIOLATIONS_MAX);
        Err(violations
            .map(|error| Violation {
                place: error.instance_path().as_str().to_owned(),
                rule: error.schema_path().as_str().to_owned(),
            })
            .collect())
    }
}

fn instance(arguments: Option<View<'_>>) -> Value {
    arguments.map_or_else(|| Value::Object(serde_json::Map::new()), |view| view.to_value())
}

/// Removes the argument at this path if it is `null`.
fn leave_out_null(value: &mut Value, path: &[String]) -> bool {
    let Some((name, folders)) = path.split_last() else { return false };
    let parent = folders.iter().try_fold(value, |value, step| value.get_mut(step));
    let Some(parent) = parent.and_then(Value::as_object_mut) else { return false };
    parent.get(name).is_some_and(Value::is_null) && parent.remove(name).is_some()
}

#[cfg(test)]
mod tests;
