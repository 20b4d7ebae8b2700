//! What checking against a schema can cost, found before it is compiled: references can make a small schema take
//! exponential time, or a long one more stack than a thread has.

use alloc::{collections::BTreeMap, string::String, vec, vec::Vec};

use serde_json::Value;

use super::SchemaError;

/// Subschemas that one value may meet, each counted as often as references lead to it.
const VISITS_MAX: usize = 250_000;
/// Frames of the validator at once, where a schema leads back to itself: what looks at one value on one path, times
/// the depth of the value. Tried on a stack of 2 MiB without optimisation.
const FRAMES_MAX: usize = 2048;
/// Subschemas on one path, whatever they look at.
const PATH_MAX: usize = 256;
/// References that this count does not follow: external ones, and all where a subschema has its own `$id`.
const OPAQUE_MAX: usize = 32;

/// Refuses schemas that could cost more than the bounds above, for values no deeper than `depth_max`.
pub(super) fn bound(schema: &Value, depth_max: usize) -> Result<(), SchemaError> {
    let graph = Graph::of(schema);
    if graph.opaque > OPAQUE_MAX {
        return Err(SchemaError::Costly);
    }
    let mut all = Walk::of(&graph, |_| true);
    let root = all.weigh(0);
    if root.visits > VISITS_MAX || root.path > PATH_MAX {
        return Err(SchemaError::Costly);
    }
    if all.cyclic {
        let mut in_place = Walk::of(&graph, |edge| edge.in_place);
        let longest = (0..graph.edges.len()).map(|node| in_place.weigh(node).path).max().unwrap_or(0);
        // A circle in place consumes nothing of the value; no author means it.
        if in_place.cyclic || longest.saturating_mul(depth_max) > FRAMES_MAX {
            return Err(SchemaError::Costly);
        }
    }
    Ok(())
}

/// What a subschema leads to.
#[derive(Clone, Copy)]
struct Weight {
    /// Subschemas, each counted as often as references lead to it.
    visits: usize,
    /// Subschemas on the longest path.
    path: usize,
}

/// From a subschema to one that it applies; `in_place` when that one looks at the same value.
#[derive(Clone, Copy)]
struct Edge {
    to: usize,
    in_place: bool,
}

/// Every object of a schema, the outermost first, and what it applies.
struct Graph {
    edges: Vec<Vec<Edge>>,
    opaque: usize,
}

impl Graph {
    fn of(schema: &Value) -> Self {
        let mut objects = Objects::default();
        objects.number(schema);
        let mut graph = Self { edges: vec![Vec::new(); objects.list.len()], opaque: 0 };
        for (from, object) in objects.list.iter().enumerate() {
            let Some(members) = object.as_object() else { continue };
            let mut edges = Vec::new();
            for (keyword, value) in members {
                match keyword.as_str() {
                    "const" | "default" | "enum" | "examples" | "$defs" | "definitions" => {}
                    "$ref" | "$dynamicRef" | "$recursiveRef" => match objects.target(schema, value) {
                        Some(to) => edges.push(Edge { to, in_place: true }),
                        None => graph.opaque += 1,
                    },
                    "allOf" | "anyOf" | "oneOf" | "not" | "if" | "then" | "else" => {
                        objects.below(value, true, &mut edges);
                    }
                    // Maps: their names are no keywords, so that a property called `enum` hides nothing.
                    "dependentSchemas" | "dependencies" => objects.of_map(value, true, &mut edges),
                    "properties" | "patternProperties" => objects.of_map(value, false, &mut edges),
                    _ => objects.below(value, false, &mut edges),
                }
            }
            if let Some(slot) = graph.edges.get_mut(from) {
                *slot = edges;
            }
        }
        graph
    }
}

/// A walk over some of the edges, depth first with an explicit stack.
struct Walk<'g, F> {
    graph: &'g Graph,
    follows: F,
    weights: Vec<Option<Weight>>,
    entered: Vec<bool>,
    /// Some schema leads back to itself.
    cyclic: bool,
}

impl<'g, F: Fn(&Edge) -> bool> Walk<'g, F> {
    fn of(graph: &'g Graph, follows: F) -> Self {
        let count = graph.edges.len();
        Self { graph, follows, weights: vec![None; count], entered: vec![false; count], cyclic: false }
    }

