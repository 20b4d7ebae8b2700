//! What a policy reads, found in its syntax tree: only that much of a request is put into Cedar's terms, decisions
//! of policies that read nothing variable can be remembered, and a value of another type than a policy reads it as
//! cannot slip past that policy.

use alloc::{format, string::String, vec::Vec};

use cedar_policy::RestrictedExpression;
use serde_json::{Value, json};

/// Where values come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// `context.arguments`.
    Arguments,
    /// `principal.claims`.
    Claims,
}

impl Source {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Arguments => "arguments",
            Self::Claims => "claims",
        }
    }

    const fn variable(self) -> &'static str {
        match self {
            Self::Arguments => "context",
            Self::Claims => "principal",
        }
    }
}

/// The type under which a value is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sort {
    Flag,
    Number,
    Numbers,
    Text,
    Texts,
}

impl Sort {
    pub(crate) const ALL: &'static [Self] =
        &[Self::Flag, Self::Number, Self::Numbers, Self::Text, Self::Texts];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Number => "number",
            Self::Numbers => "numbers",
            Self::Text => "text",
            Self::Texts => "texts",
        }
    }

    pub(crate) const fn entity_type(self) -> &'static str {
        match self {
            Self::Flag => "Flag",
            Self::Number => "Number",
            Self::Numbers => "Numbers",
            Self::Text => "Text",
            Self::Texts => "Texts",
        }
    }
}

/// One value that a policy reads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Read {
    pub(crate) source: Source,
    pub(crate) sort: Sort,
    pub(crate) path: String,
}

/// What is at a path.
enum Found<'a> {
    Absent,
    Value(&'a Value),
    /// Something on the way is neither an object nor a list.
    Blocked,
}

impl Read {
    /// The value as the policy reads it, if it is there and of that type.
    pub(crate) fn value(&self, values: &Value) -> Option<RestrictedExpression> {
        match self.find(values) {
            Found::Value(value) => convert(self.sort, value),
            Found::Absent | Found::Blocked => None,
        }
    }

    /// Whether something is there that is not of the type as which the policy reads it.
    pub(crate) fn is_confused(&self, values: &Value) -> bool {
        match self.find(values) {
            Found::Absent => false,
            Found::Value(value) => convert(self.sort, value).is_none(),
            Found::Blocked => true,
        }
    }

    // Null counts as absent: that is how servers read it.
    fn find<'a>(&self, values: &'a Value) -> Found<'a> {
        let mut at = values;
        for segment in self.path.split('/') {
            let next = match at {
                Value::Null => return Found::Absent,
                Value::Object(members) => members.get(&segment.replace("~1", "/").replace("~0", "~")),
                Value::Array(items) => segment
                    .parse()
                    .ok()
                    .filter(|index: &usize| format!("{index}") == segment)
                    .and_then(|index| items.get(index)),
                Value::Bool(_) | Value::Number(_) | Value::String(_) => return Found::Blocked,
            };
            match next {
                None | Some(Value::Null) => return Found::Absent,
                Some(value) => at = value,
            }
        }
        Found::Value(at)
    }
}

fn convert(sort: Sort, value: &Value) -> Option<RestrictedExpression> {
    match (sort, value) {
        (Sort::Flag, Value::Bool(flag)) => Some(RestrictedExpression::new_bool(*flag)),
        (Sort::Number, number) => whole(number).map(RestrictedExpression::new_long),
        (Sort::Text, Value::String(text)) => Some(RestrictedExpression::new_string(text.clone())),
        (Sort::Texts, Value::Array(items)) => {
            let texts: Option<Vec<_>> = items.iter().map(|item| convert(Sort::Text, item)).collect();
            texts.map(RestrictedExpression::new_set)
        }
        (Sort::Numbers, Value::Array(items)) => {
            let numbers: Option<Vec<_>> = items.iter().map(|item| convert(Sort::Number, item)).collect();
            numbers.map(RestrictedExpression::new_set)
        }
        (Sort::Flag | Sort::Text | Sort::Texts | Sort::Numbers, _) => None,
    }
}

/// The whole number that `value` is; `5.0` is one (JSON Schema says so too), `5.5` and 30 digits are not.
fn whole(value: &Value) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let number = value.as_number()?;
    number.as_i64().or_else(|| {
        let float = number.as_f64().filter(|float| (-EXACT..=EXACT).contains(float))?;
        // The cast is exact within these bounds; a fraction shows in the way back.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            reason = "checked by the bounds"
        )]
        Some(float as i64).filter(|whole| *whole as f64 == float)
    })
}

/// Members of the context or of a caller, a bit for each: what nobody reads need not be put into Cedar's terms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Members(u32);

impl Members {
    const NAMES: [&str; 16] = [
        "now",
        "hour",
        "weekday",
        "source_ip",
        "strength",
        "auth_age_s",
        "seen",
        "calls_last_minute",
        "revision",
        "arguments",
        "id",
        "proof",
        "scopes",
        "claims",
        "actors",
        "regions",
    ];

