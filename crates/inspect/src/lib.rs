//! What goes in and what comes out: detectors, redactors and the verdict.