    /// The weight of a subschema. A reference back to one that is still being weighed adds nothing: the validator
    /// remembers what it has seen on the way.
    fn weigh(&mut self, start: usize) -> Weight {
        let one = Weight { visits: 1, path: 1 };
        let mut stack = vec![(start, 0, one)];
        while let Some((node, next, weight)) = stack.last_mut() {
            if let Some(entered) = self.entered.get_mut(*node) {
                *entered = true;
            }
            let edge = self.graph.edges.get(*node).and_then(|edges| edges.get(*next)).copied();
            let Some(edge) = edge else {
                if let Some(slot) = self.weights.get_mut(*node) {
                    *slot = Some(*weight);
                }
                stack.pop();
                continue;
            };
            match self.weights.get(edge.to).copied().flatten() {
                _ if !(self.follows)(&edge) => *next += 1,
                Some(below) => {
                    *next += 1;
                    weight.visits = weight.visits.saturating_add(below.visits);
                    weight.path = weight.path.max(below.path.saturating_add(1));
                }
                None if self.entered.get(edge.to).copied().unwrap_or(true) => {
                    self.cyclic = true;
                    *next += 1;
                }
                None => stack.push((edge.to, 0, one)),
            }
        }
        self.weights.get(start).copied().flatten().unwrap_or(one)
    }
}

/// The objects of a schema with their numbers.
#[derive(Default)]
struct Objects<'a> {
    list: Vec<&'a Value>,
    numbers: BTreeMap<*const Value, usize>,
    anchors: BTreeMap<&'a str, usize>,
    /// A subschema has its own `$id`, so that a fragment may mean something else than it looks.
    embedded: bool,
}

impl<'a> Objects<'a> {
    fn number(&mut self, schema: &'a Value) {
        let mut waiting = vec![schema];
        while let Some(value) = waiting.pop() {
            match value {
                Value::Object(members) => {
                    let number = self.list.len();
                    self.numbers.insert(value, number);
                    self.list.push(value);
                    for anchor in ["$anchor", "$dynamicAnchor"] {
                        if let Some(name) = members.get(anchor).and_then(Value::as_str) {
                            self.anchors.insert(name, number);
                        }
                    }
                    let id = ["$id", "id"].iter().any(|id| members.get(*id).is_some_and(Value::is_string));
                    self.embedded |= id && number > 0;
                    waiting.extend(members.values());
                }
                Value::Array(list) => waiting.extend(list),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
    }

    /// Edges to the schema, or the schemas of the list, that a keyword holds.
    fn below(&self, value: &Value, in_place: bool, edges: &mut Vec<Edge>) {
        let list = value.as_array().map_or(core::slice::from_ref(value), Vec::as_slice);
        let numbers = list.iter().filter_map(|schema| self.numbers.get(&core::ptr::from_ref(schema)));
        edges.extend(numbers.map(|&to| Edge { to, in_place }));
    }

    /// Edges to the schemas of the map that a keyword holds.
    fn of_map(&self, value: &Value, in_place: bool, edges: &mut Vec<Edge>) {
        for schema in value.as_object().into_iter().flat_map(|map| map.values()) {
            self.below(schema, in_place, edges);
        }
    }

    /// The object that a reference means, where that can be told without resolving URIs.
    fn target(&self, schema: &'a Value, reference: &Value) -> Option<usize> {
        let fragment = reference.as_str().filter(|_| !self.embedded)?.strip_prefix('#')?;
        let target = if fragment.is_empty() || fragment.starts_with('/') {
            schema.pointer(&unescape(fragment))?
        } else {
            return self.anchors.get(fragment).copied();
        };
        self.numbers.get(&core::ptr::from_ref(target)).copied()
    }
}

/// A URI fragment without percent escapes.
fn unescape(fragment: &str) -> String {
    let mut out = Vec::with_capacity(fragment.len());
    let mut rest = fragment.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let escape = behind.first_chunk::<2>().filter(|_| first == b'%');
        let byte = escape.and_then(|[high, low]| {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()
        });
        match byte {
            Some(byte) => {
                out.push(byte);
                rest = behind.get(2..).unwrap_or_default();
            }
            None => {
                out.push(first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
