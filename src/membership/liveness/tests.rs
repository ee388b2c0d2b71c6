use alloc::vec::Vec;

use super::*;

fn config() -> LinkConfig {
    LinkConfig {
        ping_after: Duration::from_secs(1),
        silence_min: Duration::from_millis(2_500),
        ..LinkConfig::default()
    }
}

fn watched(now: Instant) -> Liveness {
    let mut liveness = Liveness::new(&config(), now);
    liveness.watch(now);
    liveness
}

/// Runs until `end`; answers pings after 40 ms unless `lost` says no. Returns when it was lost, and the pings sent.
fn run(mut liveness: Liveness, end: Instant, mut lost: impl FnMut(u32) -> bool) -> (Option<Instant>, u32) {
    let mut health = LocalHealth::default();
    let mut pings = 0;
    let mut answer: Option<(Instant, u16)> = None;
    loop {
        let wake = liveness.poll_timeout().unwrap();
        let now = answer.map_or(wake, |(at, _)| at.min(wake));
        if now > end {
            return (None, pings);
        }
        if let Some((at, token)) = answer.filter(|(at, _)| *at <= now) {
            liveness.heard(at);
            liveness.on_pong(token, at);
            answer = None;
            continue;
        }
        match liveness.handle_timeout(now, &mut health) {
            Some(LivenessAction::Lost) => return (Some(now), pings),
            Some(LivenessAction::SendPing { token }) => {
                pings += 1;
                if !lost(pings) {
                    answer = Some((now + Duration::from_millis(40), token));
                }
            }
            None => {}
        }
        assert!(liveness.poll_timeout().unwrap() > now, "it spins at {now:?}");
    }
}

#[test]
fn a_live_idle_peer_is_pinged_once_an_interval_and_never_lost() {
    let (lost, pings) = run(watched(Instant::ZERO), Instant::from_secs(100), |_| false);
    assert_eq!(lost, None);
    assert!((90..=101).contains(&pings), "{pings} pings");
}

#[test]
fn a_dead_peer_is_lost_after_the_least_silence() {
    let (lost, _) = run(watched(Instant::ZERO), Instant::from_secs(100), |ping| ping > 3);
    let config = config();
    let silent_since = Instant::from_millis(2_200);
    let at = lost.unwrap();
    assert!(at >= silent_since && at <= silent_since + config.silence_min * 2, "{at:?}");
}

#[test]
fn two_lost_pings_in_three_do_no_harm() {
    let (lost, _) = run(watched(Instant::ZERO), Instant::from_secs(1_000), |ping| ping % 3 != 0);
    assert_eq!(lost, None);
}

#[test]
fn a_lost_ping_is_noticed_once_the_next_is_answered() {
    let mut liveness = watched(Instant::ZERO);
    let ping = |liveness: &mut Liveness| loop {
        let at = liveness.poll_timeout().unwrap();
        match liveness.handle_timeout(at, &mut LocalHealth::default()) {
            Some(LivenessAction::SendPing { token }) => break (at, token),
            Some(LivenessAction::Lost) => panic!("given up at {at:?}"),
            None => {}
        }
    };
    let (at, token) = ping(&mut liveness);
    assert!(liveness.on_pong(token, at + Duration::from_millis(40)) && !liveness.take_loss());
    ping(&mut liveness);
    let (at, token) = ping(&mut liveness);
    assert!(!liveness.take_loss(), "the peer may be dead");
    assert!(liveness.on_pong(token, at + Duration::from_millis(40)));
    assert!(liveness.take_loss());
    assert!(!liveness.take_loss(), "one loss is reported once");
}

#[test]
fn a_doubt_is_news_when_two_pings_are_without_an_answer_and_once_more() {
    let mut liveness = watched(Instant::ZERO);
    let mut health = LocalHealth::default();
    let mut doubts = Vec::new();
    for ping in 0..6 {
        let at = liveness.poll_timeout().unwrap();
        assert!(matches!(liveness.handle_timeout(at, &mut health), Some(LivenessAction::SendPing { .. })));
        doubts.extend(liveness.is_news().then_some(ping));
    }
    assert_eq!(doubts, [2, 4]);
}

#[test]
fn a_suspect_is_pinged_at_once_and_left_alone_once_it_was_heard_of() {
    let start = Instant::from_secs(10);
    let mut health = LocalHealth::default();
    let mut liveness = watched(start);
    let Some(LivenessAction::SendPing { token }) = liveness.handle_timeout(start, &mut health) else {
        panic!("no ping")
    };
    assert!(liveness.on_pong(token, start + Duration::from_millis(40)));
    let now = start + Duration::from_millis(100);
    liveness.heard(now);
    let mut next = |liveness: &mut Liveness| {
        loop {
            let at = liveness.poll_timeout().unwrap();
            if let Some(action) = liveness.handle_timeout(at, &mut health) {
                return (at, action);
            }
        }
    };
    let mut trusted = liveness.clone();
    trusted.suspect(now + SUSPECT_SILENCE - Duration::from_millis(1));
    assert_eq!(next(&mut trusted).0, now + config().ping_after, "it was heard of just now");

    let at = now + SUSPECT_SILENCE;
    liveness.suspect(at);
    assert_eq!(next(&mut liveness).0, at);
    let lost = |liveness: &mut Liveness, next: &mut dyn FnMut(&mut Liveness) -> (Instant, LivenessAction)| loop {
        if let (at, LivenessAction::Lost) = next(liveness) {
            return at;
        }
    };
    let hurried = lost(&mut liveness.clone(), &mut next);
    assert!(hurried < lost(&mut trusted, &mut next), "given up sooner than one that nobody suspects");

    let answered = at + Duration::from_millis(41);
    liveness.heard(answered);
    assert_eq!(next(&mut liveness).0, answered + config().ping_after);
}

