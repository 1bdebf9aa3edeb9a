use std::sync::{Mutex, PoisonError};

use caracal_wire::etcdserverpb::{AuthenticateRequest, auth_client::AuthClient};
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use crate::endpoint::Login;

/// A channel whose requests carry the session's token.
pub(crate) type Wire = InterceptedService<Channel, Token>;

/// The token of a session, for the header of each request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Token(Option<MetadataValue<Ascii>>);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("token", token.clone());
        }
        Ok(request)
    }
}

/// The session of a user, opened at the first request, or nothing where no user is set.
#[derive(Debug)]
pub(crate) struct Session {
    login: Option<Login>,
    /// The token with a number, so that of several requests that find it expired only one drops it.
    open: Mutex<(u64, Option<MetadataValue<Ascii>>)>,
    opening: tokio::sync::Mutex<()>,
}

impl Session {
    pub(crate) fn new(login: Option<Login>) -> Self {
        Self {
            login,
            open: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
        }
    }

    /// The channel with the token, and the token's number.
    pub(crate) async fn enter(&self, channel: &Channel) -> Result<(Wire, u64), Status> {
        let wire = |token| InterceptedService::new(channel.clone(), Token(token));
        let Some(login) = &self.login else {
            return Ok((wire(None), 0));
        };
        if let (number, Some(token)) = self.current() {
            return Ok((wire(Some(token)), number));
        }
        // Requests that come while one logs in use its session.
        let _one = self.opening.lock().await;
        if let (number, Some(token)) = self.current() {
            return Ok((wire(Some(token)), number));
        }
        let request = AuthenticateRequest {
            name: login.user.clone(),
            password: login.password.clone(),
        };
        let answer = match AuthClient::new(channel.clone()).authenticate(request).await {
            Ok(answer) => answer.into_inner(),
            // Users are set up, but not switched on (yet): etcd's own client goes on, too.
            Err(status) if status.message().contains("authentication is not enabled") => {
                return Ok((wire(None), 0));
            }
            Err(status) => return Err(status),
        };
        let token = MetadataValue::try_from(answer.token)
            .map_err(|_| Status::internal("etcd's token cannot be sent in a header"))?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.0 += 1;
        open.1 = Some(token.clone());
        Ok((wire(Some(token)), open.0))
    }

    /// Whether the answer says that the session of this number is over; it is closed then.
    pub(crate) fn is_over(&self, status: &Status, number: u64) -> bool {
        let text = status.message();
        let over = match status.code() {
            Code::Unauthenticated => text.contains("invalid auth token"),
            Code::InvalidArgument => text.contains("revision of auth store is old"),
            // A watch says no more than this.
            Code::PermissionDenied => text.contains(WATCH_REFUSED),
            _ => false,
        };
        if self.login.is_none() || !over {
            return false;
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.0 == number {
            open.1 = None;
        }
        true
    }

    fn current(&self) -> (u64, Option<MetadataValue<Ascii>>) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// In the message of a watch that the server refused at its start.
pub(crate) const WATCH_REFUSED: &str = "the watch was refused";
