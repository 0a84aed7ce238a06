//! A pick allocates nothing, whatever the algorithm and however many there are. The counting allocator
//! is why this is a binary of its own.

#![expect(unsafe_code, reason = "an allocator is unsafe to implement; this one only counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;

use tidegate::base::{Entropy, Ms, Share};
use tidegate::model::{Balance, Instance, Pool, Sticky, Tier, TrafficPlan};
use tidegate::proxy::balance::{Ask, Cursor, KEY_LEN, Keys, Memory, Picker, bind};
use tidegate::proxy::wire::ResponseHead;

/// The system's, which counts what each thread asks of it.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is passed on to the system's allocator as it came. `realloc` and `alloc_zeroed`
// are the trait's own, which call `alloc`.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller has promised what is asked for here.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above, and it came from there.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// How often this allocates.
fn allocations(run: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    run();
    ALLOCATIONS.get() - before
}

/// A pool of so many instances in three zones, and its picker.
fn picker(balance: Balance, count: u16) -> (Vec<Arc<Instance>>, Picker) {
    let zones = ["a", "b", "c"];
    let instance = |n: u16| {
        Arc::new(Instance {
            id: format!("i{n}").as_str().into(),
            pool: "p".into(),
            zone: zones[usize::from(n) % 3].into(),
            address: ([127, 0, 0, 1], n).into(),
            weight: 1 + u32::from(n) % 2,
            vitals: Arc::default(),
        })
    };
    let instances: Vec<_> = (0..count).map(instance).collect();
    let mut pool = Pool { balance, ..Pool::new("p".into()) };
    pool.affinity.sticky = Some(Sticky { cookie: "s".into(), ttl: None });
    let tier = |zones: &[&str], share| Tier {
        zones: zones.iter().map(|zone| (*zone).into()).collect(),
        share,
        spill_at: Some(Share(0.8)),
    };
    let tiers = vec![tier(&zones[..1], 0.5), tier(&zones[1..], 0.5)];
    let memory = Memory::default();
    memory.know_keys(|| Arc::new(Keys::new(vec![[1; KEY_LEN]])));
    let members: Vec<_> = instances.iter().map(|it| (Arc::clone(it), true)).collect();
    let plan = TrafficPlan { tiers, panic: false };
    (instances, Picker::build(&pool, &plan, &members, &memory))
}

/// What the cookie says that binds a client to this instance.
fn cookie(picker: &Picker, instance: &Instance) -> Vec<u8> {
    let mut response = ResponseHead::default();
    let token = picker.token(instance).expect("it is admitted");
    bind(&mut response, &Sticky { cookie: "s".into(), ttl: None }, token, false);
    let value = response.fields.value("set-cookie").expect("a cookie");
    value[b"s=".len()..].split(|byte| *byte == b';').next().expect("a value").to_vec()
}

#[test]
fn no_pick_allocates() {
    for balance in Balance::ALL {
        for count in [4, 1_000] {
            let (instances, picker) = picker(balance, count);
            let cookies: Vec<_> = instances.iter().map(|it| cookie(&picker, it)).collect();
            // What a retry passes over, what is suspect, what is warming up.
            let tried = [instances[0].vitals.serial];
            instances[1].vitals.suspect();
            instances[2].vitals.set_ramp(100);
            let (mut cursor, mut entropy) = (Cursor::default(), Entropy::seeded(1));
            let mut pick = |ask: &Ask<'_>| {
                black_box(picker.pick(ask, &mut cursor, &mut entropy)).expect("a pick").slot
            };
            // A worker's first pick makes room for where it stands in each tier.
            for hash in [1, 1 << 63, u64::MAX / 3] {
                pick(&Ask { hash, tried: &tried, ..Ask::default() });
            }
            let allocated = allocations(|| {
                for n in 0..5_000u64 {
                    let cookie = &cookies[n as usize % cookies.len()];
                    let ask = Ask {
                        tried: &tried[..n as usize % 2],
                        avoid: (n % 5 == 0).then_some(&instances[3].zone),
                        hash: n.wrapping_mul(0x9e37_79b9_7f4a_7c15),
                        bound: if n % 3 == 0 { picker.bound(cookie) } else { None },
                        now: Ms(n),
                    };
                    let held = [pick(&ask), pick(&ask), pick(&ask)];
                    drop(black_box(held));
                }
            });
            assert_eq!(allocated, 0, "{balance:?}, {count} instances");
        }
    }
}

#[test]
fn allocations_are_counted() {
    assert_eq!(allocations(|| drop(black_box(Box::new(1)))), 1);
    assert_eq!(allocations(|| ()), 0);
}
