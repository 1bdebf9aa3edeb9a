//! The services that tell about the server itself: `Cluster`, `Maintenance`, `Auth`.

use caracal_wire::etcdserverpb::auth_server::Auth;
use caracal_wire::etcdserverpb::cluster_server::Cluster;
use caracal_wire::etcdserverpb::maintenance_server::Maintenance;
use caracal_wire::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, AuthenticateRequest, AuthenticateResponse, Member,
    MemberListRequest, MemberListResponse, StatusRequest, StatusResponse,
};
use tonic::{Request, Response, Status, async_trait};

use super::Service;

/// The level of etcd's API that is spoken, and by whom.
const VERSION: &str = concat!("3.5.0+caracal.", env!("CARGO_PKG_VERSION"));

impl Service {
    fn header(&self) -> Option<caracal_wire::etcdserverpb::ResponseHeader> {
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