#[test]
fn the_defaults_find_a_dead_neighbour_within_two_seconds_in_the_median() {
    // Dead at any moment of the idle time: half of it has passed in the median.
    let config = LinkConfig::default();
    assert!(config.silence_min - config.ping_after / 2 <= Duration::from_secs(2));
    // Pings are repeated until then, so that losses do no harm.
    let timeout = Duration::from_millis(120);
    assert!((config.silence_min - config.ping_after).as_millis() / timeout.as_millis() >= 8);
}

#[test]
fn a_host_that_slept_blames_nobody() {
    let mut liveness = watched(Instant::ZERO);
    let mut health = LocalHealth::default();
    liveness.handle_timeout(Instant::ZERO, &mut health);
    let woken = Instant::from_secs(30);
    assert!(matches!(liveness.handle_timeout(woken, &mut health), Some(LivenessAction::SendPing { .. })));
    let (lost, _) = run(liveness, Instant::from_secs(60), |_| true);
    assert!(lost.is_some_and(|at| at > woken + Duration::from_secs(1)), "{lost:?}");
}

/// A link that is measured, with a sign of life each second until `end`; then its deadline.
fn promised(end: Instant) -> Liveness {
    let mut liveness = watched(Instant::ZERO);
    let mut health = LocalHealth::default();
    liveness.note_rtt(Duration::from_millis(40));
    for second in 0.. {
        let now = Instant::from_secs(second);
        if now > end {
            break;
        }
        liveness.heard(now);
        liveness.on_beat(Duration::from_secs(1), now);
        assert_eq!(liveness.handle_timeout(now, &mut health), None);
    }
    liveness
}

/// When the peer is given up that never answers, and the pings until then.
fn given_up(mut liveness: Liveness, mut health: LocalHealth) -> (Instant, u32) {
    let mut pings = 0;
    loop {
        let now = liveness.poll_timeout().unwrap();
        match liveness.handle_timeout(now, &mut health) {
            Some(LivenessAction::SendPing { .. }) => pings += 1,
            Some(LivenessAction::Lost) => return (now, pings),
            None => {}
        }
    }
}

#[test]
fn a_peer_that_keeps_its_promises_is_not_pinged_until_the_link_must_be_measured() {
    let mut liveness = promised(Instant::from_secs(59));
    assert!(liveness.poll_timeout().unwrap() > Instant::from_secs(60));
    liveness.heard(Instant::from_secs(60));
    liveness.on_beat(Duration::from_secs(1), Instant::from_secs(60));
    let at = liveness.poll_timeout().unwrap();
    let ping = liveness.handle_timeout(at, &mut LocalHealth::default());
    assert!(at == Instant::from_secs(60) && matches!(ping, Some(LivenessAction::SendPing { .. })));
}

#[test]
fn a_broken_promise_is_asked_about_at_once_and_another_frame_stands_for_it() {
    let end = Instant::from_secs(10);
    let late = Duration::from_millis(1_100) + Duration::from_millis(20) * 4;
    let silent = promised(end);
    assert_eq!(silent.poll_timeout(), Some(end + late));
    let (lost, pings) = given_up(silent, LocalHealth::default());
    let suspicion = config().suspicion_min;
    assert!(lost >= end + late + suspicion && lost <= end + late + suspicion * 2, "{lost:?}");
    assert!(pings >= 4);
    let mut busy = promised(end);
    busy.heard(end + Duration::from_millis(900));
    assert_eq!(busy.handle_timeout(end + late, &mut LocalHealth::default()), None);
    assert_eq!(busy.poll_timeout(), Some(end + late + Duration::from_secs(1)), "the next is due");
}

#[test]
fn hearsay_alone_gives_nobody_up_but_makes_it_quicker() {
    let now = Instant::from_secs(10);
    let mut liveness = promised(now);
    liveness.hurry(now);
    assert_eq!(liveness.poll_timeout(), Some(now), "it is pinged at once");
    let Some(LivenessAction::SendPing { token }) = liveness.handle_timeout(now, &mut LocalHealth::default())
    else {
        panic!("no ping");
    };
    let mut answered = liveness.clone();
    answered.heard(now + Duration::from_millis(40));
    assert!(answered.on_pong(token, now + Duration::from_millis(40)));
    let at = answered.poll_timeout().unwrap();
    assert_eq!(answered.handle_timeout(at, &mut LocalHealth::default()), None, "all is well");
    let (alone, _) = given_up(promised(now), LocalHealth::default());
    let (hurried, _) = given_up(liveness, LocalHealth::default());
    assert!(hurried + Duration::from_millis(200) < alone, "{hurried:?} and {alone:?}");
}

