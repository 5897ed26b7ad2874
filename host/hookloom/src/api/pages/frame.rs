//! Layout around every page: menu, tenant, session.

use super::samples;
use super::user::{SignedIn, TenantUser};
use crate::access::Scope;
use crate::api::ApiState;
use crate::subscription::TenantId;
use crate::url_path::UrlPath;

/// Page of the menu: its path below a tenant's pages or below the root, its name and its icon.
struct Place {
    segment: &'static str,
    label: &'static str,
    icon: &'static str,
}

const OPERATE: [Place; 4] = [
    Place { segment: "", label: "Overview", icon: "layout-dashboard" },
    Place { segment: "webhooks", label: "Webhooks", icon: "webhook" },
    Place { segment: "deliveries", label: "Deliveries", icon: "send" },
    Place { segment: "alerts", label: "Alerts", icon: "bell" },
];
const BUILD: [Place; 3] = [
    Place { segment: "plugins", label: "Plugins", icon: "puzzle" },
    Place { segment: "event-types", label: "Event types", icon: "tag" },
    Place { segment: "bins", label: "Inspector", icon: "inbox" },
];
/// Pages of the portal.
const PORTAL: [Place; 3] = [
    Place { segment: "webhooks", label: "Webhooks", icon: "webhook" },
    Place { segment: "deliveries", label: "Deliveries", icon: "send" },
    Place { segment: "event-types", label: "Event types", icon: "tag" },
];
const ACCESS: Place = Place { segment: "access", label: "Access", icon: "key-round" };
const TENANTS: Place = Place { segment: "tenants", label: "Tenants", icon: "building-2" };
const HOSTS: Place = Place { segment: "fleet", label: "Hosts", icon: "server" };
const HELP: [Place; 2] = [
    Place { segment: "docs", label: "Documentation", icon: "book-open" },
    Place { segment: "api", label: "API", icon: "code-xml" },
];

/// Layout around every page: navigation, tenant, session.
pub(super) struct Frame {
    pub(super) tenant: TenantId,
    pub(super) tenants: Vec<TenantId>,
    pub(super) csrf: String,
    pub(super) flash: Option<String>,
    pub(super) live: String,
    pub(super) here: &'static str,
    pub(super) is_admin: bool,
    /// True if other hosts can share the database.
    pub(super) shares_store: bool,
    /// True if the user may change things of the tenant. Otherwise no form is shown.
    pub(super) may_change: bool,
    /// Frame of the portal, for a customer.
    pub(super) portal: Option<PortalFrame>,
}

/// Layout of the portal: the platform's name and logo, and its way back.
pub(super) struct PortalFrame {
    pub(super) name: String,
    pub(super) has_logo: bool,
    pub(super) return_url: Option<String>,
}

/// Group of the menu, with its heading.
pub(super) struct MenuGroup {
    pub(super) label: &'static str,
    pub(super) items: Vec<MenuItem>,
}

/// Entry of the menu.
pub(super) struct MenuItem {
    pub(super) href: String,
    pub(super) label: &'static str,
    pub(super) icon: &'static str,
    pub(super) here: bool,
}

impl Frame {
    pub(super) fn new(user: &TenantUser, state: &ApiState, here: &'static str) -> Frame {
        Frame { tenant: user.tenant.clone(), ..Frame::of(&user.user, state, here) }
    }

    pub(super) fn of(user: &SignedIn, state: &ApiState, here: &'static str) -> Frame {
        let tenants = match &user.key.tenant {
            Some(tenant) => vec![tenant.clone()],
            None => state.operations.store.catalog().tenants().iter().map(|tenant| tenant.id.clone()).collect(),
        };
        Frame {
            tenant: user.home(state).unwrap_or_default(),
            tenants,
            csrf: user.session.csrf.clone(),
            flash: user.flash.clone(),
            live: String::new(),
            here,
            is_admin: user.key.is_admin(),
            shares_store: state.operations.config.store.postgres().is_some(),
            may_change: user.key.tenant.as_ref().is_none_or(|tenant| user.key.allows(tenant, Scope::Manage)),
            portal: user.portal.as_ref().map(|portal| PortalFrame {
                name: state.portal.name().to_owned(),
                has_logo: state.portal.has_logo(),
                return_url: portal.return_url.clone(),
            }),
        }
    }

    /// Adds live updates to the page.
    pub(super) fn watching(self, topic: &str) -> Frame {
        let live = UrlPath::pages_of(&self.tenant).then("live").query("topic", topic);
        Frame { live: live.to_string(), ..self }
    }

    /// Marks a page that answers a form. Its address may belong to another page.
    pub(super) fn answering(self) -> Frame {
        Frame { live: String::new(), ..self }
    }

    /// Returns true if there is a tenant whose pages can be shown. An admin may have deleted all of them.
    pub(super) fn has_tenant(&self) -> bool {
        !self.is_admin || !self.tenants.is_empty()
    }

    /// Returns the names of the sample events, each of which has a button.
    pub(super) fn samples(&self) -> [&'static str; 4] {
        samples::names()
    }

    /// Returns the groups of the menu that the user may see.
    pub(super) fn menu(&self) -> Vec<MenuGroup> {
        let home = UrlPath::pages_of(&self.tenant);
        let mut groups = Vec::new();
        let mut set_up = Vec::new();
        if self.has_tenant() {
            let entries = |places: &[Place]| places.iter().map(|place| self.entry(place, &home)).collect();
            groups.push(MenuGroup { label: "Operate", items: entries(&OPERATE) });
            groups.push(MenuGroup { label: "Build", items: entries(&BUILD) });
            set_up.push(self.entry(&ACCESS, &home));
        }
        let root = UrlPath::root();
        if self.is_admin {
            set_up.push(self.entry(&TENANTS, &root));
        }
        if self.is_admin && self.shares_store {
            set_up.push(self.entry(&HOSTS, &root));
        }
        if !set_up.is_empty() {
            groups.push(MenuGroup { label: "Set up", items: set_up });
        }
        let mut help: Vec<MenuItem> = HELP.iter().map(|place| self.entry(place, &root)).collect();
        // The book's links are relative to this folder.
        help[0].href.push('/');
        groups.push(MenuGroup { label: "Help", items: help });
        groups
    }

    /// Returns the name of the product in the title of a page.
    pub(super) fn product(&self) -> &str {
        self.portal.as_ref().map_or("Hookloom", |portal| &portal.name)
    }

    /// Returns the menu of the portal.
    pub(super) fn menu_of_portal(&self) -> Vec<MenuItem> {
        let home = UrlPath::pages_of(&self.tenant);
        PORTAL.iter().map(|place| self.entry(place, &home)).collect()
    }

    fn entry(&self, place: &Place, under: &UrlPath) -> MenuItem {
        let path = if place.segment.is_empty() { under.clone() } else { under.clone().then(place.segment) };
        MenuItem { href: path.to_string(), label: place.label, icon: place.icon, here: place.label == self.here }
    }
}

impl Frame {
    /// Returns the frame of a page for nobody in particular.
    pub(super) fn nobodys() -> Frame {
        Frame {
            tenant: TenantId::default(),
            tenants: Vec::new(),
            csrf: String::new(),
            flash: None,
            live: String::new(),
            here: "",
            is_admin: false,
            shares_store: false,
            may_change: true,
            portal: None,
        }
    }
}
