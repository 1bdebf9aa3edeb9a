//! Manifests, defaulting and validation through the public API.

mod manifest;
