//! What parity and seals of media frames cost, for a frame of 2.5 Mbit/s at 30 frames a second in 9 + 2 chunks.
//!
//! ```text
//! cargo bench --all-features --bench codes
//! ```

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use suffuse::forest::parity::{self, Scheme};

const DATA: usize = 9;
const PARITY: usize = 2;
const CHUNK_BYTES: usize = 1_157;

fn chunks() -> Vec<Bytes> {
    (0..DATA).map(|index| Bytes::from(vec![index as u8 + 1; CHUNK_BYTES])).collect()
}

fn codes(criterion: &mut Criterion) {
    for scheme in [Scheme::Xor, Scheme::ReedSolomon].into_iter().filter(|scheme| scheme.is_available()) {
        let chunks = chunks();
        criterion.bench_function(&format!("{scheme:?}: encode 9 + 2"), |bencher| {
            bencher.iter(|| parity::encode(scheme, black_box(&chunks), PARITY).expect("equal chunks"));
        });
        let parity = parity::encode(scheme, &chunks, PARITY).expect("equal chunks");
        for losses in 1..=PARITY {
            let mut received: Vec<_> = chunks.iter().chain(&parity).cloned().map(Some).collect();
            received[..losses].fill(None);
            assert_eq!(parity::recover(scheme, &received, DATA).len(), losses);
            criterion.bench_function(&format!("{scheme:?}: recover {losses} of 9 + 2"), |bencher| {
                bencher.iter(|| parity::recover(scheme, black_box(&received), DATA));
            });
        }
    }
}

#[cfg(feature = "ed25519")]
fn seals(criterion: &mut Criterion) {
    use suffuse::authority::{Ed25519Signer, KeyRing};
    use suffuse::forest::{Blake3, FrameHeader, seal_frame, verify_chunk, verify_seal};
    use suffuse::{Epoch, SwarmId};

    let (swarm, origin, mut scratch) = (SwarmId(1), 1u64, Vec::new());
    let signer = Ed25519Signer::from_seed(&[7; 32]);
    let mut ring = KeyRing::new(1);
    ring.insert(origin, &signer.public_key()).expect("a good key");
    let header = FrameHeader {
        epoch: Epoch(1),
        track: 0,
        sequence: 0,
        keyframe: true,
        captured_ms: 0,
        deadline_ms: 400,
        first_chunk: 0,
        data: DATA as u8,
        parity: PARITY as u8,
        scheme: Scheme::Xor,
        payload_bytes: (DATA * CHUNK_BYTES) as u32,
    };
    let data = chunks();
    let parity = parity::encode(Scheme::Xor, &data, PARITY).expect("equal chunks");
    let all: Vec<_> = data.into_iter().chain(parity).collect();

    criterion.bench_function("seal 9 + 2", |bencher| {
        let mut scratch = Vec::new();
        bencher.iter(|| seal_frame(swarm, &origin, &header, black_box(&all), &signer, &Blake3, &mut scratch));
    });
    let seal = seal_frame(swarm, &origin, &header, &all, &signer, &Blake3, &mut scratch).expect("it fits");
    assert!(verify_seal(swarm, &origin, &header, &seal, &ring, &mut scratch));
    criterion.bench_function("verify a seal of 9 + 2", |bencher| {
        bencher.iter(|| verify_seal(swarm, &origin, &header, black_box(&seal), &ring, &mut scratch));
    });
    criterion.bench_function("verify a chunk", |bencher| {
        bencher.iter(|| verify_chunk(&seal, 0, black_box(&all[0]), &Blake3));
    });
}

#[cfg(not(feature = "ed25519"))]
fn seals(_: &mut Criterion) {}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    targets = codes, seals
}
criterion_main!(benches);
