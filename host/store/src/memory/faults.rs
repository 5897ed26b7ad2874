//! Faults that a simulation injects into the operations of a backend.

use crate::StoreError;
use parking_lot::Mutex;
use rand::rngs::ChaCha12Rng;
use rand::{RngExt as _, SeedableRng as _};
use std::time::Duration;

/// Rates of the faults, from 0 to 1, and the longest delay of an operation.
#[derive(Clone, Copy, Debug, Default)]
pub struct FaultRates {
    /// Part of the writes that are refused and change nothing.
    pub refused: f64,
    /// Part of the writes whose answer is lost after the commit.
    pub lost: f64,
    /// Part of the reads that fail.
    pub unread: f64,
    /// Part of the hints to other hosts that are lost.
    pub unheard: f64,
    /// Longest delay of an operation.
    pub delay_max: Duration,
}

/// Source of faults, drawn from a seed. Operations that come in the same order meet the same faults.
pub struct Faults {
    rates: Mutex<FaultRates>,
    random: Mutex<ChaCha12Rng>,
}

impl Faults {
    /// Creates a source of faults.
    pub fn new(seed: u64, rates: FaultRates) -> Self {
        Faults { rates: Mutex::new(rates), random: Mutex::new(ChaCha12Rng::seed_from_u64(seed)) }
    }

    /// Changes the rates, for all operations that begin from now on.
    pub fn set(&self, rates: FaultRates) {
        *self.rates.lock() = rates;
    }

    pub(super) async fn before_read(&self) -> Result<(), StoreError> {
        self.delay().await;
        self.fail(self.rates().unread, StoreError::Unavailable)
    }

    /// Lets a read take time, in which its snapshot becomes older.
    pub(super) async fn during_read(&self) {
        self.delay().await;
    }

    pub(super) async fn before_write(&self) -> Result<(), StoreError> {
        self.delay().await;
        self.fail(self.rates().refused, StoreError::Unavailable)
    }

    pub(super) async fn after_write(&self) -> Result<(), StoreError> {
        self.delay().await;
        self.fail(self.rates().lost, StoreError::Unknown)
    }

    /// Lets a hint take time. Returns false if it is lost on its way.
    pub(super) async fn hint(&self) -> Result<bool, StoreError> {
        self.delay().await;
        self.fail(self.rates().refused, StoreError::Unavailable)?;
        Ok(!self.random.lock().random_bool(self.rates().unheard))
    }

    fn rates(&self) -> FaultRates {
        *self.rates.lock()
    }

    fn fail(&self, rate: f64, error: StoreError) -> Result<(), StoreError> {
        if self.random.lock().random_bool(rate) { Err(error) } else { Ok(()) }
    }

    async fn delay(&self) {
        let most = self.rates().delay_max;
        if most.is_zero() {
            return;
        }
        let most_us = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        let delay = Duration::from_micros(self.random.lock().random_range(0..=most_us));
        tokio::time::sleep(delay).await;
    }
}
