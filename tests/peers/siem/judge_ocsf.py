"""Judges events, one per line, by the schema of their class as the package `ocsf-json-schema` has it."""

import collections
import json
import sys

import jsonschema
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

NAMES = {
    2004: "detection_finding",
    3002: "authentication",
    3003: "authorize_session",
    3004: "entity_management",
    6002: "application_lifecycle",
    6003: "api_activity",
    6008: "application_error",
}

if __name__ == "__main__":
    schemas = OcsfJsonSchemaEmbedded(get_ocsf_schema(version="1.8.0"))
    validators, seen, wrong = {}, collections.Counter(), collections.Counter()
    for line in open(sys.argv[1]):
        event = json.loads(line)
        name = NAMES[event["class_uid"]]
        profiles = tuple(event["metadata"].get("profiles", ()))
        if (name, profiles) not in validators:
            schema = schemas.get_class_schema(class_name=name, profiles=list(profiles))
            validators[name, profiles] = jsonschema.Draft202012Validator(schema)
        seen[name, event["metadata"]["event_code"]] += 1
        # Judging takes some ten milliseconds; the shape depends on the event alone.
        if seen[name, event["metadata"]["event_code"]] > 20:
            continue
        for error in validators[name, profiles].iter_errors(event):
            wrong[f"{name} {event['metadata']['event_code']} {'/'.join(map(str, error.path))}: {error.message[:200]}"] += 1
    print(", ".join(sorted({name for name, _ in seen})), "of", len({code for _, code in seen}), "events")
    for what, count in wrong.most_common(20):
        print(f"{count} times {what}", file=sys.stderr)
    sys.exit(1 if wrong or not seen else 0)
