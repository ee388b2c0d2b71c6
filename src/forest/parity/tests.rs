use super::*;
use alloc::vec;
use proptest::prelude::*;

fn cut(frame: &[u8], chunk_bytes: usize) -> Vec<Bytes> {
    frame.chunks(chunk_bytes).map(Bytes::copy_from_slice).collect()
}

/// Data and parity, without the chunks at `lost`.
fn received(scheme: Scheme, chunks: &[Bytes], parity: usize, lost: &[usize]) -> Vec<Option<Bytes>> {
    let all = chunks.iter().cloned().chain(encode(scheme, chunks, parity).unwrap());
    all.enumerate().map(|(index, chunk)| (!lost.contains(&index)).then_some(chunk)).collect()
}

fn expected(chunks: &[Bytes], lost: &[usize]) -> Vec<(usize, Bytes)> {
    let numbered = chunks.iter().cloned().enumerate();
    numbered.filter(|(index, _)| lost.contains(index)).collect()
}

#[test]
fn golden_xor_of_one_class() {
    let chunks = cut(b"abcdefghij", 4);
    let parity = encode(Scheme::Xor, &chunks, 1).unwrap();
    let shard = [b'a' ^ b'e' ^ b'i', b'b' ^ b'f' ^ b'j', b'c' ^ b'g', b'd' ^ b'h'];
    assert_eq!(shard, *b"mn\x04\x0c");
    assert_eq!(parity, [Bytes::from_static(b"\x0a\x04mn\x04\x0c")]);
}

#[test]
fn golden_xor_of_two_classes() {
    let chunks = cut(b"\x01\x02\x04\x08\x10\x20\x40\x80\xff", 2);
    let parity = encode(Scheme::Xor, &chunks, 2).unwrap();
    assert_eq!(parity, [&b"\x09\x02\xee\x22"[..], b"\x09\x02\x44\x88"]);
}

#[test]
fn golden_xor_where_a_class_is_only_the_short_chunk() {
    let parity = encode(Scheme::Xor, &cut(b"abcdefghij", 4), 3).unwrap();
    assert_eq!(parity, [&b"\x0a\x04abcd"[..], b"\x0a\x04efgh", b"\x0a\x04ij\0\0"]);
}

#[test]
fn golden_lengths_of_two_bytes() {
    let parity = encode(Scheme::Xor, &cut(&[7; 10_417], 1_158), 1).unwrap();
    assert_eq!(parity[0].len(), 4 + 1_158);
    assert_eq!(parity[0][..4], *b"\xb1\x51\x86\x09");
}

#[cfg(feature = "fec")]
#[test]
fn golden_reed_solomon() {
    let parity = encode(Scheme::ReedSolomon, &cut(b"abcdefghijklm", 5), 2).unwrap();
    assert_eq!(parity, [&b"\x0d\x05S\xc2\xd1ca\0"[..], b"\x0d\x05?\xab\xb7nn\0"]);
}

#[test]
fn the_last_and_shorter_chunk_comes_back_at_its_size() {
    let chunks = cut(b"abcdefghij", 4);
    let received = received(Scheme::Xor, &chunks, 1, &[2]);
    assert_eq!(recover(Scheme::Xor, &received, 3), [(2, Bytes::from_static(b"ij"))]);
}

#[test]
fn counts_that_cannot_be_are_refused() {
    let chunks = cut(&[1; 200], 1);
    let refused = |data: usize, parity| {
        assert_eq!(
            encode(Scheme::Xor, &chunks[..data], parity),
            Err(ParityError::Counts { data, parity }),
            "{data} + {parity}"
        );
    };
    refused(0, 0);
    refused(0, 1);
    refused(1, 2);
    refused(200, 56);
    refused(200, usize::MAX);
    assert_eq!(encode(Scheme::Xor, &chunks, 55).unwrap().len(), 55);
    assert_eq!(encode(Scheme::Xor, &chunks, 0), Ok(vec![]));
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    for (sizes, misfit) in [(&[4, 3, 4][..], 1), (&[4, 4, 5], 2), (&[4, 0], 1), (&[0], 0), (&[3, 4, 4], 1)] {
        let chunks: Vec<_> = sizes.iter().map(|&size| Bytes::from(vec![1; size])).collect();
        assert_eq!(encode(Scheme::Xor, &chunks, 1), Err(ParityError::Sizes { index: misfit }), "{sizes:?}");
    }
}