    pub(crate) const NONE: Self = Self(0);
    pub(crate) const ALL: Self = Self(u32::MAX);

    /// The member of that name; every member where nobody has heard of it, so that none is left out.
    fn of(name: &str) -> Self {
        (0..).zip(Self::NAMES).find(|(_, known)| *known == name).map_or(Self::ALL, |(bit, _)| Self(1 << bit))
    }

    pub(crate) fn any(self) -> bool {
        self != Self::NONE
    }

    pub(crate) fn has(self, name: &str) -> bool {
        self.0 & Self::of(name).0 != 0
    }

    const fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// What one policy, or all of a slice, read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reads {
    /// Members of the context.
    pub(crate) context: Members,
    /// Attributes of the caller.
    pub(crate) principal: Members,
    /// What the operator says about the target.
    pub(crate) facts: bool,
    /// Values of arguments and claims.
    pub(crate) values: Vec<Read>,
}

impl Reads {
    /// What the policy with this syntax tree reads.
    ///
    /// # Errors
    /// A use of context, arguments, claims or attributes that cannot be followed; in words.
    pub(crate) fn of(est: &Value) -> Result<Self, String> {
        let mut reads = Self::default();
        for body in bodies(est) {
            reads.walk(body)?;
        }
        reads.values.sort();
        reads.values.dedup();
        Ok(reads)
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.context.add(other.context);
        self.principal.add(other.principal);
        self.facts |= other.facts;
        self.values.extend(other.values.iter().cloned());
        self.values.sort();
        self.values.dedup();
    }

    pub(crate) fn any_of(&self, source: Source) -> bool {
        self.values.iter().any(|read| read.source == source)
    }