#[test]
fn who_is_vouched_for_gets_the_longest_silence() {
    let now = Instant::from_secs(10);
    let mut liveness = promised(now);
    assert!(!liveness.vouch(), "it is not in doubt");
    let asked = liveness.poll_timeout().unwrap();
    liveness.handle_timeout(asked, &mut LocalHealth::default());
    assert!(liveness.vouch());
    let (lost, _) = given_up(liveness, LocalHealth::default());
    assert_eq!(lost, asked + config().silence_max);
}

#[test]
fn a_node_in_poor_health_grants_more_time_until_others_answer_it() {
    let mut health = LocalHealth::default();
    let span = Duration::from_secs(2);
    assert_eq!(health.stretch(span), span);
    (0..100).for_each(|_| health.worsen());
    assert_eq!(health.stretch(span), span * 3);
    let (healthy, _) = given_up(promised(Instant::from_secs(10)), LocalHealth::default());
    let (poor, _) = given_up(promised(Instant::from_secs(10)), health);
    assert!(poor > healthy + Duration::from_secs(1), "{poor:?} and {healthy:?}");
    (0..100).for_each(|_| health.improve());
    assert_eq!(health, LocalHealth::default());
}

#[test]
fn a_missing_sign_of_life_is_news_at_once_and_a_measurement_is_none() {
    let mut health = LocalHealth::default();
    let mut silent = promised(Instant::from_secs(10));
    let mut news = Vec::new();
    for ping in 0..5 {
        let at = silent.poll_timeout().unwrap();
        assert!(matches!(silent.handle_timeout(at, &mut health), Some(LivenessAction::SendPing { .. })));
        news.extend(silent.is_news().then_some(ping));
    }
    assert_eq!(news, [0, 2]);
    let mut measured = promised(Instant::from_secs(59));
    let now = Instant::from_secs(60);
    measured.on_beat(Duration::from_secs(1), now);
    assert!(measured.handle_timeout(now, &mut health).is_some() && !measured.is_news());
    let now = Instant::from_secs(10);
    let mut hurried = promised(now);
    hurried.hurry(now);
    let mut news = Vec::new();
    for ping in 0..6 {
        let at = hurried.poll_timeout().unwrap();
        assert!(hurried.handle_timeout(at, &mut health).is_some());
        news.extend(hurried.is_news().then(|| (ping, hurried.is_hearsay())));
    }
    assert_eq!(news, [(1, true), (3, false)], "those that others do not know are told, too");
}

#[test]
fn the_word_of_several_counts_once() {
    let mut liveness = promised(Instant::from_secs(10));
    let asked = liveness.poll_timeout().unwrap();
    liveness.handle_timeout(asked, &mut LocalHealth::default());
    assert!(liveness.vouch() && !liveness.vouch());
}

#[test]
fn promises_that_are_kept_improve_health() {
    let mut health = LocalHealth::default();
    health.worsen();
    for kept in 0..KEPT_TO_IMPROVE {
        assert_ne!(health, LocalHealth::default(), "after {kept}");
        health.note_kept();
    }
    assert_eq!(health, LocalHealth::default());
    let mut liveness = watched(Instant::ZERO);
    let second = Duration::from_secs(1);
    assert!(!liveness.on_beat(second, Instant::ZERO), "nothing was promised");
    assert!(liveness.on_beat(second, Instant::ZERO + second));
    assert!(!liveness.on_beat(second, Instant::from_secs(9)), "it came late");
}

#[test]
fn frames_alone_keep_a_busy_link_quiet() {
    let mut liveness = watched(Instant::ZERO);
    liveness.note_rtt(Duration::from_millis(40));
    let mut pings = 0;
    for millis in (0..20_000).step_by(100) {
        let now = Instant::from_millis(millis);
        liveness.heard(now);
        pings += u32::from(liveness.handle_timeout(now, &mut LocalHealth::default()).is_some());
    }
    assert_eq!(pings, 0);
}

#[test]
fn estimates_follow_rfc_6298() {
    let mut liveness = watched(Instant::ZERO);
    liveness.note_rtt(Duration::from_millis(100));
    assert_eq!(liveness.rtt(), Some((Duration::from_millis(100), Duration::from_millis(50))));
    for _ in 0..100 {
        liveness.note_rtt(Duration::from_millis(60));
    }
    let (rtt, deviation) = liveness.rtt().unwrap();
    assert!(rtt.abs_diff(Duration::from_millis(60)) < Duration::from_millis(1));
    assert!(deviation < Duration::from_millis(2));
}
