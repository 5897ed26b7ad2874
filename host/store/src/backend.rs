//! The seam between the store and a database: typed operations, by resource.
//!
//! # Theory of operation
//! [`Store`](crate::Store) is the part that every database shares: who may attempt what ([`claims`](crate::claims)), who receives what
//! ([`catalog`](crate::catalog)), and the policies (retention, sweeps, fan-outs in steps, steps of the clock, statistics). A backend
//! stores. Each operation is one transaction or one consistent read, and takes and returns values: nothing of a caller runs within it.
//!
//! # Guarantees of every backend
//! - An operation that returned `Ok` is durable, as far as the backend is. One that returned an error has changed nothing, except
//!   where it says otherwise.
//! - Changes of tenants, keys and subscriptions are shown in the [`HostState`](crate::host_state::HostState) after their commit and
//!   before any later write, even if the caller has gone.
//! - Published store events follow their commit.
//!
//! The conformance suite states the same as tests, which every backend passes.

pub mod access;
pub mod alerts;
pub mod changes;
pub mod deliveries;
pub mod figures;
pub mod fleet;
pub mod inspector;
pub mod intake;
pub mod lanes;
pub mod machine;
pub mod milestones;
pub mod operator_actions;
pub mod plugins;
pub mod portal;
pub mod rollouts;
pub mod subscriptions;
pub mod tenant_plugins;
pub mod tenants;
pub mod upkeep;

use access::{CredentialBackend, SessionBackend};
use alerts::AlertBackend;
use changes::ChangeBackend;
use deliveries::{BacklogBackend, DeliveryBackend, EventBackend, LedgerBackend};
use figures::FigureBackend;
use fleet::FleetBackend;
use inspector::{BinBackend, RejectedBackend};
use intake::{FanOutBackend, IntakeBackend};
use lanes::{HistoryBackend, LaneBackend, OutcomeBackend};
use machine::MachineBackend;
use milestones::MilestoneBackend;
use operator_actions::OperatorBackend;
use plugins::{PluginBackend, PluginDeletionBackend};
use portal::PortalBackend;
use rollouts::{QuarantineBackend, RolloutBackend};
use std::any::Any;
use subscriptions::{EndingBackend, StateBackend, SubscriptionBackend};
use tenant_plugins::TenantPluginsBackend;
use tenants::{DeletionBackend, TenantBackend, UsageBackend};
use upkeep::{ClockBackend, RetentionBackend, SweepBackend};

/// Declares what a backend consists of.
macro_rules! backend {
    ($($part:ident),+ $(,)?) => {
        /// A database behind the store.
        pub trait Backend: Any $(+ $part)+ {}

        impl<T> Backend for T where T: Any $(+ $part)+ {}
    };
}

backend! {
    AlertBackend,
    BacklogBackend,
    BinBackend,
    ChangeBackend,
    ClockBackend,
    CredentialBackend,
    DeletionBackend,
    DeliveryBackend,
    EndingBackend,
    EventBackend,
    FanOutBackend,
    FigureBackend,
    FleetBackend,
    HistoryBackend,
    IntakeBackend,
    LaneBackend,
    LedgerBackend,
    MachineBackend,
    MilestoneBackend,
    OperatorBackend,
    OutcomeBackend,
    PluginBackend,
    PluginDeletionBackend,
    PortalBackend,
    QuarantineBackend,
    RejectedBackend,
    RetentionBackend,
    RolloutBackend,
    SessionBackend,
    StateBackend,
    SubscriptionBackend,
    SweepBackend,
    TenantBackend,
    TenantPluginsBackend,
    UsageBackend,
}
