//! From an exchange or a connection that is over to its line in the access log.

use std::cell::Cell;

use crate::base::clock::wall_seconds;
use crate::observe::access::line::micros;
use crate::observe::access::{Line, Request};
use crate::observe::meter::Odometer;
use crate::observe::{Account, FailReason};
use crate::proxy::admit::Visit;
use crate::proxy::wire::{RequestHead, Version};

/// Why a connection was not served to its end when its worker had to end.
const STOPPED: &str = "stopped";

/// Writes the line of a request, and ends its account. `client` is the client's address as text;
/// without `head` the request could not be read.
pub fn tell(visit: &Visit, client: &str, head: Option<&RequestHead>, account: &mut Account) {
    let protocol = match head.map(|head| head.version) {
        Some(Version::Http2) => "HTTP/2.0",
        Some(Version::Http11) => "HTTP/1.1",
        Some(Version::Http10) => "HTTP/1.0",
        None => "http",
    };
    write(visit, client, protocol, head, account);
}

fn write(
    visit: &Visit,
    client: &str,
    protocol: &'static str,
    head: Option<&RequestHead>,
    account: &mut Account,
) {
    let Visit { worker, view, .. } = visit;
    let took = worker.clock.elapsed().saturating_sub(account.began);
    let began = wall_seconds() - took.as_secs_f64();
    worker.access.write(&Line {
        began_ms: (began * 1000.0) as u64,
        took_us: micros(took),
        listener: view.listener.id.as_str(),
        client,
        protocol,
        request: head.map(request),
        account,
    });
    account.end();
}

fn request(head: &RequestHead) -> Request<'_> {
    let fields = &head.fields;
    Request {
        method: fields.get(head.method_name),
        host: fields.get(head.authority),
        target: fields.get(head.path),
        referer: fields.value("referer"),
        user_agent: fields.value("user-agent"),
    }
}

/// A connection whose bytes go by unread. Its line is written when it is dropped, so also if its worker
/// ends before it has.
#[derive(Debug)]
pub struct Trip<'a> {
    visit: &'a Visit,
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
    /// Only where there is an access log: a connection that idles holds nothing for it.
    told: Option<Box<Told>>,
}

#[derive(Debug)]
struct Told {
    account: Account,
    /// The request that led to it; a TCP connection has none.
    head: Option<RequestHead>,
}

impl<'a> Trip<'a> {
    /// One that has come as far as the account says.
    pub fn new(visit: &'a Visit, mut account: Account, head: Option<RequestHead>) -> Self {
        let told = account.is_on().then(|| {
            account.failure = account.failure.or(Some(STOPPED));
            Box::new(Told { account, head })
        });
        Self { visit, bytes_in: Cell::new(0), bytes_out: Cell::new(0), told }
    }

    /// Counts the bytes from the client.
    pub fn from_client(&self) -> Odometer<'_> {
        Odometer { listener: &self.visit.shard().bytes_in, trip: &self.bytes_in }
    }

    /// Counts the bytes to the client.
    pub fn to_client(&self) -> Odometer<'_> {
        Odometer { listener: &self.visit.shard().bytes_out, trip: &self.bytes_out }
    }

    /// It has come to its end, or failed.
    pub fn end(mut self, failure: Option<FailReason>) {
        if let Some(told) = &mut self.told {
            told.account.failure = failure.map(FailReason::word);
        }
    }
}

impl Drop for Trip<'_> {
    fn drop(&mut self) {
        let Some(told) = &mut self.told else { return };
        let Told { account, head } = &mut **told;
        account.bytes_in += self.bytes_in.get();
        account.bytes_out += self.bytes_out.get();
        account.body_out += self.bytes_out.get();
        let client = self.visit.guest.client().ip().to_canonical().to_string();
        match head {
            Some(head) => tell(self.visit, &client, Some(head), account),
            None => write(self.visit, &client, "tcp", None, account),
        }
    }
}
