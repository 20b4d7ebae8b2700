//! Turns callers, targets and values into Cedar's entities. Ids cannot collide: a server's name is escaped before
//! the separator, and kinds have types of their own.

use alloc::{
    boxed::Box,
    format,
    string::{String, ToString},
    vec::Vec,
};

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, ParseErrors, RestrictedExpression,
};
use portcullis_core::{Action, Caller, CallerKind, Proof, Target, TargetKind};
use serde_json::Value;

use crate::{
    RequestContext,
    reads::{Read, Sort, Source},
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
        [&self.user, &self.service, &self.anonymous].contains(&literal.type_name())
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

    /// Caller and target. `attributes` leaves the caller's out where no policy reads them.
    pub(crate) fn entities(
        &self,
        caller: &Caller,
        target: &Target,
        attributes: bool,
    ) -> Result<Vec<Entity>, Unspeakable> {
        let roles = caller.roles.iter().map(|role| self.role(role));
        let who = self.caller(caller);
        let caller = if attributes {
            Entity::new_with_tags(who, self.caller_attributes(caller), roles, [])?
        } else {
            Entity::new_no_attrs(who, roles.collect())
        };
        let text = |value: &str| RestrictedExpression::new_string(value.to_string());
        let mut attributes = alloc::vec![("server".to_string(), text(&target.server))];
        let mut parents = Vec::new();
        if let Some((_, name)) = &target.item {
            attributes.push(("name".to_string(), text(name)));
            parents.push(uid(&self.server, &target.server));
        }
        let target = Entity::new_with_tags(self.target(target), attributes, parents, [])?;
        Ok(alloc::vec![caller, target])
    }

    fn caller_attributes(&self, caller: &Caller) -> Vec<(String, RestrictedExpression)> {
        let text = |value: &str| RestrictedExpression::new_string(value.to_string());
        let proof = match &caller.proof {
            Proof::Anonymous => "anonymous",
            Proof::ApiKey { key_id: _ } => "api_key",
            Proof::Certificate { fingerprint: _ } => "certificate",
            Proof::Introspected { issuer: _, token: _ } => "introspection",
            Proof::Jwt { issuer: _, token: _ } => "jwt",
            Proof::Local { uid: _ } => "local",
        };
        let scopes = RestrictedExpression::new_set(caller.scopes.iter().map(|scope| text(scope)));
        alloc::vec![
            ("id".to_string(), text(&caller.id)),
            ("proof".to_string(), text(proof)),
            ("scopes".to_string(), scopes),
            ("claims".to_string(), self.values(Source::Claims)),
        ]
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

    /// The context of a request.
    pub(crate) fn context(&self, context: &RequestContext<'_>) -> Result<Context, Unspeakable> {
        let mut pairs = alloc::vec![
            ("now".to_string(), RestrictedExpression::new_datetime(context.now.to_string())),
            ("revision".to_string(), RestrictedExpression::new_string(context.era.to_string())),
            ("arguments".to_string(), self.values(Source::Arguments)),
        ];
        if let Some(address) = context.source_ip {
            pairs.push(("source_ip".to_string(), RestrictedExpression::new_ip(address.to_string())));
        }
        Ok(Context::from_pairs(pairs)?)
    }
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
