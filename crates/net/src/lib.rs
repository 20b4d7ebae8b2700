//! Moves bytes: listeners, TLS, the guarded client, HTTP and stdio upstreams. Knows nothing of MCP.
