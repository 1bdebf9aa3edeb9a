//! Desired state to typed, backend-neutral rules and sets.

pub mod ir;
