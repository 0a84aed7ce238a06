//! One attempt at one request, whatever the instance speaks: what it knows, how it ends, and how it
//! watches an instance that is silent.

use std::cell::Cell;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::base::Ms;
use crate::model::{Instance, Pool, Rewrite};
use crate::observe::FailReason;
use crate::proxy::balance;
use crate::proxy::forward::body::{BodyError, BodySink, PumpError};
use crate::proxy::forward::connection::{Connection, Ending, Far, Responder};
use crate::proxy::forward::respond;
use crate::proxy::patience::{GaveUp, HasLeft, LOOK, Patience};
use crate::proxy::rewrite::Facts;
use crate::proxy::snapshot::PoolView;
use crate::proxy::suspicion::{note_failed, peers_answer, suspect};
use crate::proxy::timer::{TICK, Timer};
use crate::proxy::upstream;
use crate::proxy::wire::http1::HeadError;
use crate::proxy::wire::{Method, RequestHead, ResponseHead};
use crate::proxy::worker::Worker;

/// A request on its way to an instance.
#[derive(Debug)]
pub struct Attempt<'a> {
    /// The client's connection.
    pub connection: &'a Connection<'a>,
    /// The pool.
    pub view: &'a PoolView,
    /// The instance, on which the caller holds a slot.
    pub instance: &'a Arc<Instance>,
    /// The request.
    pub head: &'a RequestHead,
    /// What is known of it.
    pub facts: &'a Facts<'a>,
    /// Do not use a kept connection.
    pub fresh: bool,
    /// It may be sent to another instance after this one may have heard of it.
    pub repeatable: bool,
    /// The client is not bound to an instance yet: where clients are, this response does it.
    pub binds: bool,
    /// When the exchange as a whole must be over.
    pub overdue_at: Ms,
}

/// Why an attempt failed.
#[derive(Debug)]
pub enum Failure {
    /// No connection: nothing was sent.
    Connect(io::Error),
    /// A connection took no byte, or the instance says that it has looked at none: it closes.
    Unsent,
    /// The instance does not take the request now, and has not looked at it.
    Refused,
    /// A kept connection turned out to be closed; no byte of a response came.
    Stale,
    /// The connection broke before the response head was whole.
    Reset,
    /// The instance dropped this request alone, and no byte of a response came.
    Dropped,
    /// The instance went down while the request waited for it.
    Condemned,
    /// No response head in the time of one try.
    TryTimeout,
    /// No response head in time.
    ResponseTimeout,
    /// It cannot be said in what the instance speaks.
    Unsendable,
    /// What came is no valid response.
    BadResponse(HeadError),
    /// The exchange as a whole took too long, and no response has begun.
    Overdue,
    /// The client has left before a response began.
    Unwanted,
    /// The client's body broke off, or makes no sense.
    Client(BodyError),
    /// The response broke off: part of it is with the client.
    Cut(FailReason, Has),
}

/// What a client has of a response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Has {
    /// Nothing.
    Nothing,
    /// A part, and nothing says that it is not all.
    Part,
    /// A part, and a word that it is no more than that.
    PartAndWord,
}

impl Failure {
    /// Nobody listens there.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Connect(error) if error.kind() == ErrorKind::ConnectionRefused)
    }

    /// How it is counted, and what the client has of the response.
    pub fn reason(&self) -> (FailReason, Has) {
        let reason = match self {
            Self::Cut(reason, has) => return (*reason, *has),
            Self::Connect(error) => upstream::reason(error),
            Self::Unsent
            | Self::Refused
            | Self::Stale
            | Self::Reset
            | Self::Dropped
            | Self::Condemned => FailReason::Reset,
            Self::TryTimeout | Self::ResponseTimeout => FailReason::ResponseTimeout,
            Self::Unsendable => FailReason::Unsendable,
            Self::BadResponse(_) => FailReason::BadResponse,
            Self::Overdue => FailReason::TotalTimeout,
            Self::Unwanted => FailReason::ClientGone,
            Self::Client(error) => error.of_client(),
        };
        (reason, Has::Nothing)
    }
}

