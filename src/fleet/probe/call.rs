//! The check by gRPC, over a real connection.

use bytes::Bytes;
use h2::client::SendRequest;

use crate::fleet::order::{ProbeError, ProbeOrder};
use crate::model::GrpcCheck;

use super::kept::{Carrier, Line};
use super::{Failure, address, grpc};

/// A connection to an instance, for calls; another task works on it until this is dropped.
pub(super) type Calls = SendRequest<Bytes>;

impl Carrier for Calls {
    /// Only the next call tells.
    fn is_good(&self) -> bool {
        true
    }
}

/// Makes the call of a check and judges its answer; gives back the connection if another call may be made
/// on it.
pub(super) async fn ask(
    order: &ProbeOrder,
    check: &GrpcCheck,
    mut line: Line<Calls>,
) -> Result<(Result<(), ProbeError>, Line<Calls>), Failure> {
    let was_kept = !line.begin();
    let unheard = |error: h2::Error| Failure { error: broken(&error), is_stale: was_kept };
    let authority = check.host.clone().unwrap_or_else(|| address(order).to_string());
    let head = grpc::head(if order.pool.health.tls { "https" } else { "http" }, &authority)
        .ok_or_else(|| Failure {
            error: ProbeError::Local(format!("{authority:?} cannot be asked for")),
            is_stale: false,
        })?;
    let mut calls = line.carrier.clone().ready().await.map_err(unheard)?;
    let (response, mut body) = calls.send_request(head, false).map_err(unheard)?;
    body.send_data(grpc::question(&check.service), true).map_err(unheard)?;
    let response = response.await.map_err(unheard)?;
    if let Err(error) = grpc::judge_head(&response) {
        return Ok((Err(error), line));
    }
    let heard = |error: h2::Error| Failure { error: broken(&error), is_stale: false };
    let (head, mut body) = response.into_parts();
    let mut answer = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.map_err(heard)?;
        answer.extend_from_slice(&piece);
        if answer.len() > grpc::ANSWER_MOST {
            return Ok((Err(ProbeError::NotGrpc), line));
        }
        let _ = body.flow_control().release_capacity(piece.len());
    }
    let trailers = body.trailers().await.map_err(heard)?;
    Ok((grpc::judge(&answer, trailers.as_ref().unwrap_or(&head.headers)), line))
}

/// Why there is no answer.
pub(super) fn broken(error: &h2::Error) -> ProbeError {
    match error.get_io() {
        Some(error) => ProbeError::Broken(error.kind()),
        None if error.is_remote() => ProbeError::Closed,
        // It does not speak HTTP/2.
        None => ProbeError::NotGrpc,
    }
}
