use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// A request to end, seen by every clone.
#[derive(Debug, Clone)]
pub struct Shutdown {
    sender: watch::Sender<bool>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self {
            sender: watch::channel(false).0,
        }
    }
}

impl Shutdown {
    /// Nobody has asked yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everybody to end.
    pub fn request(&self) {
        self.sender.send_replace(true);
    }

    /// Whether the end has been asked for.
    #[must_use]
    pub fn requested(&self) -> bool {
        *self.sender.borrow()
    }

    /// Waits until the end is asked for.
    pub async fn wait(&self) {
        let mut receiver = self.sender.subscribe();
        // `self` holds the sender, so the channel cannot close while this waits.
        let _ = receiver.wait_for(|asked| *asked).await;
    }
}

/// Requests the end on SIGTERM or SIGINT.
///
/// # Errors
/// When the handlers cannot be installed.
pub async fn on_signals(shutdown: Shutdown) -> std::io::Result<()> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => tracing::info!("SIGTERM: ending"),
        _ = int.recv() => tracing::info!("SIGINT: ending"),
        () = shutdown.wait() => {}
    }
    shutdown.request();
    Ok(())
}