/// Silence that raises suspicion while peers answer.
const SILENCE: Duration = Duration::from_secs(1);

/// How long an instance may leave a client without the `100 Continue` that it waits for. Clients need not
/// wait for ever (RFC 9110 §10.1.1), but some do.
const INVITED_AFTER: Duration = Duration::from_secs(1);

/// Interim responses that may come before the final one.
const INTERIM_MAX: usize = 16;

/// How an attempt ended well.
#[derive(Debug)]
pub enum Done {
    /// The response is with the client.
    Answered {
        /// Its status.
        status: u16,
        /// How the exchange ended for the client's connection.
        ending: Ending,
    },
    /// Both sides have switched to another protocol, and the client was told so.
    Switched {
        /// The status that said so.
        status: u16,
        /// What leads to the instance.
        far: Far,
    },
}

impl Attempt<'_> {
    /// The worker that makes it.
    pub fn worker(&self) -> &Worker {
        self.connection.worker
    }

    /// What the pool changes in both heads.
    pub fn rewrite(&self) -> &Rewrite {
        &self.view.pool.upstream.rewrite
    }

    /// What it means that the body of the response did not come through. Where there are last words for
    /// that, `sink` takes them.
    pub fn broke_off(&self, error: PumpError, sink: &mut impl BodySink) -> Failure {
        let reason = match error {
            PumpError::Source(error) => error.of_instance(),
            PumpError::Sink(error) => return Failure::Cut(error.of_client(), Has::Part),
        };
        match respond::last_words(reason, self.facts) {
            Some(words) if sink.end_with(&words) => Failure::Cut(reason, Has::PartAndWord),
            _ => Failure::Cut(reason, Has::Part),
        }
    }

    /// For waits of at most `pause` each for the instance.
    pub fn patience<'a>(&self, timer: &'a Timer, pause: Duration) -> Patience<'a> {
        Patience::new(timer, pause, self.overdue_at)
    }

    /// How long the response head may take, and why it is waited for no longer.
    pub fn response_limit(&self) -> (Duration, Failure) {
        let Pool { timeouts, retry, .. } = &*self.view.pool;
        match retry.per_try {
            Some(limit) if self.repeatable && limit < timeouts.response => {
                (limit, Failure::TryTimeout)
            }
            _ => (timeouts.response, Failure::ResponseTimeout),
        }
    }

    /// Binds the client to the instance, if it is to be.
    pub fn bind(&self, response: &mut ResponseHead) {
        let PoolView { pool, picker, .. } = self.view;
        if self.binds
            && let Some(sticky) = &pool.affinity.sticky
            && let Some(token) = picker.token(self.instance)
        {
            balance::bind(response, sticky, token, self.facts.scheme == "https");
        }
    }

    /// Whether this answer to the request ends HTTP on the connection (RFC 9110 §7.8, §9.3.6).
    pub fn is_switch(&self, response: &ResponseHead) -> bool {
        response.status == 101
            || self.head.method == Method::Connect && (200..300).contains(&response.status)
    }

    /// Counts an answer, so long after it was asked for; `status` is what it says of the instance.
    pub fn count(&self, response: &ResponseHead, status: u16, took: Duration) {
        let worker = self.worker();
        self.instance.vitals.count_response(status, took);
        let cost = || balance::cost_of(response, took);
        self.view.learn(self.instance, worker.timers.now(), cost);
        if status >= 500 {
            note_failed(worker, &self.view.pool, self.instance);
        }
    }
}

/// Waiting for an instance.
pub struct Wait<'a> {
    /// The attempt.
    pub attempt: &'a Attempt<'a>,
    /// A byte of the response has come.
    pub heard: bool,
    /// When there was nothing more to send; before that nobody waits for the instance.
    pub sent_at: &'a Cell<Ms>,
    /// When the attempt began.
    began: Ms,
    /// The client waits for `100 Continue` before it sends its body.
    invites: bool,
    /// Interim responses that have come.
    interim: usize,
}