    fn walk(&mut self, node: &Value) -> Result<(), String> {
        if let Some(tag) = node.get("hasTag").or_else(|| node.get("getTag")) {
            return self.tag(tag);
        }
        if let Some(access) = node.get(".").or_else(|| node.get("has")) {
            return self.access(access);
        }
        if variable(node) == Some("context") {
            return Err("`context` may be used only by its members, as in `context.now`".into());
        }
        match node {
            Value::Array(items) => items.iter().try_for_each(|item| self.walk(item)),
            // The operand of a literal is data, not syntax.
            Value::Object(members) => {
                members.iter().filter(|(key, _)| *key != "Value").try_for_each(|(_, item)| self.walk(item))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
        }
    }

    /// `LEFT.hasTag(RIGHT)`: LEFT must be a bag and RIGHT a literal, so that we know beforehand what is read.
    fn tag(&mut self, operands: &Value) -> Result<(), String> {
        let chain = operands.get("left").and_then(chain).unwrap_or_default();
        let known = match chain.as_slice() {
            [variable, source, sort] => {
                let sort = Sort::ALL.iter().copied().find(|known| known.name() == *sort);
                let source = [Source::Arguments, Source::Claims]
                    .into_iter()
                    .find(|known| known.variable() == *variable && known.name() == *source);
                source.zip(sort)
            }
            _ => None,
        };
        let Some((source, sort)) = known else {
            return Err("`hasTag` and `getTag` are for `context.arguments` and `principal.claims`, as in \
                        `context.arguments.text.getTag(\"path\")`"
                .into());
        };
        let Some(path) = operands.get("right").and_then(|right| right.get("Value")).and_then(Value::as_str)
        else {
            return Err(format!("the name of a value in `{}` must be a literal text", source.name()));
        };
        self.root(source.variable(), source.name());
        self.values.push(Read { source, sort, path: path.into() });
        Ok(())
    }

    /// `LEFT.attribute`: LEFT must lead back to `principal`, `resource` or `context`.
    fn access(&mut self, access: &Value) -> Result<(), String> {
        let left = access.get("left").and_then(chain).unwrap_or_default();
        let attribute = access.get("attr").and_then(Value::as_str).unwrap_or_default();
        match left.as_slice() {
            ["context"] if attribute == "arguments" => bag_misuse(Source::Arguments),
            ["principal"] if attribute == "claims" => bag_misuse(Source::Claims),
            ["context", "arguments", ..] => bag_misuse(Source::Arguments),
            ["principal", "claims", ..] => bag_misuse(Source::Claims),
            [variable, beyond @ ..] => {
                self.facts |= *variable == "resource" && !matches!(attribute, "server" | "name");
                self.root(variable, beyond.first().copied().unwrap_or(attribute));
                Ok(())
            }
            [] => Err("attributes can be read only of `principal`, `resource` and `context`".into()),
        }
    }

    fn root(&mut self, variable: &str, member: &str) {
        match variable {
            "context" => self.context.add(Members::of(member)),
            "principal" => self.principal.add(Members::of(member)),
            _ => {}
        }
    }
}

/// Whether evaluating the policy can fail although it is valid: numbers can overflow, and texts need not be addresses or
/// times.
pub(crate) fn can_fail(est: &Value) -> bool {
    bodies(est).any(node_can_fail)
}

fn node_can_fail(node: &Value) -> bool {
    const SAFE: [&str; 27] = [
        "!",
        "!=",
        "&&",
        "<",
        "<=",
        "==",
        ">",
        ">=",
        "||",
        ".",
        "Record",
        "Set",
        "Slot",
        "Value",
        "Var",
        "contains",
        "containsAll",
        "containsAny",
        "else",
        "getTag",
        "has",
        "hasTag",
        "if",
        "if-then-else",
        "in",
        "is",
        "isEmpty",
    ];
    const OPERANDS: [&str; 10] =
        ["arg", "attr", "entity_type", "left", "like", "pattern", "right", "then", "Literal", "Wildcard"];
    match node {
        Value::Array(items) => items.iter().any(node_can_fail),
        Value::Object(members) => members.iter().any(|(key, value)| match key.as_str() {
            "Value" | "pattern" => false,
            // Its members have names of their own.
            "Record" => value.as_object().is_none_or(|record| record.values().any(node_can_fail)),
            key => !(SAFE.contains(&key) || OPERANDS.contains(&key)) || node_can_fail(value),
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn bag_misuse(source: Source) -> Result<(), String> {
    Err(format!(
        "read `{0}.{1}` with `hasTag` and `getTag`, as in `{0}.{1}.text.getTag(\"name\")`",
        source.variable(),
        source.name()
    ))
}

fn variable(node: &Value) -> Option<&str> {
    node.get("Var").and_then(Value::as_str)
}

/// `a.b.c` as its names when it starts at a variable.
fn chain(node: &Value) -> Option<Vec<&str>> {
    if let Some(name) = variable(node) {
        return Some(alloc::vec![name]);
    }
    let access = node.get(".")?;
    let mut names = chain(access.get("left")?)?;
    names.push(access.get("attr")?.as_str()?);
    Some(names)
}

fn bodies(est: &Value) -> impl Iterator<Item = &Value> {
    est.get("conditions").and_then(Value::as_array).into_iter().flatten().filter_map(|one| one.get("body"))
}

/// What is not known of a question.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unknown<'a> {
    /// The values of these sources.
    Values(&'a [Source]),
    /// Everything about the caller but id and roles, and the arguments; `context`: everything else of the context too.
    Caller { context: bool },
}

impl Unknown<'_> {
    /// Whether an expression that starts at a variable and goes on to members is not known.
    fn holds(self, names: &[&str]) -> bool {
        match (self, names) {
            (Self::Values(sources), [variable, member, ..]) => {
                sources.iter().any(|source| source.variable() == *variable && source.name() == *member)
            }
            (Self::Values(_), _) => false,
            (Self::Caller { context: _ }, ["principal", _, ..] | ["context", "arguments", ..]) => true,
            (Self::Caller { context }, ["context", ..]) => context,
            (Self::Caller { context: _ }, _) => false,
        }
    }
}

/// The policy without those parts of its conditions that read what is `unknown`: it applies whenever the whole policy
/// could apply for some values there. Conditions are conjunctions; a part that is dropped can only make it apply more often.
pub(crate) fn weakened(est: &Value, unknown: Unknown<'_>) -> Value {
    let mut out = est.clone();
    let conditions = est.get("conditions").and_then(Value::as_array).into_iter().flatten();
    let kept: Vec<Value> = conditions
        .filter_map(|condition| {
            let kind = condition.get("kind")?.as_str()?;
            // `unless { A || B }` is `when { !A && !B }`.
            let (operator, body) = (if kind == "unless" { "||" } else { "&&" }, condition.get("body")?);
            let body = without(body, operator, unknown)?;
            Some(json!({ "kind": kind, "body": body }))
        })
        .collect();
    if let Some(members) = out.as_object_mut() {
        members.insert("conditions".into(), Value::Array(kept));
    }
    out
}

fn without(node: &Value, operator: &str, unknown: Unknown<'_>) -> Option<Value> {
    if let Some(operands) = node.get(operator) {
        let left = operands.get("left").and_then(|left| without(left, operator, unknown));
        let right = operands.get("right").and_then(|right| without(right, operator, unknown));
        return match (left, right) {
            (Some(left), Some(right)) => Some(json!({ operator: { "left": left, "right": right } })),
            (one, other) => one.or(other),
        };
    }
    (!mentions(node, unknown)).then(|| node.clone())
}

fn mentions(node: &Value, unknown: Unknown<'_>) -> bool {
    if let Some(names) = chain(node) {
        return unknown.holds(&names);
    }
    match node {
        Value::Array(items) => items.iter().any(|item| mentions(item, unknown)),
        Value::Object(members) => members.values().any(|item| mentions(item, unknown)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
