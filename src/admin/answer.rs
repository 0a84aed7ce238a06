//! From what is asked to the response.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;
use serde_json::json;

use crate::admin::explain::explain;
use crate::admin::problem::{self, Problem};
use crate::admin::route::Action;
use crate::admin::wish::{Wish, ZoneWish};
use crate::admin::{Admin, view};
use crate::base::PoolId;
use crate::base::clock::wall_seconds;
use crate::observe::metrics;

/// A response of the API.
pub(super) type Answer = Response<Full<Bytes>>;

impl Admin {
    /// Does what is asked; only orders of a size and of an evacuation look at the body.
    pub(super) async fn answer(&self, action: Action, body: &[u8]) -> Result<Answer, Problem> {
        match action {
            Action::Metrics => {
                let census = self.census.load_full();
                let text = self
                    .metrics
                    .render(&census, &(self.queues)())
                    .map_err(|why| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, why))?;
                Ok(written(StatusCode::OK, metrics::CONTENT_TYPE, text.into()))
            }
            Action::Healthz => Ok(text("ok\n")),
            Action::Readyz if self.census.load_full().ready => Ok(text("ready\n")),
            Action::Readyz => Err(Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "not ready: the daemon stops, or some instance has not been probed yet",
            )),
            Action::Status => {
                let census = self.census.load_full();
                Ok(json_of(&view::status(&self.node, &census, &(self.queues)())))
            }
            Action::Pool(pool) => {
                let census = self.census.load_full();
                let row = census.pool(&pool).ok_or_else(|| no_pool(&pool))?;
                Ok(json_of(&view::pool_detail(row, &(self.queues)())))
            }
            Action::Explain { pool, client } => {
                let census = self.census.load_full();
                let row = census.pool(&pool).ok_or_else(|| no_pool(&pool))?;
                let depth = view::depth(&pool, &(self.queues)());
                let home = client.and_then(|client| (self.homes)(&pool, client));
                Ok(json_of(&explain(row, depth, client, home.as_ref())))
            }
            Action::Scaling { pool, limit } => {
                let journal = self.journals.load_full().get(&pool).cloned();
                let known = journal.is_some() || self.census.load_full().pool(&pool).is_some();
                if !known {
                    return Err(no_pool(&pool));
                }
                // A pool without an agent has decided nothing.
                let (decisions, tally) = journal
                    .map(|journal| (journal.newest(limit), journal.tally()))
                    .unwrap_or_default();
                Ok(json_of(&view::Decisions { decisions, tally }))
            }
            Action::Scale(pool) => {
                let wrong = |why| Problem::new(StatusCode::BAD_REQUEST, why);
                let wish = Wish::read(body).map_err(wrong)?;
                let size = wish.order(wall_seconds()).map_err(wrong)?;
                self.control.scale(pool.clone(), size).await?;
                Ok(json_of(&json!({ "pool": pool, "override": size })))
            }
            Action::Protect { pool, instance, on } => {
                self.control.protect(pool.clone(), instance.clone(), on).await?;
                Ok(json_of(&json!({ "pool": pool, "instance": instance, "protected": on })))
            }
            Action::Drain { pool, instance, on } => {
                self.control.drain(pool.clone(), instance.clone(), on).await?;
                Ok(json_of(&json!({ "pool": pool, "instance": instance, "draining": on })))
            }
            Action::Evacuate(zone) => {
                let wrong = |why| Problem::new(StatusCode::BAD_REQUEST, why);
                let wish = ZoneWish::read(body).map_err(wrong)?;
                let evacuation = wish.evacuation(wall_seconds()).map_err(wrong)?;
                self.control.evacuate(zone.clone(), evacuation, wish.force).await?;
                let until = evacuation.until;
                Ok(json_of(&json!({ "zone": zone, "state": "evacuated", "until": until })))
            }
            Action::Restore(zone) => {
                self.control.restore(zone.clone()).await?;
                Ok(json_of(&json!({ "zone": zone, "evacuated": false })))
            }
            Action::Reload => {
                let summary = self.control.reload().await?;
                Ok(json_of(&json!({ "summary": summary })))
            }
        }
    }
}

impl Problem {
    /// As a response.
    pub(super) fn answer(&self) -> Answer {
        let mut answer =
            written(self.status, problem::CONTENT_TYPE, serialized(&self.details()).into());
        if let Some(allow) = self.allow {
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let realm = HeaderValue::from_static("Bearer realm=\"tidegate\"");
            answer.headers_mut().insert(WWW_AUTHENTICATE, realm);
        }
        answer
    }
}

fn no_pool(pool: &PoolId) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("there is no pool \"{pool}\""))
}

fn text(text: &'static str) -> Answer {
    written(StatusCode::OK, "text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()))
}

fn json_of(value: &impl Serialize) -> Answer {
    written(StatusCode::OK, "application/json", serialized(value).into())
}

fn serialized(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("views are made of strings, numbers and lists")
}

fn written(status: StatusCode, media_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
