//! Turns callers, targets and values into Cedar's entities. Ids cannot collide: a server's name is escaped before
//! the separator, and kinds have types of their own.

use alloc::{
    boxed::Box,
    collections::BTreeSet,
    format,
    string::{String, ToString},
    vec::Vec,
};

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, ParseErrors, RestrictedExpression,
};
use portcullis_core::{Action, Caller, CallerKind, Labels, Proof, Target, TargetKind};
use serde_json::Value;

use crate::{
    RequestContext,
    hierarchy::Hierarchy,
    labels::Facts,
    reads::{Members, Read, Reads, Sort, Source},
};

/// The entity types and actions of the schema, parsed once.
#[derive(Debug)]
pub(crate) struct Words {
    user: EntityTypeName,
    service: EntityTypeName,
    anonymous: EntityTypeName,
    pub(crate) role: EntityTypeName,
    pub(crate) server: EntityTypeName,
    tool: EntityTypeName,
    prompt: EntityTypeName,
    resource: EntityTypeName,
    template: EntityTypeName,
    bags: Vec<(Sort, EntityTypeName)>,
    action: EntityTypeName,
}

/// Why a request could not be put into Cedar's terms. Refuses, since nothing can be decided.
pub(crate) type Unspeakable = Box<dyn core::error::Error + Send + Sync>;

impl Words {
    pub(crate) fn new() -> Result<Self, Box<ParseErrors>> {
        let mut bags = Vec::new();
        for sort in Sort::ALL {
            bags.push((*sort, sort.entity_type().parse().map_err(Box::new)?));
        }
        let name = |text: &str| text.parse::<EntityTypeName>().map_err(Box::new);
        Ok(Self {
            user: name("User")?,
            service: name("Service")?,
            anonymous: name("Anonymous")?,
            role: name("Role")?,
            server: name("Server")?,
            tool: name("Tool")?,
            prompt: name("Prompt")?,
            resource: name("Resource")?,
            template: name("Template")?,
            bags,
            action: name("Action")?,
        })
    }

    pub(crate) fn action(&self, action: Action) -> EntityUid {
        uid(&self.action, action.name())
    }

    pub(crate) fn role(&self, name: &str) -> EntityUid {
        uid(&self.role, name)
    }

    pub(crate) fn caller(&self, caller: &Caller) -> EntityUid {
        let kind = match caller.kind {
            CallerKind::Anonymous => &self.anonymous,
            CallerKind::Service => &self.service,
            CallerKind::User => &self.user,
        };
        uid(kind, &caller.id)
    }

    pub(crate) fn target(&self, target: &Target) -> EntityUid {
        match &target.item {
            None => uid(&self.server, &target.server),
            Some((kind, name)) => {
                let kind = match kind {
                    TargetKind::Prompt => &self.prompt,
                    TargetKind::Resource => &self.resource,
                    TargetKind::Template => &self.template,
                    TargetKind::Tool => &self.tool,
                };
                uid(kind, &item_id(&target.server, name))
            }
        }
    }

    /// Whether a literal of a policy is a caller.
    pub(crate) fn is_caller(&self, literal: &EntityUid) -> bool {
        self.caller_kind(literal).is_some()
    }

    /// The kind of caller that a literal of a policy is, if it is one.
    pub(crate) fn caller_kind(&self, literal: &EntityUid) -> Option<CallerKind> {
        let kinds = [
            (&self.user, CallerKind::User),
            (&self.service, CallerKind::Service),
            (&self.anonymous, CallerKind::Anonymous),
        ];
        kinds.into_iter().find(|(name, _)| *name == literal.type_name()).map(|(_, kind)| kind)
    }

    /// The thing on a server that a literal of a policy is, if it is one.
    pub(crate) fn item(&self, literal: &EntityUid) -> Option<(TargetKind, String)> {
        let kinds = [
            (&self.tool, TargetKind::Tool),
            (&self.prompt, TargetKind::Prompt),
            (&self.resource, TargetKind::Resource),
            (&self.template, TargetKind::Template),
        ];
        let (_, kind) = kinds.into_iter().find(|(name, _)| *name == literal.type_name())?;
        let (_, name) = literal.id().unescaped().split_once('/')?;
        Some((kind, name.to_string()))
    }