#[cfg(not(feature = "fec"))]
#[test]
fn without_the_feature_nothing_is_rebuilt() {
    let chunks = cut(b"abcdefgh", 4);
    let unavailable = Err(ParityError::Unavailable(Scheme::ReedSolomon));
    assert_eq!(encode(Scheme::ReedSolomon, &chunks, 1), unavailable);
    let received = received(Scheme::Xor, &chunks, 1, &[0]);
    assert_eq!(recover(Scheme::ReedSolomon, &received, 2), []);
    assert!(!can_recover(Scheme::ReedSolomon, 2, 1, |index| index > 0));
    assert!(can_recover(Scheme::ReedSolomon, 2, 1, |index| index < 2));
}

#[test]
fn chunks_that_contradict_each_other_rebuild_nothing() {
    let chunks = cut(b"abcdefghij", 4);
    let good = received(Scheme::Xor, &chunks, 2, &[0]);
    assert_eq!(recover(Scheme::Xor, &good, 3).len(), 1);
    let changed = |index: usize, chunk: &'static [u8]| {
        let mut received = good.clone();
        received[index] = Some(Bytes::from_static(chunk));
        recover(Scheme::Xor, &received, 3)
    };
    assert_eq!(changed(1, b"efg"), [], "a data chunk too short");
    assert_eq!(changed(2, b"ijk"), [], "a last chunk too long");
    assert_eq!(changed(4, b"\x0b\x04efgh"), [], "parity of another frame length");
    assert_eq!(changed(3, b"\x0a\x04abc"), [], "a shard too short");
    assert_eq!(changed(3, b"\x0a"), [], "a parity chunk without a shard");
    assert_eq!(changed(3, b""), [], "an empty parity chunk");
    assert_eq!(changed(3, b"\x8a\0\x04abcd"), [], "a length not in its shortest form");
}

#[test]
fn promised_sizes_take_no_memory() {
    // 4 GiB in two chunks, of which two bytes came.
    let mut parity = Vec::new();
    parity.put_varint(u32::MAX.into());
    parity.put_varint(1 << 31);
    parity.put(b"xx");
    for scheme in [Scheme::Xor, Scheme::ReedSolomon] {
        assert_eq!(recover(scheme, &[None, None, Some(Bytes::from(parity.clone()))], 2), []);
    }
}

fn frames() -> impl Strategy<Value = Vec<Bytes>> {
    (1usize..40, 1usize..200).prop_flat_map(|(data, chunk_bytes)| {
        let frame_bytes = (data - 1) * chunk_bytes + 1..=data * chunk_bytes;
        prop::collection::vec(any::<u8>(), frame_bytes).prop_map(move |frame| cut(&frame, chunk_bytes))
    })
}

fn nonsense() -> impl Strategy<Value = Vec<Option<Bytes>>> {
    // Often almost right: a frame of few chunks, in which each chunk is rightly sized but for some.
    let prefix = (0u64..40, 0u64..12, 0usize..14);
    let parity = prefix.prop_map(|(frame_bytes, chunk_bytes, shard_bytes)| {
        let mut chunk = Vec::new();
        chunk.put_varint(frame_bytes);
        chunk.put_varint(chunk_bytes);
        chunk.resize(chunk.len() + shard_bytes, 3);
        chunk
    });
    let noise = prop::collection::vec(any::<u8>(), 0..24);
    let chunk = prop::option::weighted(0.8, prop_oneof![parity, noise].prop_map(Bytes::from));
    prop::collection::vec(chunk, 0..12)
}

