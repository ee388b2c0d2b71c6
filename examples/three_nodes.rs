//! Three engines in one process, with a queue for a network: the whole contract in 25 lines.
//!
//! ```text
//! cargo run --example three_nodes
//! ```

use bytes::Bytes;
use suffuse::{
    Config, Engine, Event, Input, Instant, Output, PublishOptions, Seed, StateId, SwarmId, TopicOptions,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let weather = SwarmId::from_name("weather");
    let mut now = Instant::ZERO;
    let mut nodes = Vec::new();
    for name in 0..3u64 {
        let mut engine = Engine::new(name, Config::small(), Seed::from_u64(name), now)?;
        // Everybody knows node 0, and node 0 knows nobody.
        let contacts = (name > 0).then_some(0);
        engine.join_topic(weather, TopicOptions::through(contacts), now)?;
        nodes.push(engine);
    }
    for tick in 0..300 {
        if tick == 100 {
            let rain = Bytes::from_static(b"rain");
            nodes[2].publish(weather, StateId(0), rain, PublishOptions::default(), now)?;
        }
        for name in 0..3 {
            nodes[name as usize].handle_timeout(now);
            while let Some(output) = nodes[name as usize].poll_output() {
                match output {
                    Output::Send { to, frame, .. } => {
                        nodes[to as usize].handle_input(Input::Received { from: name, frame }, now);
                    }
                    Output::Connect { peer } => {
                        nodes[name as usize].handle_input(Input::PeerConnected { peer }, now);
                    }
                    Output::Event(Event::Delivered(update)) => {
                        println!(
                            "{now:?}: node {name} got {:?} from node {}",
                            update.payload, update.id.origin
                        );
                    }
                    Output::Disconnect { .. } | Output::Event(_) => {}
                }
            }
        }
        now += std::time::Duration::from_millis(10);
    }
    Ok(())
}
