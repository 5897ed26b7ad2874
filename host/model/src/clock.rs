//! Clock: the only module that reads the time.
//!
//! # Guarantees
//! - Everything else asks [`now_ms`], [`instant`] or [`system_time`] (`clippy.toml` forbids other readings). So a test can give the host
//!   another time, and all parts of the host agree on it.
//! - Without a test, the time is the system's.
//!
//! # Theory of operation
//! Code runs within a clock as it runs within a runtime: [`enter`] sets the clock of the thread, and [`WithClock`] that of a future
//! wherever it is polled. Threads that work for others take the [`current`] clock of their creator and enter it. An argument would
//! have to pass through every function between a test and the places that read the time, most of which have nothing to do with it.
//!
//! [`turn`] sets the clock of the whole process forward, the wall clock and the steady one alike. Only a test of the program uses it.
//!
//! Hosts that share a database agree on the wall clock of its server: [`follow`] sets how far that is ahead of the time since the machine
//! started. The system's own wall clock does not count then, so nothing happens if it is set. Leases count on [`since_boot`], which goes
//! on while the machine is suspended and which nothing turns.
//!
//! # Limits
//! Nothing here waits. Timers are those of the asynchronous runtime. Code that waits for a time of this clock must look again when
//! the clock was turned: see [`wait_max`].

use std::cell::RefCell;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Source of the time.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Returns the wall clock's time, in milliseconds since the epoch. It may go back.
    fn now_ms(&self) -> i64;

    /// Returns the steady time, which never goes back.
    fn instant(&self) -> Instant;
}

/// Clock of the system, or of the server that it follows, turned forward by [`turn`].
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        in_ms(system_now())
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn instant(&self) -> Instant {
        Instant::now() + turned()
    }
}

/// Time since the epoch by the system or by the server that it follows, turned forward.
fn system_now() -> Duration {
    let now = match ahead_ms() {
        None => since_epoch(),
        Some(ahead_ms) if ahead_ms < 0 => {
            system_since_boot().saturating_sub(Duration::from_millis(ahead_ms.unsigned_abs()))
        }
        Some(ahead_ms) => system_since_boot() + Duration::from_millis(ahead_ms.unsigned_abs()),
    };
    now + turned()
}

#[expect(clippy::disallowed_methods, reason = "this is the clock")]
fn since_epoch() -> Duration {
    UNIX_EPOCH.elapsed().unwrap_or_default()
}

fn in_ms(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// Clock that goes only when a test moves it.
#[derive(Debug)]
pub struct ManualClock {
    begun: Instant,
    wall_ms: AtomicI64,
    steady_ms: AtomicU64,
}

impl ManualClock {
    /// Creates a clock that shows this time of the wall clock.
    pub fn at(wall_ms: i64) -> Self {
        ManualClock { begun: SystemClock.instant(), wall_ms: AtomicI64::new(wall_ms), steady_ms: AtomicU64::new(0) }
    }

    /// Lets this many milliseconds pass.
    pub fn pass(&self, ms: u64) {
        self.steady_ms.fetch_add(ms, Ordering::SeqCst);
        self.wall_ms.fetch_add(ms.cast_signed(), Ordering::SeqCst);
    }

    /// Sets the wall clock by this many milliseconds, forward or back. The steady time is not concerned.
    pub fn set_wall(&self, by_ms: i64) {
        self.wall_ms.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        self.wall_ms.load(Ordering::SeqCst)
    }

    fn instant(&self) -> Instant {
        self.begun + Duration::from_millis(self.steady_ms.load(Ordering::SeqCst))
    }
}

thread_local! {
    static ENTERED: RefCell<Option<Arc<dyn Clock>>> = const { RefCell::new(None) };
}

/// Time by which the process's clock was turned, in milliseconds.
static TURNED_MS: AtomicU64 = AtomicU64::new(0);

/// Longest wait of code that waits for a time, in milliseconds. [`u64::MAX`]: the clock is never turned.
static WAIT_MAX_MS: AtomicU64 = AtomicU64::new(u64::MAX);

/// Returns the wall clock's time, in milliseconds since the epoch.
pub fn now_ms() -> i64 {
    read(|clock| clock.now_ms())
}

/// Returns the steady time.
pub fn instant() -> Instant {
    read(|clock| clock.instant())
}

/// Returns the time that has passed since an instant.
pub fn since(instant: Instant) -> Duration {
    self::instant().saturating_duration_since(instant)
}

/// Returns the wall clock's time as the standard library's type, with the precision of the system.
pub fn system_time() -> SystemTime {
    UNIX_EPOCH
        + current()
            .map(|clock| clock.now_ms())
            .map_or_else(system_now, |ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
}

fn read<T>(read: impl Fn(&dyn Clock) -> T) -> T {
    // Destructors of a thread that ends may read the time as well, and have the system's clock.
    let entered = ENTERED.try_with(|entered| entered.borrow().as_deref().map(&read));
    entered.ok().flatten().unwrap_or_else(|| read(&SystemClock))
}

/// Clock of this thread, for a thread that it starts. None: the system's.
pub fn current() -> Option<Arc<dyn Clock>> {
    ENTERED.try_with(|entered| entered.borrow().clone()).ok().flatten()
}

/// Sets the clock of this thread until the guard is dropped. None: the system's.
pub fn enter(clock: Option<Arc<dyn Clock>>) -> Entered {
    Entered { before: ENTERED.replace(clock), _of_this_thread: std::marker::PhantomData }
}

/// Guard of [`enter`], which sets the former clock again.
#[derive(Debug)]
#[must_use]
pub struct Entered {
    before: Option<Arc<dyn Clock>>,
    _of_this_thread: std::marker::PhantomData<*const ()>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        ENTERED.set(self.before.take());
    }
}

/// Future that runs within a clock.
#[derive(Debug)]
pub struct WithClock<F> {
    future: Pin<Box<F>>,
    clock: Arc<dyn Clock>,
}

impl<F: Future> WithClock<F> {
    /// Lets a future run within a clock.
    pub fn new(clock: Arc<dyn Clock>, future: F) -> Self {
        WithClock { future: Box::pin(future), clock }
    }
}

impl<F: Future> Future for WithClock<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let _entered = enter(Some(self.clock.clone()));
        self.future.as_mut().poll(context)
    }
}

