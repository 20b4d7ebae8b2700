//! Worlds, hostile peers and runners for tests.
