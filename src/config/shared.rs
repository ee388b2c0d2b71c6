//! Parts of one configuration that is shared by all who need it.

use alloc::sync::Arc;
use core::ops::Deref;

use super::{BudgetConfig, Config, GossipConfig, MembershipConfig, ScoreConfig};

/// [`Config::gossip`] of a shared configuration.
#[derive(Clone, Debug)]
pub(crate) struct SharedGossip(Arc<Config>);

impl SharedGossip {
    /// [`Config::budget`].
    pub(crate) fn budget(&self) -> &BudgetConfig {
        &self.0.budget
    }

    /// [`Config::score`].
    pub(crate) fn score(&self) -> &ScoreConfig {
        &self.0.score
    }

    /// The same with other limits.
    pub(crate) fn with_limits(&self, budget: BudgetConfig, score: ScoreConfig) -> Self {
        Self(Arc::new(Config { budget, score, ..Config::clone(&self.0) }))
    }
}

/// [`Config::membership`] of a shared configuration.
#[derive(Clone, Debug)]
pub(crate) struct SharedMembership(Arc<Config>);

impl Deref for SharedGossip {
    type Target = GossipConfig;

    fn deref(&self) -> &GossipConfig {
        &self.0.gossip
    }
}

impl Deref for SharedMembership {
    type Target = MembershipConfig;

    fn deref(&self) -> &MembershipConfig {
        &self.0.membership
    }
}

impl From<Arc<Config>> for SharedGossip {
    fn from(config: Arc<Config>) -> Self {
        Self(config)
    }
}

impl From<Arc<Config>> for SharedMembership {
    fn from(config: Arc<Config>) -> Self {
        Self(config)
    }
}

/// Of a machine that is used alone.
impl From<GossipConfig> for SharedGossip {
    fn from(gossip: GossipConfig) -> Self {
        Self(Arc::new(Config { gossip, ..Config::default() }))
    }
}

/// Of a machine that is used alone.
impl From<MembershipConfig> for SharedMembership {
    fn from(membership: MembershipConfig) -> Self {
        Self(Arc::new(Config { membership, ..Config::default() }))
    }
}
