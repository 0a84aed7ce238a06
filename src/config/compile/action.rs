//! What a route does with what it matches: one of three things.

use std::sync::Arc;

use crate::base::PoolId;
use crate::config::bound::Count;
use crate::config::fault::Place;
use crate::config::http::RedirectStatus;
use crate::config::raw::{self, File};
use crate::model::{Action, Page, Redirect, Respond};

use super::Compiler;

/// Statuses whose responses have no body (RFC 9110, 15.3.5, 15.3.6, 15.4.5).
const WITHOUT_BODY: [u16; 3] = [204, 205, 304];

impl Compiler<'_> {
    /// `None` if a fault was noted.
    pub(super) fn action(&mut self, file: &File, raw: &raw::Route) -> Option<Action> {
        let written =
            [raw.pool.written(), raw.redirect.table.written(), raw.respond.table.written()];
        let mut written = written.into_iter().flatten();
        let Some(first) = written.next() else {
            let hint = "write pool = \"NAME\", or redirect = { to = \"…\" }, or respond = { status = 200 }";
            self.fault(raw.pool.place, &raw.pool.key, "is missing", hint);
            return None;
        };
        self.one_action(first, written);
        if raw.redirect.table.present {
            self.redirect(&raw.redirect).map(Arc::new).map(Action::Redirect)
        } else if raw.respond.table.present {
            self.respond(&raw.respond).map(Arc::new).map(Action::Respond)
        } else {
            let pool = self.choose(&raw.pool, None, None)?;
            self.exists(&pool, "pool", file.pools.iter().map(|(name, _)| name.value.as_str()));
            Some(Action::Pool(PoolId::new(pool.value)))
        }
    }

    /// Notes a fault for every action but the first.
    fn one_action<'r>(
        &self,
        (_, first): (Place, &str),
        others: impl Iterator<Item = (Place, &'r str)>,
    ) {
        let name = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
        for (place, key) in others {
            let problem = format!("stands beside {}: a route does one thing", name(first));
            self.fault(place, key, problem, "leave one of them out");
        }
    }

    fn redirect(&mut self, raw: &raw::Redirect) -> Option<Redirect> {
        let to = self.required(&raw.to, None, "write it like to = \"https://{host}{path}{query}\"");
        let status = self.own(&raw.status, RedirectStatus(308)).0;
        Some(Redirect { status, to: to?.value.0 })
    }

    fn respond(&mut self, raw: &raw::Respond) -> Option<Respond> {
        let status = self.own(&raw.status, Count(200)).0 as u16;
        let written = raw.body.written().or(raw.file.written());
        if let Some((place, key)) = written
            && WITHOUT_BODY.contains(&status)
        {
            let problem = format!("a response with status {status} has no body");
            self.fault(place, key, problem, "leave it out");
        }
        if let (Some(_), Some((place, key))) = (raw.body.written(), raw.file.written()) {
            let problem = "stands beside body: there is one body";
            self.fault(place, key, problem, "leave one of them out");
        }
        if let (None, Some((place, key))) = (written, raw.media_type.written()) {
            let problem = "is the type of a body, and there is none";
            self.fault(place, key, problem, "add body = \"…\" or file = \"…\"");
        }
        let page = match written {
            Some(_) => Some(self.respond_page(raw)?),
            None => None,
        };
        Some(Respond { status, page })
    }

    fn respond_page(&mut self, raw: &raw::Respond) -> Option<Page> {
        let body = self.choose(&raw.body, None, None);
        let file = self.choose(&raw.file, None, None);
        let content_type = self.choose(&raw.media_type, None, None).map(|it| it.value.0);
        match (body, file) {
            (Some(body), _) => {
                let plain = || "text/plain; charset=utf-8".to_owned();
                let content_type = content_type.unwrap_or_else(plain);
                Some(Page { content_type, body: body.value.into_bytes() })
            }
            (None, file) => {
                let file = file?;
                self.page(&file.value, file.place, &file.key, content_type)
            }
        }
    }
}
