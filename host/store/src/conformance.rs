//! Conformance suite: the guarantees of every [`backend`](crate::backend), as tests.
//!
//! # Theory of operation
//! A case is an `async fn` of a [`TestStore`], which it sees through the store and the traits of the seam only. `conformance!` lists
//! the cases of a topic once, and makes a test of each case for each backend. Expected values come from the contract.
//!
//! The clock of a case stands still unless the case moves it. It shows a time long ago, so that ids, whose times never go back within
//! a process, do not depend on it.
//!
//! A new backend needs a [`BackendKind`] and a module in `conformance!`.
//!
//! # Limits
//! Damage, full disks and the files of a backend are tested by each backend alone.

/// Makes a test of each case for each backend.
macro_rules! conformance {
    ($($case:ident),+ $(,)?) => {
        mod sqlite {
            use crate::conformance::test_store::{BackendKind, TestStore};
            $(
                #[tokio::test]
                async fn $case() {
                    super::$case(&mut TestStore::new(BackendKind::Sqlite).await).await;
                }
            )+
        }

        mod postgres {
            use crate::conformance::test_store::{BackendKind, TestStore};
            $(
                #[tokio::test]
                async fn $case() {
                    super::$case(&mut TestStore::new(BackendKind::Postgres).await).await;
                }
            )+
        }

        mod postgres_behind_pooler {
            use crate::conformance::test_store::{BackendKind, TestStore};
            $(
                #[tokio::test]
                async fn $case() {
                    super::$case(&mut TestStore::new(BackendKind::PooledPostgres).await).await;
                }
            )+
        }

        mod memory {
            use crate::conformance::test_store::{BackendKind, TestStore};
            $(
                #[tokio::test]
                async fn $case() {
                    super::$case(&mut TestStore::new(BackendKind::Memory).await).await;
                }
            )+
        }
    };
}

mod accept;
mod alerts;
mod audit;
mod bins;
mod catalog_race;
mod claims;
mod clock;
mod fan_out;
mod figures;
mod filters;
mod idempotency;
mod ledger;
mod milestones;
mod operator_actions;
mod order;
mod outcomes;
mod paging;
mod plugins;
mod portal;
mod replay;
mod restart;
mod retention;
mod rollouts;
mod sessions;
mod settled_chain;
mod settling;
mod states;
mod tenants;
mod test_store;
mod test_values;
mod waiting;
