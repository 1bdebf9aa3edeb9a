use std::process::{Child, Command};

use caracal_sys::{NetNs, spawn_in};

/// A program that runs beside the test and is killed, by its process number, when this value goes.
#[derive(Debug)]
pub struct Background {
    child: Child,
}

impl Background {
    /// Starts a program in the calling thread's namespaces.
    pub fn spawn(command: &mut Command) -> Self {
        let program = command.get_program().to_owned();
        let child = command
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {}: {e}", program.display()));
        Self { child }
    }

    /// Starts a program in another network namespace.
    pub fn spawn_in(netns: &NetNs, command: &mut Command) -> Self {
        Self {
            child: spawn_in(command, Some(netns), None).unwrap_or_else(|e| panic!("{e}")),
        }
    }

    /// The process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The process, to wait for it or to use its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Kills it now (SIGKILL) and waits until it is gone.
    pub fn kill(&mut self) {
        // Fails only if it has ended and been waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.kill();
    }
}
