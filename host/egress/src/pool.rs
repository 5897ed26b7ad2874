//! Clients of a host: the default client, and one for each other address policy and transport in use.
//!
//! Their number has no maximum: it is bounded by the subscriptions with a custom transport that were attempted lately. A client that
//! was not used for [`UNUSED_MAX`] has no open connection left; it is dropped and created again when it is needed. All clients share
//! the system's certificates, the resolver and its cache.

use super::fault_log::FaultLog;
use super::resolver::Resolver;
use super::{Client, ClientError};
use crate::transport::{self, ReadyTransport};
use hookloom_model::address::{AddressPolicy, Egress};
use hookloom_model::clock;
use hookloom_model::ids::SubscriptionId;
use hookloom_model::subscription::Subscription;
use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Time without a request after which a client is dropped. Longer than the idle timeout of connections.
const UNUSED_MAX: Duration = Duration::from_secs(60);

/// All clients of a host.
pub struct Clients {
    /// Client of subscriptions with default settings.
    default: Arc<Client>,
    custom: Mutex<CustomClients>,
}

/// Clients with another policy or transport, each with the time of its last use.
struct CustomClients {
    clients: HashMap<ClientKey, (Arc<Client>, Instant)>,
    swept_at: Instant,
}

/// Identity of a client. Subscription and generation stand for a transport, which holds secrets.
#[derive(Clone, PartialEq, Eq, Hash)]
struct ClientKey {
    policy: AddressPolicy,
    transport: Option<(SubscriptionId, u64)>,
}

impl CustomClients {
    fn get(&mut self, key: &ClientKey, now: Instant) -> Option<Arc<Client>> {
        let (client, used_at) = self.clients.get_mut(key)?;
        *used_at = now;
        Some(client.clone())
    }

    fn put(&mut self, key: ClientKey, client: Arc<Client>, now: Instant) {
        if now.duration_since(self.swept_at) >= UNUSED_MAX {
            self.clients.retain(|_, (_, used_at)| now.duration_since(*used_at) < UNUSED_MAX);
            self.swept_at = now;
        }
        self.clients.insert(key, (client, now));
    }
}

impl Clients {
    /// Creates the clients with the host's address policy.
    pub fn new(policy: AddressPolicy, name_servers: &[SocketAddr]) -> Result<Self, ClientError> {
        let resolver = Resolver::new(name_servers)?;
        let default = Client::with(policy, resolver, Arc::<FaultLog>::default(), &ReadyTransport::default())?;
        let custom = CustomClients { clients: HashMap::new(), swept_at: clock::instant() };
        Ok(Clients { default: Arc::new(default), custom: Mutex::new(custom) })
    }

    /// Returns the address under which this host reaches itself, for requests to its bins.
    pub fn own_address(&self) -> String {
        match self.default.policy.listen {
            Some(listen) if listen.ip().is_unspecified() => format!("127.0.0.1:{}", listen.port()),
            Some(listen) => listen.to_string(),
            None => "127.0.0.1".to_owned(),
        }
    }

    /// Returns the client of a tenant with a narrowed address policy and the default transport.
    pub fn narrowed(&self, by: &Egress) -> Result<Arc<Client>, ClientError> {
        self.find(ClientKey { policy: self.default.policy.narrowed(by), transport: None }, |_| {
            Ok(ReadyTransport::default())
        })
    }

    /// Returns the client of a subscription. `narrowed`: the tenant's egress rules.
    pub fn of(&self, subscription: &Subscription, narrowed: &Egress) -> Result<Arc<Client>, ClientError> {
        let transport = &subscription.settings.transport;
        let direct = transport.is_default();
        if direct && *narrowed == Egress::default() {
            return Ok(self.default.clone());
        }
        let policy = self.default.policy.narrowed(narrowed);
        let custom = (!direct).then_some((subscription.id, subscription.generation));
        let ready = |policy: &AddressPolicy| {
            transport::ready(transport, subscription.settings.secrets(), policy).map_err(|faults| {
                let faults: Vec<String> = faults.iter().map(|(field, detail)| format!("{field}: {detail}")).collect();
                ClientError::Transport(faults.join("; "))
            })
        };
        self.find(ClientKey { policy, transport: custom }, ready)
    }

    fn find(
        &self,
        key: ClientKey,
        ready: impl FnOnce(&AddressPolicy) -> Result<ReadyTransport, ClientError>,
    ) -> Result<Arc<Client>, ClientError> {
        if let Some(client) = self.custom().get(&key, clock::instant()) {
            return Ok(client);
        }
        let resolver = self.default.resolver.clone();
        let fault_log = self.default.fault_log.clone();
        let client = Arc::new(Client::with(key.policy.clone(), resolver, fault_log, &ready(&key.policy)?)?);
        self.custom().put(key, client.clone(), clock::instant());
        Ok(client)
    }

    fn custom(&self) -> MutexGuard<'_, CustomClients> {
        self.custom.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookloom_model::ids::TenantId;
    use hookloom_model::subscription::{LoadedSettings, SubscriptionState};
    use std::collections::BTreeMap;

    fn with_transport(clients: usize) -> Vec<Subscription> {
        let settings = serde_json::json!({
            "notify_url": "https://hooks.example/", "modules": ["Contact"],
            "transport": {"proxy": "http://proxy.example:3128"},
        });
        let one = |_| Subscription {
            id: SubscriptionId::new(),
            tenant: TenantId("t".into()),
            settings: LoadedSettings::new(serde_json::from_value(settings.clone()).expect("settings"), BTreeMap::new())
                .expect("a URL"),
            state: SubscriptionState::Active,
            state_reason: None,
            failing_since_ms: None,
            pauses: hookloom_model::pauses::Pauses::default(),
            generation: 1,
            signing: Vec::new(),
            created_at_ms: 0,
        };
        (0..clients).map(one).collect()
    }

    #[test]
    fn a_client_is_kept_while_it_is_used() {
        let clients =
            Clients::new(AddressPolicy::default(), &["127.0.0.1:53".parse().expect("an address")]).expect("clients");
        let subscriptions = with_transport(600);
        let of = |subscription: &Subscription| clients.of(subscription, &Egress::default()).expect("a client");
        let first: Vec<_> = subscriptions.iter().map(of).collect();
        for (subscription, client) in subscriptions.iter().zip(&first) {
            assert!(Arc::ptr_eq(client, &of(subscription)), "made again although it is in use");
        }
        let mut custom = clients.custom.lock();
        let (key, (client, used_at)) =
            custom.clients.iter().next().map(|(key, kept)| (key.clone(), kept.clone())).expect("one");
        custom.put(key, client, used_at + 2 * UNUSED_MAX);
        assert_eq!(custom.clients.len(), 1, "what was not used lately is dropped");
    }
}
