//! Operations on bins and rejected requests.

use super::lanes::{event, tenant_of};
use super::operation::{TwinStep, TwinWhat};
use super::side::{TwinSide, actor, told};
use crate::{BinFilter, RejectedEntry};
use bytes::Bytes;
use hookloom_model::inspector::{Bin, BinSettings, RequestHead};
use hookloom_model::subscription::TenantId;
use uuid::Uuid;

fn settings(pick: usize, more: usize) -> BinSettings {
    let ttl_s = if more == 1 { 60 } else { 7_200 };
    BinSettings { name: format!("bin {pick}"), requests_max: 1 + pick, ttl_s, ..BinSettings::default() }
}

impl TwinSide {
    /// Runs an operation on a bin or a rejected request. None: it is of another kind.
    pub(super) async fn inspect(&mut self, step: &TwinStep) -> Option<String> {
        let TwinStep { what, pick, more, .. } = *step;
        let tenant = tenant_of(step);
        let store = self.store();
        Some(match what {
            TwinWhat::CreateBin => {
                let made = store.create_bin(actor(), tenant, settings(pick, more)).await;
                made.iter().for_each(|bin| self.names.give(&bin.id));
                told(made)
            }
            TwinWhat::Reject => {
                let body = Bytes::from(format!("body {more}"));
                told(store.reject(tenant, "r".repeat(pick * 600), body, more > 5).await)
            }
            TwinWhat::Resubmit | TwinWhat::ForgetRejected => {
                let all = store.rejected_requests(tenant.clone(), None, 50).await.expect("rejected requests");
                self.take_rejected(tenant, &all, step).await
            }
            TwinWhat::NoteReplay => {
                told(store.record_bin_replay(actor(), tenant, self.names.id(pick), format!("host {more}")).await)
            }
            TwinWhat::EditBin
            | TwinWhat::ReceiveInBin
            | TwinWhat::SearchBin
            | TwinWhat::LookInBin
            | TwinWhat::ForgetInBin
            | TwinWhat::ClearBin
            | TwinWhat::DeleteBin => {
                let bins = store.bins(tenant.clone()).await.expect("bins");
                match bins.get(pick % bins.len().max(1)) {
                    Some(bin) => self.use_bin(tenant, bin, step).await,
                    None => "no bin".into(),
                }
            }
            _ => return None,
        })
    }

    async fn take_rejected(&mut self, tenant: TenantId, all: &[RejectedEntry], step: &TwinStep) -> String {
        let TwinStep { what, pick, more, .. } = *step;
        let store = self.store();
        let found = all.get(pick % all.len().max(1));
        let id = found.filter(|_| more < 7).map_or(self.names.id(pick * 3), |one| one.id);
        let read = told(store.rejected_request(tenant.clone(), id).await);
        let page = told(store.rejected_requests(tenant.clone(), Some(id), 2).await);
        let done = match what {
            TwinWhat::Resubmit => told(store.accept_rejected(actor(), tenant, id, event(pick), self.share).await),
            _ => told(store.forget_rejected_request(actor(), tenant, id).await),
        };
        format!("{read} {page} {done}")
    }

    async fn use_bin(&mut self, tenant: TenantId, bin: &Bin, step: &TwinStep) -> String {
        let TwinStep { what, pick, more, .. } = *step;
        let store = self.store();
        let id = bin.id.clone();
        match what {
            TwinWhat::EditBin => told(store.update_bin(actor(), tenant, id, settings(more, pick)).await),
            TwinWhat::ReceiveInBin => {
                let head = RequestHead {
                    query: format!("query={more}"),
                    headers: vec![("X-Letter".into(), "aBc".into())],
                    ..RequestHead::default()
                };
                told(store.receive_in_bin(&tenant, bin, head, Bytes::from(format!("Body {more}"))).await)
            }
            TwinWhat::SearchBin => {
                let searches = [None, Some("BODY 1"), Some("query=2"), Some("x-LETTER"), Some("nothing"), Some("")];
                let before = if more == 7 { Some(self.some_request(&tenant, bin, pick).await) } else { None };
                let search = searches[more % searches.len()].map(str::to_owned);
                let filter = BinFilter { before, search, limit: pick % 4 };
                told(store.bin_requests(tenant, id, filter).await)
            }
            TwinWhat::LookInBin => {
                let request = self.some_request(&tenant, bin, more).await;
                let by_url = told(store.bin_by_url(id.clone()).await);
                told(store.bin_request(tenant, id, request).await) + &by_url
            }
            TwinWhat::ForgetInBin => {
                let request = self.some_request(&tenant, bin, more).await;
                told(store.forget_bin_requests(actor(), tenant, id, Some(request)).await)
            }
            TwinWhat::ClearBin => told(store.forget_bin_requests(actor(), tenant, id, None).await),
            _ => {
                let deleted = told(store.delete_bin(actor(), tenant.clone(), id.clone()).await);
                deleted + &told(store.bin_by_url(id).await)
            }
        }
    }

    /// Returns the id of a request of a bin, or of anything else.
    async fn some_request(&self, tenant: &TenantId, bin: &Bin, pick: usize) -> Uuid {
        let filter = BinFilter { limit: 50, ..BinFilter::default() };
        let page = self.store().bin_requests(tenant.clone(), bin.id.clone(), filter).await.expect("requests");
        page.requests.get(pick).map_or(self.names.id(pick * 3), |request| request.id)
    }
}
