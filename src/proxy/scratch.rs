//! Memory for heads, and for what is written from them: borrowed from a pool per worker for the time
//! of a request, so that a request in steady state allocates nothing and an idle connection holds
//! nothing.

use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use crate::base::Stock;
use crate::observe::Account;
use crate::proxy::buffer::BUFFER_BYTES;
use crate::proxy::wire::{RequestHead, ResponseHead};

/// What a client's connection needs for a request.
#[derive(Debug, Default)]
pub struct Scratch {
    /// The request's head.
    pub request: RequestHead,
    /// The client's address, as text.
    pub client: String,
    /// Bytes to the client.
    pub to_client: Vec<u8>,
    /// What its attempts need.
    pub attempt: AttemptScratch,
}

/// What attempts at an instance need, one after the other, and what is told of them.
#[derive(Debug, Default)]
pub struct AttemptScratch {
    /// The response's head.
    pub response: ResponseHead,
    /// Bytes to the instance.
    pub to_instance: Vec<u8>,
    /// What becomes of the exchange.
    pub account: Account,
}

/// A worker's unused ones.
#[derive(Debug, Default)]
pub struct Scratches {
    /// Boxed, because they are moved into connections' futures.
    unused: Stock<Box<Scratch>>,
}

/// One that is in use; given back on drop.
#[derive(Debug)]
pub struct Borrowed {
    /// `None` only while it is dropped.
    scratch: Option<Box<Scratch>>,
    home: Rc<Scratches>,
}

impl Scratches {
    /// One with memory of earlier requests in it, and whatever they left.
    pub fn borrow(self: &Rc<Self>) -> Borrowed {
        let scratch = self.unused.take().unwrap_or_default();
        Borrowed { scratch: Some(scratch), home: Rc::clone(self) }
    }

    /// Lets go of some that nobody needs.
    pub fn sweep(&self) {
        self.unused.sweep();
    }
}

impl Scratch {
    /// Whether no message that it held was so large that keeping its memory would be a waste.
    fn is_small(&self) -> bool {
        let Self { request, to_client, attempt, .. } = self;
        [&request.fields.bytes, &attempt.response.fields.bytes, to_client, &attempt.to_instance]
            .iter()
            .all(|bytes| bytes.capacity() <= 2 * BUFFER_BYTES)
    }
}

impl Deref for Borrowed {
    type Target = Scratch;

    fn deref(&self) -> &Scratch {
        self.scratch.as_ref().expect("there until it is dropped")
    }
}

impl DerefMut for Borrowed {
    fn deref_mut(&mut self) -> &mut Scratch {
        self.scratch.as_mut().expect("there until it is dropped")
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(scratch) = self.scratch.take().filter(|scratch| scratch.is_small()) {
            self.home.unused.give(scratch);
        }
    }
}
