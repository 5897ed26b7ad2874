//! Chains: the plugins of a subscription, in the order in which they judge.
//!
//! Pure. A plugin is written as `name`, or as `name@sha256` if it is pinned to one version. A subscription has no plugin (`null`),
//! one (a text) or several (a list). Does not know whether a plugin exists.

use crate::ids::{PluginName, VersionId};
use serde::{Deserialize, Serialize};

/// Maximum number of plugins of a subscription.
pub const STEPS_MAX: usize = 8;

/// Plugin of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Name of the plugin.
    pub plugin: PluginName,
    /// The sha256 of the pinned version. None: the active version.
    pub pin: Option<VersionId>,
}

/// Plugins in the order in which they judge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ChainText", into = "ChainText")]
pub struct Chain(pub Vec<Step>);

/// Written form of a chain: nothing, `"name"`, `"name@sha256"`, or a list of such texts.
#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum ChainText {
    /// No plugin.
    None,
    /// A single plugin.
    One(String),
    /// Several plugins, in the order in which they judge.
    Many(Vec<String>),
}

impl Chain {
    /// Returns true if the chain has this plugin.
    pub fn names(&self, plugin: &str) -> bool {
        self.0.iter().any(|step| step.plugin == *plugin)
    }
}

impl TryFrom<ChainText> for Chain {
    type Error = String;

    fn try_from(text: ChainText) -> Result<Self, String> {
        let texts = match text {
            ChainText::None => Vec::new(),
            ChainText::One(one) => vec![one],
            ChainText::Many(many) => many,
        };
        if texts.len() > STEPS_MAX {
            return Err(format!("{} plugins are named; {STEPS_MAX} are the most", texts.len()));
        }
        Ok(Chain(texts.iter().map(|text| step(text)).collect::<Result<_, _>>()?))
    }
}

fn step(text: &str) -> Result<Step, String> {
    let (plugin, pin) = text.split_once('@').map_or((text, None), |(plugin, pin)| (plugin, Some(pin)));
    Ok(Step { plugin: PluginName::parse(plugin)?, pin: pin.map(VersionId::parse).transpose()? })
}

impl From<Chain> for ChainText {
    fn from(chain: Chain) -> Self {
        fn text(step: &Step) -> String {
            match &step.pin {
                Some(pin) => format!("{}@{pin}", step.plugin),
                None => step.plugin.to_string(),
            }
        }
        match &chain.0[..] {
            [] => ChainText::None,
            [one] => ChainText::One(text(one)),
            many => ChainText::Many(many.iter().map(text).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_written_as_nothing_a_text_or_a_list() {
        #[track_caller]
        fn check(text: &str, expected: Result<usize, &str>) {
            match (serde_json::from_str::<Chain>(text), expected) {
                (Ok(chain), Ok(steps)) => {
                    assert_eq!(chain.0.len(), steps);
                    let again = serde_json::to_string(&chain).expect("written");
                    assert_eq!(serde_json::from_str::<Chain>(&again).expect("read"), chain);
                }
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (found, expected) => panic!("{text}: {found:?} instead of {expected:?}"),
            }
        }
        let sha256 = "0".repeat(64);
        check("null", Ok(0));
        check("[]", Ok(0));
        check("\"flatten\"", Ok(1));
        check(&format!("\"flatten@{sha256}\""), Ok(1));
        check(&format!("[\"redact\", \"flatten@{sha256}\"]"), Ok(2));
        check("\"Flatten\"", Err("not a plugin name"));
        check("\"flatten@12\"", Err("not a sha256"));
        check("[\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\"]", Err("8 are the most"));
    }
}
