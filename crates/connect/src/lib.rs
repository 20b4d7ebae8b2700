//! Adapters to the systems of our users: authentication, secrets, keys, sinks.
