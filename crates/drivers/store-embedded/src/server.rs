//! Listening: a unix socket only its owner can use, and TCP when asked for, on loopback or with TLS.

use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::HeaderValue;
use caracal_tls::ServerTls;
use caracal_wire::etcdserverpb::auth_server::AuthServer;
use caracal_wire::etcdserverpb::cluster_server::ClusterServer;
use caracal_wire::etcdserverpb::kv_server::KvServer;
use caracal_wire::etcdserverpb::lease_server::LeaseServer;
use caracal_wire::etcdserverpb::maintenance_server::MaintenanceServer;
use caracal_wire::etcdserverpb::watch_server::WatchServer;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::signal::unix::SignalKind;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::Code;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;

use crate::engine::{Engine, MAX_REQUEST_BYTES};
use crate::error::ServeError;
use crate::gateway;
use crate::service::Service;

/// How long connections may take to end when the server stops.
const GRACE: Duration = Duration::from_secs(2);
/// Headers in which gRPC tells of a failure.
const CODE: &str = "grpc-status";
const MESSAGE: &str = "grpc-message";
/// A watcher's or lister's window: several values of a network's objects.
const WINDOW: u32 = 1 << 20;

/// Where to listen.
#[derive(Debug, Clone, Default)]
pub struct Listen {
    /// Path of the unix socket.
    pub socket: Option<PathBuf>,
    /// An address, of the loopback unless there is TLS; port 0 lets the system choose.
    pub tcp: Option<SocketAddr>,
    /// Certificates for TCP; clients must show one of their own.
    pub tls: Option<Arc<ServerTls>>,
}

/// A bound server that is not serving yet.
pub struct Server {
    engine: Engine,
    socket: Option<(PathBuf, UnixListener)>,
    tcp: Option<(SocketAddr, TcpListener)>,
    tls: Option<Arc<ServerTls>>,
}

impl Server {
    /// Binds what is to be listened on. A socket that a dead server left behind is replaced.
    pub async fn bind(engine: Engine, listen: Listen) -> Result<Self, ServeError> {
        if listen.socket.is_none() && listen.tcp.is_none() {
            return Err(ServeError::Nothing);
        }
        let tcp = match listen.tcp {
            Some(addr) => Some(bind_tcp(addr, listen.tls.is_some()).await?),
            None => None,
        };
        let socket = match listen.socket {
            Some(path) => {
                let listener = bind_socket(&path).await?;
                Some((path, listener))
            }
            None => None,
        };
        Ok(Self {
            engine,
            socket,
            tcp,
            tls: listen.tls,
        })
    }

    /// The TCP address in use.
    pub fn tcp_addr(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().map(|(addr, _)| *addr)
    }

    /// Serves until `shutdown` is ready: then stops accepting, ends streams, waits a little for the rest, removes the
    /// socket and closes the store.
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), ServeError> {
        heed_file_size();
        let (stop, stopping) = watch::channel(false);
        let routes = self.routes(stopping.clone());
        // It ends with this future, also when that is dropped.
        let mut beside = JoinSet::new();
        beside.spawn(self.engine.clone().expire());
        let socket = async {
            match self.socket {
                Some((path, listener)) => {
                    let incoming = UnixListenerStream::new(listener);
                    let done = transport()
                        .add_routes(routes.clone())
                        .serve_with_incoming_shutdown(incoming, stopped(stopping.clone()))
                        .await;
                    let _ = std::fs::remove_file(path);
                    done
                }
                None => Ok(()),
            }
        };
        let tcp = async {
            match (self.tcp, self.tls) {
                (Some((_, listener)), Some(tls)) => {
                    let incoming = ReceiverStream::new(tls.accept(listener));
                    transport()
                        .add_routes(routes.clone())
                        .serve_with_incoming_shutdown(incoming, stopped(stopping.clone()))
                        .await
                }
                (Some((_, listener)), None) => {
                    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
                    transport()
                        .add_routes(routes.clone())
                        .serve_with_incoming_shutdown(incoming, stopped(stopping.clone()))
                        .await
                }
                (None, _) => Ok(()),
            }
        };
        let serving = async { tokio::try_join!(socket, tcp) };
        let end = async {
            shutdown.await;
            stop.send_replace(true);
            tokio::time::sleep(GRACE).await;
        };
        let served = tokio::select! {
            served = serving => served.map(|_| ()),
            () = end => Ok(()),
        };
        beside.abort_all();
        self.engine.close().await;
        Ok(served?)
    }

    fn routes(&self, stopping: watch::Receiver<bool>) -> Routes {
        let mut urls = Vec::new();
        if let Some((path, _)) = &self.socket {
            urls.push(format!("unix://{}", path.display()));
        }
        if let Some((addr, _)) = &self.tcp {
            let scheme = if self.tls.is_some() { "https" } else { "http" };
            urls.push(format!("{scheme}://{addr}"));
        }
        let service = Service {
            engine: self.engine.clone(),
            stopping,
            urls,
        };
        // A little more than the limit, so that a request just over it is told so in etcd's words.
        let most = MAX_REQUEST_BYTES + (512 << 10);
        let routes = Routes::new(KvServer::new(service.clone()).max_decoding_message_size(most))
            .add_service(WatchServer::new(service.clone()))
            .add_service(LeaseServer::new(service.clone()))
            .add_service(ClusterServer::new(service.clone()))
            .add_service(MaintenanceServer::new(service.clone()))
            .add_service(AuthServer::new(service));
        gateway::routes(routes.into_axum_router(), &self.engine)
            .layer(axum::middleware::from_fn_with_state(self.engine.clone(), watched))
            .into()
    }
}