    /// The server that a resource literal of a policy lies on, or is.
    pub(crate) fn server_of(&self, literal: &EntityUid) -> Option<String> {
        let id = literal.id().unescaped();
        let kind = literal.type_name();
        if *kind == self.server {
            return Some(id.to_string());
        }
        let item = [&self.tool, &self.prompt, &self.resource, &self.template].contains(&kind);
        let (server, _) = id.split_once('/').filter(|_| item)?;
        Some(server.replace("~1", "/").replace("~0", "~"))
    }

    /// Caller and target, with the attributes that a policy reads.
    pub(crate) fn entities<'a>(
        &self,
        caller: &Caller,
        target: &Target,
        reads: &Reads,
        (hierarchy, facts, regions): (&Hierarchy, &Facts, impl Fn() -> BTreeSet<&'a str>),
    ) -> Result<Vec<Entity>, Unspeakable> {
        let roles = hierarchy.all(&caller.roles).map(|role| self.role(role));
        let who = self.caller(caller);
        let caller = if reads.principal.any() {
            Entity::new_with_tags(who, self.caller_attributes(caller, reads.principal, regions), roles, [])?
        } else {
            Entity::new_no_attrs(who, roles.collect())
        };
        let mut attributes = alloc::vec![("server".to_string(), text(&target.server))];
        let mut parents = Vec::new();
        if let Some((_, name)) = &target.item {
            attributes.push(("name".to_string(), text(name)));
            parents.push(uid(&self.server, &target.server));
        }
        if reads.facts {
            attributes.extend(told(target, facts));
        }
        let target = Entity::new_with_tags(self.target(target), attributes, parents, [])?;
        Ok(alloc::vec![caller, target])
    }

    fn caller_attributes<'a>(
        &self,
        caller: &Caller,
        read: Members,
        regions: impl Fn() -> BTreeSet<&'a str>,
    ) -> Vec<(String, RestrictedExpression)> {
        let proof = match &caller.proof {
            Proof::Anonymous => "anonymous",
            Proof::ApiKey { key_id: _ } => "api_key",
            Proof::Certificate { fingerprint: _ } => "certificate",
            Proof::Introspected { issuer: _, token: _ } => "introspection",
            Proof::Jwt { issuer: _, token: _ } => "jwt",
            Proof::Local { uid: _ } => "local",
        };
        let mut out = Vec::new();
        let mut add = |name: &str, value: &dyn Fn() -> RestrictedExpression| {
            if read.has(name) {
                out.push((name.to_string(), value()));
            }
        };
        add("id", &|| text(&caller.id));
        add("proof", &|| text(proof));
        add("scopes", &|| RestrictedExpression::new_set(caller.scopes.iter().map(|scope| text(scope))));
        add("claims", &|| self.values(Source::Claims));
        add("regions", &|| texts(regions()));
        add("actors", &|| texts(caller.actors.iter().map(String::as_str)));
        out
    }

    /// The record of bags of one source: a reference to a bag for each sort.
    fn values(&self, source: Source) -> RestrictedExpression {
        let members = self.bags.iter().map(|(sort, kind)| {
            (sort.name().to_string(), RestrictedExpression::new_entity_uid(uid(kind, source.name())))
        });
        // The names of sorts are distinct, so the record is always well formed; the empty record refuses.
        RestrictedExpression::new_record(members)
            .unwrap_or_else(|_| RestrictedExpression::new_set(core::iter::empty()))
    }

    /// The bags of one source, holding what the policies read of it and nothing else.
    pub(crate) fn bags(
        &self,
        source: Source,
        values: &Value,
        reads: &[Read],
    ) -> Result<Vec<Entity>, Unspeakable> {
        let mut out = Vec::new();
        for (sort, kind) in &self.bags {
            let tags = reads.iter().filter(|read| read.source == source && read.sort == *sort);
            let tags = tags.filter_map(|read| Some((read.path.clone(), read.value(values)?)));
            out.push(Entity::new_with_tags(uid(kind, source.name()), [], [], tags)?);
        }
        Ok(out)
    }

    /// What policies read of the context of a request.
    pub(crate) fn context(
        &self,
        caller: &Caller,
        context: &RequestContext<'_>,
        read: Members,
    ) -> Result<Context, Unspeakable> {
        if !read.any() {
            return Ok(Context::empty());
        }
        let number = |value: u64| RestrictedExpression::new_long(i64::try_from(value).unwrap_or(i64::MAX));
        let hours = context.now.seconds() / 3_600;
        let age = || authenticated_s(caller).map(|at| context.now.seconds().saturating_sub(at));
        let mut pairs = Vec::new();
        let mut add = |name: &str, value: &dyn Fn() -> Option<RestrictedExpression>| {
            if read.has(name) {
                pairs.extend(value().map(|value| (name.to_string(), value)));
            }
        };
        add("hour", &|| Some(number(hours % 24)));
        // 1970 began on a Thursday.
        add("weekday", &|| Some(number((hours / 24 + 3) % 7 + 1)));
        add("seen", &|| Some(names(context.seen)));
        add("calls_last_minute", &|| Some(number(context.calls_last_minute)));
        add("strength", &|| Some(number(strength(&caller.proof))));
        add("now", &|| Some(RestrictedExpression::new_datetime(context.now.to_string())));
        add("revision", &|| Some(RestrictedExpression::new_string(context.era.to_string())));
        add("arguments", &|| Some(self.values(Source::Arguments)));
        add("auth_age_s", &|| age().map(number));
        add("source_ip", &|| Some(RestrictedExpression::new_ip(context.source_ip?.to_string())));
        Ok(Context::from_pairs(pairs)?)
    }
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_string())
}

