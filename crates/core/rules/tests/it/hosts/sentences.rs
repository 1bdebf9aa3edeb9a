//! Each sentence of `calico-components.md` §3.9 and §3.10 about host endpoints, by example.
