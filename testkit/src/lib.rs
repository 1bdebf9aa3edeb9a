//! What tests share: a network namespace of their own, skips as data, real peers, waiting.
//!
//! A test that touches the kernel begins with [`netns!`]: it then runs in a process of its own, in an
//! empty network namespace with a private `/run`, so nothing of the machine is seen or changed.
//! One that needs a kernel other than the machine's begins with [`vm!`]: it runs in a small virtual machine.
//! A test that needs something a machine may lack begins with [`needs!`]: where that is missing, the
//! test writes a line to the skip ledger and ends. CI compares the ledger with
//! `testdata/allowed-skips.txt`.
//!
//! ```no_run
//! use caracal_testkit::{needs, netns};
//!
//! fn netns_example() {
//!     netns!();
//!     needs!("etcd");
//!     // … in a fresh namespace, and etcd is installed.
//! }
//! ```

mod background;
mod cni;
mod etcd;
mod isolate;
pub mod ledger;
mod needs;
mod partition;
mod pki;
mod table;
pub mod vm;
mod wait;

pub use background::Background;
pub use caracal_sys::NetNs;
pub use cni::{CniAttachment, CniFailure, CniRuntime};
pub use etcd::{Etcd, EtcdCluster};
pub use isolate::{DEFAULT_LIMIT, isolate, private_dir, test_name};
pub use needs::{find_tool, missing, skip};
pub use pki::{Authority, Issued};
pub use table::{Listed, problems_of_table};
pub use vm::Vm;
pub use wait::{eventually, free_port};

/// Makes the rest of the test run alone in a fresh network and mount namespace, as root there. Must be
/// the first statement of a test that returns `()`. An argument is the time limit in seconds.
#[macro_export]
macro_rules! netns {
    () => {
        $crate::netns!($crate::DEFAULT_LIMIT.as_secs())
    };
    ($seconds:expr) => {
        fn here() {}
        if !$crate::isolate(
            $crate::test_name(::std::any::type_name_of_val(&here)),
            ::std::time::Duration::from_secs($seconds),
        ) {
            return;
        }
    };
}

/// Makes the rest of the test run alone in a small virtual machine, as root there, with the [`Vm`] that the
/// argument gives. Must come before anything that changes the machine; a machine that cannot run another
/// writes a line to the skip ledger.
#[macro_export]
macro_rules! vm {
    ($vm:expr) => {
        $crate::needs!("vm");
        fn here_vm() {}
        if !$crate::vm::enter($crate::test_name(::std::any::type_name_of_val(&here_vm)), || $vm) {
            return;
        }
    };
}

/// Ends the test with a line in the skip ledger unless all that is named is there. A plain string is a
/// program's name, `root`, `vm` (for [`vm!`]) or `link:KIND`; `needs!(if CONDITION, "what")` tests anything else.
#[macro_export]
macro_rules! needs {
    (if $condition:expr, $what:expr) => {
        if !$condition {
            fn here_needs() {}
            $crate::skip($crate::test_name(::std::any::type_name_of_val(&here_needs)), $what);
            return;
        }
    };
    ($($what:expr),+ $(,)?) => {
        if let Some(lacking) = $crate::missing(&[$($what),+]) {
            fn here_needs() {}
            $crate::skip($crate::test_name(::std::any::type_name_of_val(&here_needs)), &lacking);
            return;
        }
    };
}
