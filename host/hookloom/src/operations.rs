//! Operations on the host's resources, which REST and the pages share.
//!
//! # Guarantees
//! - A method of [`Operations`] checks what it is given, makes the change with its audit entry in one transaction of the store, and
//!   returns what the caller shows. Its first argument proves what the key may do ([`Access`], [`Admin`]).
//! - Input and output are types. Nothing here knows routes, forms or headers.
//! - A refusal is a [`Problem`] (RFC 9457).
//!
//! The command line is a client of REST. Names of methods are the operation ids of the OpenAPI document.

mod access;
mod alerts;
mod bins;
mod changes;
mod config_check;
mod deliveries;
mod dry_run;
mod event_types;
mod events;
mod explain;
mod filters;
mod fleet;
mod gate;
mod intake;
mod library;
mod merge_patch;
mod operator_actions;
mod plugins;
mod portal;
mod problem;
mod proof;
mod read_only;
mod rejected;
mod rollouts;
mod rotation;
mod samples;
mod scripts;
mod settled_chain;
pub(crate) mod subscriptions;
mod tenants;
mod text_or_base64;
mod up_to;
mod webhook_samples;

pub(crate) use access::{CREDENTIALS_MAX, KeyBody, LinkBody, NewAdminKey, NewKey, NewToken, TokenBody, sign_in_path};
pub(crate) use alerts::{AlertEmailBody, AlertTestBody, AlertsBody, EmailState, IncidentBody};
pub(crate) use bins::{ANSWER_BYTES, BinBody, BinRequestBody, BinRequestPage, ReplayBody, ReplayTo, checked_search};
pub(crate) use changes::{ChangeKind, ChangePage};
pub(crate) use deliveries::{DeliveryBody, DeliveryDetail, DeliveryPage};
pub(crate) use dry_run::DryRun;
pub(crate) use event_types::{EVENTS_COUNTED, EventOrigin, EventTypeBody};
pub(crate) use events::{AcceptedBody, EventBody, EventPage};
pub(crate) use explain::Explanation;
pub(crate) use filters::{FilterTrial, FilterTrialBody, MatchingEvent, RefusedEvent};
pub(crate) use fleet::{FleetBody, HostBody, LostHostBody, ShardBody, ShardWrite};
pub(crate) use gate::ComparisonSize;
pub use intake::{AcceptedEntry, AcceptedEvents, Intake, IntakeError};
pub(crate) use intake::{ReceivedRequest, VendorIntake};
pub(crate) use library::{AddedPluginBody, LibraryPluginBody, LibraryWrite};
pub(crate) use operator_actions::{Counted, RedriveWrite, ReplayWrite};
pub(crate) use plugins::{ActivatedBody, Activation, PluginBody, VersionBody};
pub(crate) use portal::{NewPortalLink, PortalEndBody, PortalLinkBody};
pub(crate) use problem::{FieldFault, Problem, fault};
pub(crate) use proof::{Access, Admin, RequiredScope, ToManage, ToRead, ToSend};
pub(crate) use read_only::ReadOnly;
pub(crate) use rejected::{RejectedBody, whole};
pub(crate) use rollouts::{CompareWrite, Kind, RolloutBody, RolloutWrite};
pub(crate) use rotation::Rotation;
pub(crate) use samples::{SAMPLE_EVENTS, SampleEvent};
pub(crate) use scripts::{ScriptTrial, stored_script};
pub(crate) use settled_chain::SettledChainBody;
pub(crate) use subscriptions::{Pause, SUBSCRIPTIONS_MAX, SubscriptionBody, SubscriptionPatch, SubscriptionWrite};
pub(crate) use tenants::{NewTenant, TenantBody, TenantWrite};
pub(crate) use up_to::UpTo;
pub(crate) use webhook_samples::{receives_incidents, vendor_samples};

use crate::config::Config;
use crate::cpu_pool::CpuPool;
use crate::deliver::LaneBoard;
use crate::plugin::Plugins;
use crate::store::Store;
use crate::url_path::UrlPath;
use hookloom_egress::Clients;
use std::sync::Arc;

/// Parts of the host on which operations work.
pub struct Operations {
    /// Store of the host.
    pub store: Arc<Store>,
    /// Plugins of all tenants.
    pub plugins: Arc<Plugins>,
    /// Effective settings.
    pub config: Config,
    /// Current state of every lane.
    pub lanes: LaneBoard,
    /// HTTP clients, for replays out of bins.
    pub clients: Arc<Clients>,
    /// Thread pool for work that would block a network thread.
    pub cpu: CpuPool,
}

impl Operations {
    /// Returns the URL of a path at the host's public address, if it is known.
    pub(crate) fn public_link(&self, path: &UrlPath) -> Option<String> {
        self.config.public_url.as_ref().map(|url| url.link(path))
    }
}