impl<'a> Wait<'a> {
    /// One that begins now. `invites` says that the client waits for `100 Continue`.
    pub fn new(attempt: &'a Attempt<'a>, invites: bool, sent_at: &'a Cell<Ms>) -> Self {
        let began = attempt.worker().timers.now();
        Self { attempt, heard: false, sent_at, began, invites, interim: 0 }
    }

    /// Waits for something of the instance, and watches it meanwhile. After a second of silence it may
    /// fall under suspicion; when it is down nobody waits for it who can go elsewhere; and when the
    /// client has left nobody waits at all.
    ///
    /// # Errors
    /// Why it is waited for no longer.
    pub async fn watch<F: Future>(
        &mut self,
        mut something: Pin<&mut F>,
        client: &mut impl Responder,
        has_left: HasLeft<'_>,
    ) -> Result<F::Output, Failure> {
        let Attempt { connection, view, instance, overdue_at, .. } = self.attempt;
        let (worker, timer) = (connection.worker, connection.timer);
        let (limit, too_late) = self.attempt.response_limit();
        loop {
            let sent_at = self.sent_at.get();
            let deadline = (sent_at + limit + TICK).min(*overdue_at);
            let look = timer.after(LOOK).min(deadline);
            match timer.until(look, something.as_mut()).await {
                Ok(came) => return Ok(came),
                Err(_) if worker.timers.now() >= *overdue_at => return Err(Failure::Overdue),
                Err(_) if worker.timers.now() >= deadline => return Err(too_late),
                Err(_) if has_left() => return Err(Failure::Unwanted),
                Err(_) => self.invite_late(client),
            }
            if instance.vitals.is_down() && self.attempt.repeatable && !self.heard {
                return Err(Failure::Condemned);
            }
            let silent = instance.vitals.last_byte() <= sent_at
                && worker.timers.now() >= sent_at + SILENCE + TICK;
            if silent && peers_answer(worker, view, instance) {
                suspect(worker, instance);
            }
        }
    }

    /// Part of a response has come.
    pub fn hear(&mut self) {
        self.heard = true;
        self.attempt.instance.vitals.note_byte(self.attempt.worker().timers.now());
    }

    /// Whether this is the head that is waited for. An interim one is passed on to a client that waits
    /// for it.
    ///
    /// # Errors
    /// If there is no end of interim responses.
    pub fn is_final(
        &mut self,
        response: &ResponseHead,
        client: &mut impl Responder,
    ) -> Result<bool, Failure> {
        if response.status >= 200 {
            return Ok(true);
        }
        if self.interim == INTERIM_MAX {
            return Err(UNASKED);
        }
        self.interim += 1;
        // A client that does not wait for it has no use for it.
        if response.status != 100 || self.invites {
            self.invites &= response.status != 100;
            client.interim(response, self.attempt.facts, self.attempt.rewrite());
        }
        Ok(false)
    }

    /// Invites a client that has waited long enough for an instance that may not know how to.
    fn invite_late(&mut self, client: &mut impl Responder) {
        let Attempt { connection, facts, .. } = self.attempt;
        if self.invites && connection.worker.timers.now() >= self.began + INVITED_AFTER {
            self.invites = false;
            let head = ResponseHead { status: 100, ..ResponseHead::default() };
            client.interim(&head, facts, self.attempt.rewrite());
        }
    }
}

/// Whether the instance has taken the whole request, now that its body moves no more. One that takes no
/// more of it has answered, or is about to, or is gone, which reading from it will tell.
///
/// # Errors
/// If there is no use in waiting for an answer.
pub fn is_sent(uploaded: Result<(), PumpError>) -> Result<bool, Failure> {
    match uploaded {
        Ok(()) => Ok(true),
        Err(PumpError::Source(error)) => Err(Failure::Client(error)),
        Err(PumpError::Sink(BodyError::GaveUp(GaveUp::Overdue))) => Err(Failure::Overdue),
        Err(PumpError::Sink(BodyError::GaveUp(_))) => Err(Failure::ResponseTimeout),
        Err(PumpError::Sink(_)) => Ok(false),
    }
}

/// What nobody asked for.
pub const UNASKED: Failure =
    Failure::BadResponse(HeadError::Malformed("unexpected interim response"));