/// Number of milliseconds by which the wall clock that this process follows is ahead of the time since the machine started.
/// [`i64::MIN`]: it follows the system's.
static AHEAD_MS: AtomicI64 = AtomicI64::new(i64::MIN);

/// Follows the wall clock of a server, which is ahead of [`steady_ms`] by this many milliseconds.
pub fn follow(ahead_ms: i64) {
    AHEAD_MS.store(ahead_ms, Ordering::Relaxed);
}

/// Returns the number of milliseconds of the last call of [`follow`]. None: the process follows the system's wall clock.
pub fn ahead_ms() -> Option<i64> {
    let ahead_ms = AHEAD_MS.load(Ordering::Relaxed);
    (ahead_ms != i64::MIN).then_some(ahead_ms)
}

/// Returns the time since the machine started in milliseconds, of the system's own, to compare it with the wall clock of a server.
pub fn steady_ms() -> i64 {
    in_ms(system_since_boot())
}

/// Returns the time since the machine started, which never goes back, goes on while the machine is suspended, and is not turned. Within
/// a clock that was entered, it is that clock's steady time.
pub fn since_boot() -> Duration {
    static BEGIN: LazyLock<Instant> = LazyLock::new(|| SystemClock.instant());
    match current() {
        Some(clock) => clock.instant().saturating_duration_since(*BEGIN),
        None => system_since_boot(),
    }
}

fn system_since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Turns the clock of the process forward to this much after the system's.
pub fn turn(by: Duration) {
    TURNED_MS.fetch_max(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
}

fn turned() -> Duration {
    Duration::from_millis(TURNED_MS.load(Ordering::Relaxed))
}

/// Prepares the process for [`turn`]: code that waits for a time looks again after this long.
pub fn expect_turns(wait_max: Duration) {
    WAIT_MAX_MS.store(u64::try_from(wait_max.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
}

/// Returns the longest time for which code may wait for a time of this clock before it looks again.
pub fn wait_max() -> Duration {
    Duration::from_millis(WAIT_MAX_MS.load(Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_has_the_clock_that_it_entered_until_the_guard_is_dropped() {
        let clock = Arc::new(ManualClock::at(1_000));
        let steady = clock.instant();
        {
            let _entered = enter(Some(clock.clone()));
            clock.pass(50);
            assert_eq!((now_ms(), since(steady)), (1_050, Duration::from_millis(50)));
            assert_eq!(system_time(), UNIX_EPOCH + Duration::from_millis(1_050));
            clock.set_wall(-1_000);
            assert_eq!((now_ms(), since(steady)), (50, Duration::from_millis(50)));
            {
                let _system = enter(None);
                assert!(now_ms() > 1_700_000_000_000);
            }
            assert_eq!(now_ms(), 50);
            let handed_over = current();
            let seen = std::thread::spawn(move || {
                let before = now_ms();
                let _entered = enter(handed_over);
                (before, now_ms())
            });
            let (before, within) = seen.join().expect("it ends");
            assert!(before > 1_700_000_000_000, "threads do not inherit a clock");
            assert_eq!(within, 50);
        }
        assert!(now_ms() > 1_700_000_000_000);
    }

    #[test]
    fn a_future_has_its_clock_wherever_it_is_polled() {
        let scoped = WithClock::new(Arc::new(ManualClock::at(7)), async { now_ms() });
        let mut scoped = std::pin::pin!(scoped);
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert_eq!(scoped.as_mut().poll(&mut context), Poll::Ready(7));
        assert!(now_ms() > 7);
    }
}
