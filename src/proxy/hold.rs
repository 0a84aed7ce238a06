//! The hold queue of a pool: requests that wait for a free slot, over all workers.
//!
//! It costs nothing while nobody waits: whoever frees a slot reads one counter. The order of
//! operations is what keeps a waiter from sleeping through the slot that was meant for it: a waiter
//! announces itself, starts to listen, and only then looks for a slot; a leaver frees the slot and
//! only then looks for waiters. One of the two always sees the other.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Requests of one pool that wait.
#[derive(Debug, Default)]
pub struct Hold {
    waiting: AtomicU32,
    /// First come, first woken; a wake-up that its waiter does not take is passed on.
    bell: Notify,
}

/// A place in the queue; given up on drop.
#[derive(Debug)]
pub struct Place<'a> {
    hold: &'a Hold,
}

impl Hold {
    /// How many wait now.
    pub fn depth(&self) -> u32 {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Takes a place, unless `max` are taken.
    pub fn join(&self, max: u32) -> Option<Place<'_>> {
        self.waiting
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| (now < max).then_some(now + 1))
            .is_ok()
            .then(|| Place { hold: self })
    }

    /// A slot was freed: wakes the one that waits longest.
    pub fn slot_freed(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.bell.notify_one();
        }
    }

    /// The membership changed: everyone looks again.
    pub fn membership_changed(&self) {
        self.bell.notify_waiters();
    }
}

impl Place<'_> {
    /// A wake-up to wait for; enable it before looking for a slot.
    pub fn wake_up(&self) -> Notified<'_> {
        self.hold.bell.notified()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.hold.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_given_up() {
        let hold = Hold::default();
        let one = hold.join(2).expect("a place");
        let _two = hold.join(2).expect("a place");
        assert!(hold.join(2).is_none());
        drop(one);
        assert_eq!(hold.depth(), 1);
        assert!(hold.join(2).is_some());
        assert!(hold.join(0).is_none(), "0 turns waiting off");
    }

    #[tokio::test]
    async fn a_wake_up_nobody_takes_is_passed_on() {
        let hold = Hold::default();
        let (one, two) = (hold.join(9).expect("a place"), hold.join(9).expect("a place"));
        let (mut first, mut second) = (Box::pin(one.wake_up()), Box::pin(two.wake_up()));
        first.as_mut().enable();
        second.as_mut().enable();
        hold.slot_freed();
        drop(first);
        tokio::time::timeout(std::time::Duration::from_secs(5), second).await.expect("woken");
    }
}
