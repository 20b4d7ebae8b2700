//! The OpenAPI 3.1 document, made from the table of endpoints.

use serde_json::{Map, Value, json};

use super::{Access, ENDPOINTS, Endpoint};
use crate::{
    problem::ProblemBody,
    wire::{Described, flat},
};

/// The document for a gateway of `version`.
#[must_use]
pub fn document(version: &str) -> Value {
    let mut paths = Map::new();
    for endpoint in ENDPOINTS {
        let methods = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        if let Value::Object(methods) = methods {
            methods.insert(endpoint.method.to_ascii_lowercase(), operation(endpoint));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Portcullis admin API",
            "description": "Served on a loopback listener of its own. The token is in `admin.token` of the data directory.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            "version": version,
        },
        "paths": paths,
        "components": {
            "securitySchemes": {
                "key": { "type": "http", "scheme": "bearer", "description": "An API key of the gateway." },
                "signature": { "type": "apiKey", "in": "header", "name": "webhook-signature", "description":
                    "With `webhook-id` and `webhook-timestamp`, as Standard Webhooks has them." },
                "token": { "type": "http", "scheme": "bearer" },
            },
            "schemas": { "Problem": ProblemBody::schema() },
        },
    })
}

fn operation(endpoint: &Endpoint) -> Value {
    let mut parameters = Vec::new();
    if let Some((_, rest)) = endpoint.path.split_once('{') {
        let name = rest.trim_end_matches('}');
        parameters
            .push(json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }));
    }
    if let Some(query) = endpoint.query {
        parameters.extend(query_parameters(&query()));
    }
    let answer = match endpoint.answer {
        Some(schema) => json!({ "application/json": { "schema": schema() } }),
        None => json!({ "text/plain": { "schema": { "type": "string" } } }),
    };
    let problem = json!({ "application/json": { "schema": { "$ref": "#/components/schemas/Problem" } } });
    let doc = flat(endpoint.doc);
    let mut operation = json!({
        "operationId": endpoint.name,
        "summary": doc,
        "parameters": parameters,
        "responses": {
            "200": { "description": "done", "content": answer },
            "default": { "description": "not done", "content": problem },
        },
        "security": match endpoint.access {
            Access::Open => json!([]),
            Access::Metrics => json!([{ "token": [] }, {}]),
            Access::Signed => json!([{ "signature": [] }]),
            Access::Key => json!([{ "token": [] }, { "key": [] }]),
            Access::Token => json!([{ "token": [] }]),
        },
    });
    if let (Some(body), Value::Object(members)) = (endpoint.body, &mut operation) {
        let content = json!({ "required": true, "content": { "application/json": { "schema": body() } } });
        members.insert("requestBody".to_owned(), content);
    }
    operation
}

fn query_parameters(schema: &Value) -> Vec<Value> {
    let required = |name: &String| {
        schema
            .get("required")
            .and_then(Value::as_array)
            .is_some_and(|names| names.iter().any(|n| n == name.as_str()))
    };
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return Vec::new() };
    properties
        .iter()
        .map(|(name, schema)| {
            let description = schema.get("description").cloned().unwrap_or_default();
            // A parameter is there or not; there is no way to write null.
            let schema = schema.pointer("/anyOf/0").unwrap_or(schema);
            json!({ "name": name, "in": "query", "required": required(name), "description": description, "schema": schema })
        })
        .collect()
}
