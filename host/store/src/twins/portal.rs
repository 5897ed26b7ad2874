//! Operations on links and sessions of the portal.

use super::lanes::tenant_of;
use super::operation::{TwinStep, TwinWhat};
use super::side::{TwinSide, actor, told};
use crate::PortalTerms;
use hookloom_model::portal::PortalSession;

/// Session without its CSRF token, which is random.
fn without_csrf(session: PortalSession) -> PortalSession {
    PortalSession { csrf: String::new(), ..session }
}

impl TwinSide {
    /// Runs an operation on the portal. None: it is of another kind.
    pub(super) async fn visit(&mut self, step: &TwinStep) -> Option<String> {
        let TwinStep { what, pick, more, .. } = *step;
        let tenant = tenant_of(step);
        let store = self.store();
        Some(match what {
            TwinWhat::MakePortalLink => {
                let terms = PortalTerms {
                    tenant,
                    expires_in_s: 60 << (pick % 8),
                    session_s: 3_600,
                    is_read_only: more % 2 == 0,
                    return_url: (more < 3).then(|| format!("https://app.example.com/{pick}")),
                };
                told(store.create_portal_link(actor(), terms).await.map(|(link, token)| {
                    self.names.give(&link.shown());
                    self.portal_links.push(token);
                    link
                }))
            }
            TwinWhat::OpenPortal => match self.portal_links.get(pick % self.portal_links.len().max(1)) {
                Some(token) => {
                    let opened = store.open_portal_session(token, [127, 0, 0, 1].into()).await;
                    told(opened.map(|opened| {
                        opened.map(|(session, cookie)| {
                            self.portal_cookies.push(cookie);
                            without_csrf(session)
                        })
                    }))
                }
                None => "no link".into(),
            },
            TwinWhat::LeavePortal => match self.portal_cookies.get(pick % self.portal_cookies.len().max(1)) {
                Some(cookie) => told(store.end_portal_session(cookie).await),
                None => "no cookie".into(),
            },
            TwinWhat::EndPortal => told(store.end_portal(actor(), tenant).await),
            _ => return None,
        })
    }

    /// Returns the sessions of all cookies, without their texts.
    pub(super) async fn portal_sessions(&self) -> String {
        let mut all = String::new();
        for cookie in &self.portal_cookies {
            all += &told(self.store().portal_session(cookie).await.map(|found| found.map(without_csrf)));
        }
        all
    }
}
