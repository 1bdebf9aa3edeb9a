//! Service `etcdserverpb.Lease`.

use caracal_wire::etcdserverpb::lease_server::Lease;
use caracal_wire::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
};
use futures::StreamExt;
use futures::stream::BoxStream;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::Service;

#[async_trait]
impl Lease for Service {
    type LeaseKeepAliveStream = BoxStream<'static, Result<LeaseKeepAliveResponse, Status>>;

    async fn lease_grant(
        &self,
        request: Request<LeaseGrantRequest>,
    ) -> Result<Response<LeaseGrantResponse>, Status> {
        Ok(Response::new(
            self.engine.lease_grant(request.into_inner()).await?,
        ))
    }

    async fn lease_revoke(
        &self,
        request: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        Ok(Response::new(
            self.engine.lease_revoke(request.into_inner().id).await?,
        ))
    }

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let engine = self.engine.clone();
        let mut stopping = self.stopping.clone();
        let stopped = async move {
            // An error says that the server is gone altogether.
            let _ = stopping.wait_for(|stop| *stop).await;
        };
        let answers = request.into_inner().map(move |request| {
            let id = request?.id;
            let header = Some(engine.core.header(*engine.core.revision.borrow()));
            Ok(LeaseKeepAliveResponse {
                header,
                id,
                ttl: engine.lease_keep_alive(id),
            })
        });
        Ok(Response::new(answers.take_until(Box::pin(stopped)).boxed()))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        Ok(Response::new(
            self.engine.lease_time_to_live(request.into_inner()).await?,
        ))
    }

    async fn lease_leases(
        &self,
        _request: Request<LeaseLeasesRequest>,
    ) -> Result<Response<LeaseLeasesResponse>, Status> {
        Ok(Response::new(self.engine.lease_list().await?))
    }
}
