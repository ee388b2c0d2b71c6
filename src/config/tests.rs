use super::*;

#[test]
fn presets_are_valid() {
    for config in [Config::small(), Config::medium(), Config::large(), Config::huge(), Config::alerts()] {
        assert_eq!(config.validate(), Ok(()));
    }
}

#[test]
fn every_field_is_held_to_its_range() {
    type Spoil = fn(&mut Config);
    let spoils: &[(&str, Spoil)] = &[
        ("frame_bytes_max", |c| c.frame_bytes_max = 255),
        ("swarms_max", |c| c.swarms_max = 0),
        ("events_max", |c| c.events_max = 15),
        ("link.links_max", |c| c.link.links_max = 1),
        ("link.ping_after", |c| c.link.ping_after = Duration::ZERO),
        ("link.suspicion_min", |c| c.link.suspicion_min = Duration::ZERO),
        ("link.silence_min", |c| c.link.silence_min = Duration::from_millis(99)),
        ("link.silence_max", |c| c.link.silence_max = Duration::MAX),
        ("link.connect_timeout", |c| c.link.connect_timeout = Duration::ZERO),
        ("link.linger", |c| c.link.linger = Duration::MAX),
        ("link.inbound_frames_per_s", |c| c.link.inbound_frames_per_s = 0),
        ("link.inbound_bytes_per_s", |c| c.link.inbound_bytes_per_s = 999),
        ("link.inbound_burst", |c| c.link.inbound_burst = 61),
        ("egress.upload_bytes_per_s", |c| c.egress.upload_bytes_per_s = Some(0)),
        ("egress.peer_bytes_per_s", |c| c.egress.peer_bytes_per_s = Some(0)),
        ("egress.burst", |c| c.egress.burst = Duration::from_secs(11)),
        ("egress.frame_overhead_bytes", |c| c.egress.frame_overhead_bytes = 1_025),
        ("egress.peer_queue_bytes_max", |c| c.egress.peer_queue_bytes_max = 0),
        ("egress.queue_bytes_max", |c| c.egress.queue_bytes_max = 0),
        ("egress.credit_bytes", |c| c.egress.credit_bytes = Some(0)),
        ("egress.background_percent", |c| c.egress.background_percent = 51),
        ("membership.active_target", |c| c.membership.active_target = 1),
        ("membership.active_max", |c| c.membership.active_max = 7),
        ("membership.passive_max", |c| c.membership.passive_max = 0),
        ("membership.walk_hops", |c| c.membership.walk_hops = 0),
        ("membership.shuffle_hops", |c| c.membership.shuffle_hops = 65),
        ("membership.shuffle_entries", |c| c.membership.shuffle_entries = 0),
        ("membership.shuffle_interval", |c| c.membership.shuffle_interval = Duration::ZERO),
        ("membership.reply_timeout", |c| c.membership.reply_timeout = Duration::ZERO),
        ("membership.refill_interval", |c| c.membership.refill_interval = Duration::ZERO),
        ("membership.probe_interval", |c| c.membership.probe_interval = Duration::ZERO),
        ("membership.remembered_max", |c| c.membership.remembered_max = 1_025),
        ("membership.beat_interval", |c| c.membership.beat_interval = Some(Duration::ZERO)),
        ("membership.swap_interval", |c| c.membership.swap_interval = Some(Duration::ZERO)),
        ("membership.lasting_links", |c| c.membership.lasting_links = 33),
        ("membership.beat_interval", |c| c.membership.beat_interval = Some(Duration::from_millis(2_551))),
        ("membership.prefix_max", |c| c.membership.prefix_max = 0),
        ("membership.flap_pause", |c| c.membership.flap_pause = Some(Duration::ZERO)),
        ("budget.wants_per_s", |c| c.budget.wants_per_s = 15),
        ("budget.news_per_s", |c| c.budget.news_per_s = 15),
        ("budget.origins_per_s", |c| c.budget.origins_per_s = 0),
        ("score.distrust_points", |c| c.score.distrust_points = 0),
        ("score.part_points", |c| c.score.part_points = 19),
        ("score.refuse_points", |c| c.score.refuse_points = 49),
        ("score.half_life", |c| c.score.half_life = Duration::ZERO),
        ("score.refuse_for", |c| c.score.refuse_for = Duration::ZERO),
        ("score.refuse_max", |c| c.score.refuse_max = Duration::MAX),
        ("score.refused_max", |c| c.score.refused_max = 0),
        ("gossip.initial_fanout", |c| c.gossip.initial_fanout = 0),
        ("gossip.redundancy_percent", |c| c.gossip.redundancy_percent = 99),
        ("gossip.redundancy_max_percent", |c| c.gossip.redundancy_max_percent = 99),
        ("gossip.adaptive_threshold_permille", |c| c.gossip.adaptive_threshold_permille = Some(499)),
        ("gossip.have_interval", |c| c.gossip.have_interval = Duration::MAX),
        ("gossip.want_delay_min", |c| c.gossip.want_delay_min = Duration::MAX),
        ("gossip.sync_interval_min", |c| c.gossip.sync_interval_min = Duration::ZERO),
        ("gossip.sync_interval_max", |c| c.gossip.sync_interval_max = Duration::MAX),
        ("gossip.wants_outstanding_max", |c| c.gossip.wants_outstanding_max = 0),
        ("gossip.sources_max", |c| c.gossip.sources_max = 0),
        ("gossip.window_max", |c| c.gossip.window_max = 63),
        ("gossip.age_max", |c| c.gossip.age_max = Duration::ZERO),
        ("gossip.chunk_above_bytes", |c| c.gossip.chunk_above_bytes = 1_023),
        ("gossip.chunk_bytes_max", |c| c.gossip.chunk_bytes_max = 16_385),
        ("gossip.update_bytes_max", |c| c.gossip.update_bytes_max = 0),
        ("gossip.assemblies_max", |c| c.gossip.assemblies_max = 0),
        ("gossip.assemblies_per_origin_max", |c| c.gossip.assemblies_per_origin_max = 0),
        ("gossip.assemblies_per_peer_max", |c| c.gossip.assemblies_per_peer_max = 0),
        ("gossip.assembly_bytes_max", |c| c.gossip.assembly_bytes_max = 0),
        ("gossip.chunk_claim_bytes_per_s", |c| c.gossip.chunk_claim_bytes_per_s = 999),
        ("group.beat_interval", |c| c.group.beat_interval = Duration::ZERO),
        ("group.silence", |c| c.group.silence = c.group.beat_interval),
        ("group.suspicion", |c| c.group.suspicion = Duration::MAX),
        ("group.records_max", |c| c.group.records_max = 1),
        ("group.verdicts_max", |c| c.group.verdicts_max = 0),
        ("group.gone_age", |c| c.group.gone_age = Duration::ZERO),
        ("group.messages_waiting_max", |c| c.group.messages_waiting_max = 0),
        ("group.messages_waiting_bytes_max", |c| c.group.messages_waiting_bytes_max = 0),
        ("group.order_waiting_max", |c| c.group.order_waiting_max = 0),
    ];
    for (name, spoil) in spoils {
        let mut config = Config::medium();
        spoil(&mut config);
        match config.validate() {
            Err(ConfigError::OutOfRange { field, .. }) => assert_eq!(field, *name),
            other => panic!("{name} was not refused for its range: {other:?}"),
        }
    }
}

#[test]
fn contradictions_are_named() {
    let mut config = Config::medium();
    config.link.silence_min = Duration::from_secs(9);
    let expected = ConfigError::Order { lesser: "link.silence_min", greater: "link.silence_max" };
    assert_eq!(config.validate(), Err(expected));
}
