use std::future::Future;

use tokio::task::JoinSet;

use crate::Shutdown;

/// How a program's tasks ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskEnd {
    /// All were asked to end and did.
    Clean,
    /// A task ended, failed or panicked on its own.
    Broken {
        /// Its name.
        task: &'static str,
        /// What happened.
        why: String,
    },
}

/// Runs tasks that must all live: the first that ends without being asked to ends the rest.
#[derive(Debug)]
pub struct Supervisor {
    shutdown: Shutdown,
    tasks: JoinSet<(&'static str, Result<(), String>)>,
    names: std::collections::HashMap<tokio::task::Id, &'static str>,
}

impl Supervisor {
    /// No tasks yet.
    #[must_use]
    pub fn new(shutdown: Shutdown) -> Self {
        Self {
            shutdown,
            tasks: JoinSet::new(),
            names: std::collections::HashMap::new(),
        }
    }

    /// Starts a task. It should end when the shutdown is requested.
    pub fn spawn<E: std::fmt::Display>(
        &mut self,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let handle = self
            .tasks
            .spawn(async move { (name, task.await.map_err(|e| e.to_string())) });
        self.names.insert(handle.id(), name);
    }

    /// Waits until all tasks have ended; the first end that nobody asked for requests the shutdown.
    pub async fn run(mut self) -> TaskEnd {
        let mut end = TaskEnd::Clean;
        while let Some(joined) = self.tasks.join_next_with_id().await {
            let (task, outcome) = match joined {
                Ok((_, (name, outcome))) => (name, outcome),
                Err(e) => (
                    self.names.get(&e.id()).copied().unwrap_or("task"),
                    Err(e.to_string()),
                ),
            };
            let why = match outcome {
                Ok(()) if self.shutdown.requested() => continue,
                Ok(()) => "it ended without being asked to".to_owned(),
                Err(why) => why,
            };
            tracing::error!(task, why, "a task broke; ending");
            if end == TaskEnd::Clean {
                end = TaskEnd::Broken { task, why };
            }
            self.shutdown.request();
        }
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_broken_task_ends_the_others() {
        let shutdown = Shutdown::new();
        let mut s = Supervisor::new(shutdown.clone());
        let waits = shutdown.clone();
        s.spawn("waits", async move {
            waits.wait().await;
            Ok::<(), String>(())
        });
        s.spawn("fails", async { Err("out of luck") });
        assert_eq!(
            s.run().await,
            TaskEnd::Broken {
                task: "fails",
                why: "out of luck".to_owned()
            }
        );
        assert!(shutdown.requested());
    }

    #[tokio::test]
    async fn a_panic_is_named() {
        let mut s = Supervisor::new(Shutdown::new());
        s.spawn::<String>("panics", async { panic!("boom") });
        let TaskEnd::Broken { task, .. } = s.run().await else {
            panic!("the panic was missed")
        };
        assert_eq!(task, "panics");
    }
}
