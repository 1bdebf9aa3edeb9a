use std::{
    io::{Error, ErrorKind},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use axum::{Router, http::StatusCode, response::IntoResponse, routing::get, serve::Listener};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::{TcpListener, TcpStream};

use crate::{Health, Shutdown, process};

/// A server that could not be started or broke.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {what} address {host}:{port}: {source}")]
    Listen {
        /// `health` or `metrics`.
        what: &'static str,
        /// The host as configured.
        host: String,
        /// The port as configured.
        port: u16,
        /// Why.
        source: std::io::Error,
    },
    /// The server broke.
    #[error("{what} server: {source}")]
    Serve {
        /// `health` or `metrics`.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

/// How long an address may stay in use. A program that was killed keeps its sockets until its last thread is gone,
/// which may be after the next one was started.
const PATIENCE: Duration = Duration::from_secs(2);

async fn listen(host: &str, port: u16) -> std::io::Result<Listeners> {
    let started = tokio::time::Instant::now();
    loop {
        let bound = match host {
            "" => everywhere(port).await,
            host => TcpListener::bind((host, port)).await.map(Listeners::one),
        };
        match bound {
            Err(e) if e.kind() == ErrorKind::AddrInUse && started.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            done => return done,
        }
    }
}

/// All addresses, of both families where there are both. Whether a socket of IPv6 takes IPv4 as well is a setting of the
/// machine; where it does, the second one is in use by the first.
async fn everywhere(port: u16) -> std::io::Result<Listeners> {
    let v6 = match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Ok(v6) => v6,
        Err(e) if e.kind() == ErrorKind::AddrInUse => return Err(e),
        // A machine without IPv6.
        Err(_) => {
            return TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
                .await
                .map(Listeners::one);
        }
    };
    let port = v6.local_addr()?.port();
    let v4 = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await;
    Ok(Listeners {
        first: v6,
        second: v4.ok(),
    })
}

/// One socket or two.
#[derive(Debug)]
struct Listeners {
    first: TcpListener,
    second: Option<TcpListener>,
}

impl Listeners {
    fn one(first: TcpListener) -> Self {
        Self { first, second: None }
    }
}

impl Listener for Listeners {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        match &mut self.second {
            None => Listener::accept(&mut self.first).await,
            Some(second) => tokio::select! {
                accepted = Listener::accept(&mut self.first) => accepted,
                accepted = Listener::accept(second) => accepted,
            },
        }
    }

    fn local_addr(&self) -> Result<SocketAddr, Error> {
        self.first.local_addr()
    }
}

async fn serve(
    what: &'static str,
    host: &str,
    port: u16,
    router: Router,
    shutdown: Shutdown,
) -> Result<(), ServeError> {
    let listener = listen(host, port).await.map_err(|source| ServeError::Listen {
        what,
        host: if host.is_empty() { "any" } else { host }.to_owned(),
        port,
        source,
    })?;
    tracing::debug!(what, address = ?listener.local_addr().ok() as Option<SocketAddr>, "listening");
    axum::serve(listener, router)
        .with_graceful_shutdown(async move { shutdown.wait().await })
        .await
        .map_err(|source| ServeError::Serve { what, source })
}

fn answer((ok, detail): (bool, serde_json::Value)) -> impl IntoResponse {
    let status = if ok {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        status,
        [("content-type", "application/json")],
        format!("{detail}\n"),
    )
}

/// Serves `/liveness` and `/readiness`: 200 or 503, with the detail per part as JSON.
///
/// # Errors
/// When the address cannot be listened on or the server breaks.
pub async fn serve_health(
    host: &str,
    port: u16,
    health: Health,
    shutdown: Shutdown,
) -> Result<(), ServeError> {
    let (live, ready) = (health.clone(), health);
    let router = Router::new()
        .route("/liveness", get(move || async move { answer(live.live()) }))
        .route("/readiness", get(move || async move { answer(ready.ready()) }));
    serve("health", host, port, router, shutdown).await
}

/// How often samples of summaries are added up when nobody asks for them; else they would pile up.
const UPKEEP: Duration = Duration::from_secs(60);

/// Serves `/metrics` in Prometheus' text format, the figures of the process itself included.
///
/// # Errors
/// When the address cannot be listened on or the server breaks.
pub async fn serve_metrics(
    host: &str,
    port: u16,
    handle: PrometheusHandle,
    shutdown: Shutdown,
) -> Result<(), ServeError> {
    serve_metrics_and(host, port, handle, || async { String::new() }, shutdown).await
}

/// The same; `more` is asked for further lines of text each time somebody wants to see the figures.
///
/// # Errors
/// When the address cannot be listened on or the server breaks.
pub async fn serve_metrics_and<F>(
    host: &str,
    port: u16,
    handle: PrometheusHandle,
    more: impl Fn() -> F + Clone + Send + Sync + 'static,
    shutdown: Shutdown,
) -> Result<(), ServeError>
where
    F: Future<Output = String> + Send,
{
    let render = handle.clone();
    let text = move || async move {
        process::sample();
        let more = more().await;
        (
            [("content-type", "text/plain; version=0.0.4; charset=utf-8")],
            render.render() + &more,
        )
    };
    let router = Router::new().route("/metrics", get(text));
    let upkeep = async {
        let mut pause = tokio::time::interval(UPKEEP);
        loop {
            pause.tick().await;
            handle.run_upkeep();
        }
    };
    tokio::select! {
        outcome = serve("metrics", host, port, router, shutdown) => outcome,
        () = upkeep => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_comes_free_in_time_is_taken() {
        let before = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = before.local_addr().unwrap().port();
        let waiting = tokio::spawn(async move { listen("127.0.0.1", port).await });
        tokio::task::yield_now().await;
        drop(before);
        assert_eq!(waiting.await.unwrap().unwrap().local_addr().unwrap().port(), port);
    }

    #[tokio::test]
    async fn no_address_is_all_of_both_families() {
        let mut all = listen("", 0).await.unwrap();
        let port = all.local_addr().unwrap().port();
        let accepting = tokio::spawn(async move {
            let mut from = Vec::new();
            for _ in 0..2 {
                from.push(all.accept().await.1);
            }
            from
        });
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        match TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await {
            Ok(_) => assert_eq!(accepting.await.unwrap().len(), 2),
            // A machine without IPv6 has no such address; then nobody can ask there.
            Err(e) if e.kind() == ErrorKind::ConnectionRefused => panic!("{e}"),
            Err(_) => accepting.abort(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_stays_in_use_is_an_error() {
        let before = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = before.local_addr().unwrap().port();
        let refused = listen("127.0.0.1", port).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::AddrInUse);
    }
}
