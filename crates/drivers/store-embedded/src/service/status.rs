//! The services that tell about the server itself: `Cluster`, `Maintenance`, `Auth`.

use std::fs::File;
use std::io::Read;

use caracal_wire::etcdserverpb::auth_server::Auth;
use caracal_wire::etcdserverpb::cluster_server::Cluster;
use caracal_wire::etcdserverpb::maintenance_server::Maintenance;
use caracal_wire::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, AuthenticateRequest, AuthenticateResponse, Member,
    MemberListRequest, MemberListResponse, ResponseHeader, SnapshotRequest, SnapshotResponse, StatusRequest,
    StatusResponse,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, async_trait};

use super::Service;

/// The level of etcd's API that is spoken, and by whom.
const VERSION: &str = concat!("3.5.0+caracal.", env!("CARGO_PKG_VERSION"));

impl Service {
    fn header(&self) -> Option<ResponseHeader> {
        let core = &self.engine.core;
        Some(core.header(*core.revision.borrow()))
    }
}

#[async_trait]
impl Cluster for Service {
    async fn member_list(
        &self,
        _: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        let member = Member {
            id: self.engine.core.member(),
            name: "caracal-store".into(),
            client_ur_ls: self.urls.clone(),
            ..Default::default()
        };
        Ok(Response::new(MemberListResponse {
            header: self.header(),
            members: vec![member],
        }))
    }
}

#[async_trait]
impl Maintenance for Service {
    type SnapshotStream = ReceiverStream<Result<SnapshotResponse, Status>>;

    /// A backup, which `caracal store restore` takes. It is a file of this store and not one of etcd.
    async fn snapshot(&self, _: Request<SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        let (revision, file) = self.engine.snapshot_file().await?;
        let header = self.engine.core.header(revision);
        let (parts, stream) = tokio::sync::mpsc::channel(4);
        tokio::task::spawn_blocking(move || send_file(file, &header, &parts));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    /// The alarm for a full disk comes and goes with the disk; setting and clearing it by hand does nothing.
    async fn alarm(&self, _: Request<AlarmRequest>) -> Result<Response<AlarmResponse>, Status> {
        let alarm = AlarmMember {
            member_id: self.engine.core.member(),
            alarm: AlarmType::Nospace.into(),
        };
        let alarms = if self.engine.is_low_on_space() {
            vec![alarm]
        } else {
            Vec::new()
        };
        Ok(Response::new(AlarmResponse {
            header: self.header(),
            alarms,
        }))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let stats = self.engine.stats().await?;
        let size = i64::try_from(stats.file_bytes).unwrap_or(i64::MAX);
        let index = stats.revision.unsigned_abs();
        let low = self.engine.is_low_on_space();
        Ok(Response::new(StatusResponse {
            header: self.header(),
            version: VERSION.into(),
            db_size: size,
            db_size_in_use: size,
            leader: self.engine.core.member(),
            raft_index: index,
            raft_applied_index: index,
            raft_term: 1,
            errors: if low {
                vec!["the disk is nearly full: puts are refused".into()]
            } else {
                Vec::new()
            },
            is_learner: false,
        }))
    }
}

/// Bytes of a backup in a message, as etcd has it.
const PART: usize = 32 << 10;

/// Sends a file in parts, until it is sent or nobody listens.
fn send_file(
    mut file: File,
    header: &ResponseHeader,
    parts: &tokio::sync::mpsc::Sender<Result<SnapshotResponse, Status>>,
) {
    let mut left = file.metadata().map_or(0, |meta| meta.len());
    while left > 0 {
        let mut blob = vec![0; usize::try_from(left).unwrap_or(PART).min(PART)];
        let read = file.read_exact(&mut blob);
        left -= blob.len() as u64;
        let part = read.map(|()| SnapshotResponse {
            header: Some(*header),
            remaining_bytes: left,
            blob: blob.into(),
        });
        let failed = part.is_err();
        let part = part.map_err(|e| Status::unavailable(format!("reading the backup: {e}")));
        if parts.blocking_send(part).is_err() || failed {
            return;
        }
    }
}

#[async_trait]
impl Auth for Service {
    async fn authenticate(
        &self,
        _: Request<AuthenticateRequest>,
    ) -> Result<Response<AuthenticateResponse>, Status> {
        Err(Status::failed_precondition(
            "etcdserver: authentication is not enabled",
        ))
    }
}
