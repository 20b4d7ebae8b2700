//! The Model Context Protocol as bytes: bounded JSON, JSON-RPC, both revisions, schema checks.