fn texts<'a>(values: impl IntoIterator<Item = &'a str>) -> RestrictedExpression {
    RestrictedExpression::new_set(values.into_iter().map(text))
}

fn names(labels: Labels) -> RestrictedExpression {
    texts(labels.names())
}

/// What the operator says about a target.
fn told(target: &Target, facts: &Facts) -> Vec<(String, RestrictedExpression)> {
    let mut out = Vec::new();
    if target.item.is_some() {
        out.push(("labels".to_string(), names(facts.labels(target))));
    }
    let Some(facts) = facts.of(target) else { return out };
    for (key, value) in [("environment", &facts.environment), ("region", &facts.region)] {
        out.extend(value.as_ref().map(|value| (key.to_string(), text(value))));
    }
    out
}

/// How hard the proof is to steal: nothing, a secret that is sent, a statement that ends soon, a key that is never sent.
const fn strength(proof: &Proof) -> u64 {
    match proof {
        Proof::Anonymous => 0,
        Proof::ApiKey { key_id: _ } => 1,
        Proof::Introspected { issuer: _, token: _ }
        | Proof::Jwt { issuer: _, token: _ }
        | Proof::Local { uid: _ } => 2,
        Proof::Certificate { fingerprint: _ } => 3,
    }
}

/// When the caller proved who it is, in seconds since 1970 (`auth_time`, OpenID Connect Core section 2).
fn authenticated_s(caller: &Caller) -> Option<u64> {
    caller.claims.as_ref()?.get("auth_time")?.as_u64()
}

/// All entities of a request, with their ancestors.
pub(crate) fn together(entities: Vec<Entity>) -> Result<Entities, Unspeakable> {
    Ok(Entities::from_entities(entities, None)?)
}

/// Whether the schema lets `action` be asked of such a target.
pub(crate) fn applies(action: Action, target: &Target) -> bool {
    let kind = target.item.as_ref().map(|(kind, _)| *kind);
    match action {
        Action::CallTool => kind == Some(TargetKind::Tool),
        Action::GetPrompt => kind == Some(TargetKind::Prompt),
        Action::ReadResource | Action::SubscribeResource => {
            matches!(kind, Some(TargetKind::Resource | TargetKind::Template))
        }
        Action::Complete => {
            matches!(kind, Some(TargetKind::Prompt | TargetKind::Resource | TargetKind::Template))
        }
        Action::Connect | Action::Answer | Action::CallMethod => kind.is_none(),
        Action::Task => matches!(kind, None | Some(TargetKind::Tool)),
    }
}

/// The id of what is on a server: the first `/` ends the server's name, so no two pairs share an id.
fn item_id(server: &str, name: &str) -> String {
    format!("{}/{name}", server.replace('~', "~0").replace('/', "~1"))
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}
