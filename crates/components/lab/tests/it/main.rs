//! Integration tests of the lab and of policy-check.

mod prober;
