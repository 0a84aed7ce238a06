//! What is known of a request and its client, and what is changed in the heads of its exchange.
//!
//! Pure. [`Facts`] are put together once a request; codecs write heads by them. Templates are rendered
//! straight into the head that is being written: nothing is allocated, and where nothing is to be
//! changed one test per field line says so.
//!
//! Invariant: no fact has a control character in it, because the codecs refuse heads that have one,
//! so a template cannot make two lines out of one.

use crate::base::Entropy;
use crate::model::rewrite::{Part, Variable};
use crate::model::{FieldEdits, Listener, Priority, Rewrite, Template};
use crate::proxy::wire::RequestHead;
use crate::proxy::wire::date::HttpDate;

/// What is known of a request and its client.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The request as it came.
    pub head: &'a RequestHead,
    /// The listener that it came to.
    pub listener: &'a Listener,
    /// The client's address, as text.
    pub client: &'a str,
    /// What the client spoke with us: `http` or `https`.
    pub scheme: &'static str,
    /// The subject of the client's certificate, if it was verified: printable ASCII.
    pub client_subject: Option<&'a str>,
    /// Whether the request came from a trusted peer: what it says about the client is kept.
    pub trusted: bool,
    /// The id that it is known by, if the listener gives ids.
    pub request_id: Option<RequestId<'a>>,
    /// When it came.
    pub date: HttpDate,
    /// What its route changes in both heads.
    pub route: &'a Rewrite,
    /// How much it matters to its route.
    pub priority: Priority,
}

impl Facts<'_> {
    /// What a variable stands for.
    pub fn value(&self, variable: Variable) -> &[u8] {
        match variable {
            Variable::Host => self.head.host(),
            Variable::Path => self.head.path_only(),
            Variable::Query => &self.head.fields.get(self.head.path)[self.head.path_only().len()..],
            Variable::Scheme => self.scheme.as_bytes(),
            Variable::Client => self.client.as_bytes(),
            Variable::RequestId => self.request_id.as_ref().map_or(b"", RequestId::as_bytes),
        }
    }

    /// Writes what a template says of this request.
    pub fn render(&self, template: &Template, out: &mut Vec<u8>) {
        for part in &template.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Variable(variable) => out.extend_from_slice(self.value(*variable)),
            }
        }
    }
}

/// Whether a field that came with a request would tell of a verified client, or could pass for one that
/// does: CGI, and what came after it, cannot tell most signs in names apart. Nobody is trusted in this.
pub fn poses_as_verified(listener: &Listener, name: &[u8]) -> bool {
    let is_alike = |a: &u8, b: &u8| {
        a.eq_ignore_ascii_case(b) || !(a.is_ascii_alphanumeric() || b.is_ascii_alphanumeric())
    };
    let is_it = |field: &String| {
        let field = field.as_bytes();
        field.len() == name.len() && field.iter().zip(name).all(|(a, b)| is_alike(a, b))
    };
    listener.client_subjects.iter().any(is_it)
}

/// Takes such fields out of trailers, which are `name: value CRLF` lines.
pub fn drop_poses(listener: &Listener, lines: &mut Vec<u8>) {
    if listener.client_subjects.is_empty() {
        return;
    }
    let mut at = 0;
    while let Some(end) = memchr::memchr(b'\n', &lines[at..]) {
        let line = &lines[at..=at + end];
        let name = memchr::memchr(b':', line).map_or(line, |colon| &line[..colon]);
        if poses_as_verified(listener, name) {
            lines.drain(at..=at + end);
        } else {
            at += end + 1;
        }
    }
}

/// The id by which a request is known in the logs of all that it passes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RequestId<'a> {
    /// It came with the request.
    Came(&'a [u8]),
    /// It was made here: 128 random bits in hexadecimal digits.
    Made([u8; 32]),
}

impl<'a> RequestId<'a> {
    /// The longest that is passed on, in bytes.
    pub const LEN_MAX: usize = 128;

    /// The id that came in `field` (in lower case) if it is the only one and harmless; a new one
    /// otherwise. It need not be hard to guess: nothing may be allowed because of it.
    pub fn of(head: &'a RequestHead, field: &str, entropy: &mut Entropy) -> Self {
        let fields = &head.fields;
        let mut came = fields.lines.iter().filter(|line| {
            line.name.len as usize == field.len()
                && fields.get(line.name).eq_ignore_ascii_case(field.as_bytes())
        });
        match (came.next(), came.next()) {
            (Some(line), None) if !line.nominated && is_harmless(fields.get(line.value)) => {
                Self::Came(fields.get(line.value))
            }
            _ => Self::Made(hexadecimal(entropy)),
        }
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Came(bytes) => bytes,
            Self::Made(digits) => digits,
        }
    }
}

fn is_harmless(id: &[u8]) -> bool {
    let may_be = |byte: &u8| byte.is_ascii_alphanumeric() || b"._~+/=:@-".contains(byte);
    (1..=RequestId::LEN_MAX).contains(&id.len()) && id.iter().all(may_be)
}

fn hexadecimal(entropy: &mut Entropy) -> [u8; 32] {
    let bits = u128::from(entropy.next_u64()) << 64 | u128::from(entropy.next_u64());
    let mut digits = [0; 32];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bits.to_be_bytes()) {
        pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
    digits
}

/// Nothing is changed.
pub static UNCHANGED: Rewrite = Rewrite { request: NO_EDITS, response: NO_EDITS };

const NO_EDITS: FieldEdits = FieldEdits { remove: Vec::new(), set: Vec::new(), add: Vec::new() };

/// What is changed in one head: what its route says, then what its pool says of the outcome.
#[derive(Clone, Copy, Debug)]
pub struct Edits<'a> {
    route: &'a FieldEdits,
    pool: &'a FieldEdits,
    /// Bit n stands for all names of n bytes (modulo 64) that are removed or set: by it most fields
    /// are known to stay without a look at any name.
    lengths: u64,
}

impl<'a> Edits<'a> {
    /// The edits of a route and of a pool, as one.
    pub fn new(route: &'a FieldEdits, pool: &'a FieldEdits) -> Self {
        let lengths = names(route).chain(names(pool)).fold(0, |bits, name| bits | bit(name.len()));
        Self { route, pool, lengths }
    }

    /// Whether fields of this name (in whatever case) that were there before are so no more.
    pub fn drops(&self, name: &[u8]) -> bool {
        self.lengths & bit(name.len()) != 0
            && names(self.route)
                .chain(names(self.pool))
                .any(|other| other.as_bytes().eq_ignore_ascii_case(name))
    }

    /// The fields that are new, in their order. Those that the pool sets or removes are no longer the
    /// route's.
    pub fn added(&self) -> impl Iterator<Item = (&'a str, &'a Template)> + Clone {
        let Self { route, pool, .. } = *self;
        let of_route = route.set.iter().chain(&route.add);
        let of_pool = pool.set.iter().chain(&pool.add);
        of_route
            .filter(|(name, _)| !names(pool).any(|other| other == name))
            .chain(of_pool)
            .map(|(name, template)| (name.as_str(), template))
    }
}

/// The names of the fields that are removed or set.
fn names(edits: &FieldEdits) -> impl Iterator<Item = &str> {
    let set = edits.set.iter().map(|(name, _)| name);
    edits.remove.iter().chain(set).map(String::as_str)
}

fn bit(len: usize) -> u64 {
    1 << (len % 64)
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
