//! The driver against the real kernel, each test in a network namespace of its own.

mod it {
    pub(crate) mod compiled;
    pub(crate) mod faults;
    pub(crate) mod kit;
    pub(crate) mod repair;
    pub(crate) mod shapes;
    pub(crate) mod updates;
}
