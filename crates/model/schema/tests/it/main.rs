//! The schemas against Calico's, the types, and the kinds' own validation.

mod reference;
mod testdata;