proptest! {
    #[test]
    fn xor_rebuilds_one_loss_in_each_class(
        chunks in frames(),
        parity in 1usize..10,
        picks in prop::collection::vec(any::<prop::sample::Index>(), 10),
    ) {
        let (data, parity) = (chunks.len(), parity.min(chunks.len()));
        let lost: Vec<_> = (0..parity)
            .filter_map(|class| {
                let members: Vec<_> = class_of(class, data, parity).chain([data + class]).collect();
                members.get(picks[class].index(members.len() + 1)).copied()
            })
            .collect();
        let received = received(Scheme::Xor, &chunks, parity, &lost);
        prop_assert!(can_recover(Scheme::Xor, data, parity, |index| received[index].is_some()));
        prop_assert_eq!(recover(Scheme::Xor, &received, data), expected(&chunks, &lost));
    }

    #[test]
    fn what_can_be_recovered_is(
        chunks in frames(),
        parity in 0usize..10,
        there in prop::collection::vec(prop::bool::weighted(0.8), 50),
    ) {
        let (data, parity) = (chunks.len(), parity.min(chunks.len()));
        for scheme in [Scheme::Xor, Scheme::ReedSolomon].into_iter().filter(|scheme| scheme.is_available()) {
            let lost: Vec<_> = (0..data + parity).filter(|&index| !there[index]).collect();
            let received = received(scheme, &chunks, parity, &lost);
            let recovered = recover(scheme, &received, data);
            let whole = recovered == expected(&chunks, &lost);
            prop_assert_eq!(whole, can_recover(scheme, data, parity, |index| there[index]));
            prop_assert!(recovered.iter().all(|(index, chunk)| chunks[*index] == *chunk));
        }
    }

    #[test]
    fn nonsense_never_panics(chunks in nonsense(), data in 0usize..14) {
        for scheme in [Scheme::Xor, Scheme::ReedSolomon] {
            for (index, _) in recover(scheme, &chunks, data) {
                prop_assert!(index < data && chunks[index].is_none());
            }
            let _ = can_recover(scheme, data, chunks.len(), |index| index % 3 == 0);
        }
        for data in [255, 256, usize::MAX] {
            prop_assert_eq!(recover(Scheme::Xor, &chunks, data), []);
        }
    }

    #[test]
    fn nonsense_within_a_frame_never_panics(
        chunks in frames(),
        parity in 1usize..6,
        lost in 0usize..40,
        changed in any::<prop::sample::Index>(),
        noise in prop::collection::vec(any::<u8>(), 0..24),
    ) {
        for scheme in [Scheme::Xor, Scheme::ReedSolomon].into_iter().filter(|scheme| scheme.is_available()) {
            let parity = parity.min(chunks.len());
            let mut received = received(scheme, &chunks, parity, &[lost]);
            let changed = changed.index(received.len());
            received[changed] = Some(Bytes::from(noise.clone()));
            let _ = recover(scheme, &received, chunks.len());
        }
    }
}

#[cfg(feature = "fec")]
proptest! {
    #[test]
    fn reed_solomon_rebuilds_from_any_data_chunks(
        chunks in frames(),
        parity in 1usize..10,
        order in Just((0..50).collect::<Vec<usize>>()).prop_shuffle(),
        losses in 0usize..10,
    ) {
        let data = chunks.len();
        let lost = order.into_iter().filter(|&index| index < data + parity).take(losses.min(parity));
        let lost: Vec<_> = lost.collect();
        let received = received(Scheme::ReedSolomon, &chunks, parity, &lost);
        prop_assert!(can_recover(Scheme::ReedSolomon, data, parity, |index| received[index].is_some()));
        prop_assert_eq!(recover(Scheme::ReedSolomon, &received, data), expected(&chunks, &lost));
    }
}
