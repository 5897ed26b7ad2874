//! Access: keys, scopes, intake tokens and sessions.
//!
//! The text of a key is shown once, at its creation. Only its SHA-256 is stored. A key has 256 random bits and cannot be guessed,
//! so a plain hash is as good as a slow one. Pure; does not know HTTP or storage.

use crate::ids::TenantId;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// Permission of a key within its tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Post events.
    Send,
    /// Read everything but secrets.
    Read,
    /// Change everything. Includes the other two.
    Manage,
}

impl Scope {
    /// All scopes.
    pub const ALL: [Scope; 3] = [Scope::Send, Scope::Read, Scope::Manage];

    /// Returns the name of the scope, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Send => "send",
            Scope::Read => "read",
            Scope::Manage => "manage",
        }
    }

    /// Returns the scope of a name.
    pub fn parse(name: &str) -> Option<Scope> {
        Scope::ALL.into_iter().find(|scope| scope.as_str() == name)
    }
}

/// Key, without its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Id of the key.
    pub id: Uuid,
    /// Tenant of the key. None: an admin key, which may do everything.
    pub tenant: Option<TenantId>,
    /// Permissions of the key.
    pub scopes: Vec<Scope>,
    /// First characters, by which keys are told apart.
    pub hint: String,
    /// Name for people.
    pub label: String,
    /// Time of creation, in milliseconds since the epoch.
    pub created_at_ms: i64,
}

impl ApiKey {
    /// Returns true if the key has this permission for this tenant.
    pub fn allows(&self, tenant: &TenantId, wanted: Scope) -> bool {
        match &self.tenant {
            None => true,
            Some(of_key) => of_key == tenant && (self.scopes.contains(&wanted) || self.scopes.contains(&Scope::Manage)),
        }
    }

    /// Returns true for the admin key that the operator gave in the environment variable [`GIVEN_BY`].
    pub fn is_given(&self) -> bool {
        self.is_admin() && self.hint == GIVEN_HINT
    }

    /// Returns the name by which people recognise the key: its label and first characters. The name of the key that was given in the
    /// environment is that of its variable.
    pub fn shown(&self) -> String {
        match self.label.as_str() {
            _ if self.is_given() => GIVEN_BY.to_owned(),
            "" => format!("{}…", self.hint),
            label => format!("{label} ({}…)", self.hint),
        }
    }

    /// Returns true for an admin key.
    pub fn is_admin(&self) -> bool {
        self.tenant.is_none()
    }
}

/// Address for the vendor's Notify URL field, without the text of the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntakeToken {
    /// Id of the token.
    pub id: Uuid,
    /// Tenant of the events that this address receives.
    pub tenant: TenantId,
    /// First characters.
    pub hint: String,
    /// Name for people.
    pub label: String,
    /// Time of creation, in milliseconds since the epoch.
    pub created_at_ms: i64,
}

/// Session of a signed-in user: a cookie that stands for a key until it expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Id of the key. A session ends with its key.
    pub key: Uuid,
    /// CSRF token of every form and every changing request of the pages, so that no other site can make a browser send one.
    pub csrf: String,
    /// Time of expiry, in milliseconds since the epoch.
    pub expires_at_ms: i64,
}

/// Environment variable in which an operator gives the admin key.
pub const GIVEN_BY: &str = "HOOKLOOM_ADMIN_KEY";
/// Hint of the key that was given there, of which nothing is shown. Hints of other keys begin with [`KEY_PREFIX`].
pub const GIVEN_HINT: &str = "given";

/// Prefix of API keys.
pub const KEY_PREFIX: &str = "hlk_";
/// Prefix of intake tokens.
pub const TOKEN_PREFIX: &str = "hlt_";
/// Prefix of the cookie of a session.
pub const SESSION_PREFIX: &str = "hls_";
/// Prefix of the token of a sign-in link.
pub const SIGN_IN_PREFIX: &str = "hlo_";

/// Creates a key or token. Returns its text to show once, its hash to store, and its hint for lists.
pub fn new_credential(prefix: &str) -> (String, [u8; 32], String) {
    let text = format!("{prefix}{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()));
    let hint = text.chars().take(8).collect();
    (text.clone(), credential_hash(&text), hint)
}

/// Returns the hash of a key or token, under which it is stored and looked up.
pub fn credential_hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_valid_for_its_tenant_and_scope_only() {
        fn tenant(name: &str) -> TenantId {
            TenantId::parse(name).expect(name)
        }
        let key = |of_key: Option<&str>, scopes: &[Scope]| ApiKey {
            id: Uuid::nil(),
            tenant: of_key.map(tenant),
            scopes: scopes.to_vec(),
            hint: String::new(),
            label: String::new(),
            created_at_ms: 0,
        };
        let a = tenant("a");
        let b = tenant("b");
        assert!(key(None, &[]).allows(&b, Scope::Manage));
        assert!(key(Some("a"), &[Scope::Send]).allows(&a, Scope::Send));
        assert!(!key(Some("a"), &[Scope::Send]).allows(&a, Scope::Read));
        assert!(!key(Some("a"), &[Scope::Manage]).allows(&b, Scope::Send));
        assert!(key(Some("a"), &[Scope::Manage]).allows(&a, Scope::Read));
        assert!(!key(Some("a"), &[Scope::Manage]).is_admin());
    }

    #[test]
    fn a_key_is_recognised_by_its_label_and_hint() {
        fn shown(tenant: Option<&str>, label: &str, hint: &str) -> String {
            let tenant = tenant.map(|name| TenantId::parse(name).expect("a tenant"));
            let key = ApiKey {
                id: Uuid::nil(),
                tenant,
                scopes: Vec::new(),
                hint: hint.to_owned(),
                label: label.to_owned(),
                created_at_ms: 0,
            };
            key.shown()
        }
        assert_eq!(shown(None, "", "hlk_8sQ2"), "hlk_8sQ2…");
        assert_eq!(shown(Some("a"), "Anna", "hlk_8sQ2"), "Anna (hlk_8sQ2…)");
        assert_eq!(shown(None, "given by HOOKLOOM_ADMIN_KEY", "given"), "HOOKLOOM_ADMIN_KEY");
        assert_eq!(shown(None, "given by HOOKLOOM_ADMIN_KEY", "hlk_8sQ2"), "given by HOOKLOOM_ADMIN_KEY (hlk_8sQ2…)");
    }
}