/// Counts a request and its answer. Where there is no answer but `UNIMPLEMENTED`, says what is spoken instead.
async fn watched(
    State(engine): State<Engine>,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> axum::response::Response {
    let path = request.uri().path().to_owned();
    let begun = Instant::now();
    let mut response = next.run(request).await;
    let ok = response.status().is_success();
    let headers = response.headers_mut();
    // An answer has its code in its trailers; what was refused has it here. The gateway has HTTP's.
    let code = match headers.get(CODE) {
        Some(code) => Code::from_bytes(code.as_bytes()),
        None if ok => Code::Ok,
        None => Code::Unknown,
    };
    if code == Code::Unimplemented && !headers.contains_key(MESSAGE) {
        let method = path.trim_start_matches('/');
        let text = format!(
            "{method} is not spoken by Caracal's embedded store: it serves the KV, Watch, Lease, Cluster, Maintenance \
             and Auth calls that docs/store.md lists; use etcd where more is needed"
        );
        // A path that cannot stand in a header has no method's name anyway.
        if let Ok(text) = HeaderValue::from_str(&text) {
            headers.insert(MESSAGE, text);
        }
    }
    engine.core.figures.answered(&path, code, begun.elapsed());
    response
}

fn transport() -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .accept_http1(true)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(4 * WINDOW)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
}

/// A file that may not grow (`ulimit -f`) ends the process by a signal; with a handler it is an error of the write.
fn heed_file_size() {
    let signal = SignalKind::from_raw(nix::sys::signal::Signal::SIGXFSZ as i32);
    if let Err(error) = tokio::signal::unix::signal(signal) {
        tracing::warn!(%error, "a limit of the file's size would end this process");
    }
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error says that the sender is gone, which is an end, too.
    let _ = stopping.wait_for(|stop| *stop).await;
}

async fn bind_tcp(addr: SocketAddr, secure: bool) -> Result<(SocketAddr, TcpListener), ServeError> {
    if !secure && !addr.ip().is_loopback() {
        return Err(ServeError::NotLoopback(addr));
    }
    let tcp = |source| ServeError::Tcp { addr, source };
    let listener = TcpListener::bind(addr).await.map_err(tcp)?;
    Ok((listener.local_addr().map_err(tcp)?, listener))
}

/// Binds under another name and renames when the mode is right: nobody else can connect at any moment.
async fn bind_socket(path: &Path) -> Result<UnixListener, ServeError> {
    let failed = |reason: String| ServeError::Socket {
        path: path.into(),
        reason,
    };
    match std::fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(failed(
                "the path exists and is not a socket; remove it or choose another --socket".into(),
            ));
        }
        Ok(_) if UnixStream::connect(path).await.is_ok() => {
            return Err(failed(
                "another server is listening on it; stop that one or choose another --socket".into(),
            ));
        }
        _ => {}
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).map_err(|e| failed(format!("creating its folder: {e}")))?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let fresh = PathBuf::from(name);
    let bound = UnixListener::bind(&fresh).and_then(|listener| {
        std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&fresh, path)?;
        Ok(listener)
    });
    bound.map_err(|error| {
        // What was not bound cannot be removed.
        let _ = std::fs::remove_file(&fresh);
        failed(format!("binding it: {error}"))
    })
}
