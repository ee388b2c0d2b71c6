//! The cutting and the putting together, against a model that knows everything.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use bytes::Bytes;
use proptest::prelude::*;

use super::assembly::{Assembly, Placed};
use super::manifest::{Manifest, Voucher};
use crate::authority::ChunkHasher;
use crate::rng::mix;

/// Not cryptographic, but it tells the pieces of a test apart.
struct Toy;

impl ChunkHasher for Toy {
    fn hash(&self, bytes: &[u8]) -> [u8; 16] {
        let fold = |seed: u64| bytes.iter().fold(seed, |sum, &byte| mix(sum ^ u64::from(byte)));
        let mut hash = [0; 16];
        hash[..8].copy_from_slice(&fold(bytes.len() as u64).to_le_bytes());
        hash[8..].copy_from_slice(&fold(!(bytes.len() as u64)).to_le_bytes());
        hash
    }
}

fn hasher(signed: bool) -> Option<&'static dyn ChunkHasher> {
    signed.then_some(&Toy as &dyn ChunkHasher)
}

fn body(bytes: usize) -> Bytes {
    (0..bytes as u64).map(|place| mix(place) as u8).collect()
}

/// The manifest of a body, its pieces by their numbers, and the manifest as others read it.
fn cut(bytes: usize, chunk_bytes: usize, signed: bool) -> (Bytes, Vec<Bytes>, Manifest) {
    let body = body(bytes);
    let (manifest, pages) = Manifest::of(&body, chunk_bytes, hasher(signed)).unwrap();
    let read = Manifest::read(&manifest.encode()).unwrap();
    assert_eq!(read, manifest);
    let origin = Assembly::whole(manifest, pages, body.clone());
    let pieces = (0..read.count()).map(|number| origin.piece(number).unwrap().0).collect();
    (body, pieces, read)
}

#[test]
fn every_piece_is_vouched_for_by_one_of_a_lower_number() {
    for (bytes, chunk_bytes) in
        [(1, 64), (64, 64), (65, 64), (5_000, 64), (100_000, 64), (1 << 20, 1_164), (5 << 20, 16_384)]
    {
        let (body, pieces, manifest) = cut(bytes, chunk_bytes, true);
        assert!(manifest.encode().len() <= chunk_bytes / 4 + 16 + 8, "{bytes} in {chunk_bytes}");
        let mut whole = Vec::new();
        for (number, piece) in (0..).zip(&pieces) {
            assert!(!piece.is_empty() && piece.len() <= chunk_bytes);
            assert_eq!(manifest.piece_bytes(number), Some(piece.len()));
            let hash = match manifest.voucher(number).unwrap() {
                Voucher::None => panic!("nobody vouches for {number}"),
                Voucher::Manifest(place) => *manifest.hash(place).unwrap(),
                Voucher::Page(page, place) => {
                    assert!(page < number, "{page} vouches for {number}");
                    assert!(manifest.below(page).unwrap().contains(&number));
                    pieces[page as usize][place * 16..][..16].try_into().unwrap()
                }
            };
            assert_eq!(hash, Toy.hash(piece), "piece {number} of {bytes} bytes in {chunk_bytes}");
            if number >= manifest.page_count() {
                whole.extend_from_slice(piece);
            }
        }
        assert_eq!(whole, body);
        assert_eq!(manifest.piece_bytes(manifest.count()), None);
        assert_eq!(manifest.voucher(manifest.count()), None);
    }
}

#[test]
fn what_cannot_be_a_manifest_is_none() {
    let good = cut(10_000, 100, true).2.encode();
    assert!(Manifest::read(&good).is_some());
    for len in (0..good.len()).filter(|&len| len != 3) {
        assert!(Manifest::read(&good.slice(..len)).is_none(), "cut at {len}");
    }
    // Without any hash it is one of a topic that is not signed.
    assert!(!Manifest::read(&good.slice(..3)).unwrap().is_signed());
    let longer = Bytes::from([&good[..], &[0; 16]].concat());
    assert!(Manifest::read(&longer).is_none());
}

#[derive(Clone, Debug)]
enum Step {
    Good(prop::sample::Index),
    Corrupt(prop::sample::Index),
    Short(prop::sample::Index),
    Beyond(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        12 => index().prop_map(Step::Good),
        2 => index().prop_map(Step::Corrupt),
        1 => index().prop_map(Step::Short),
        1 => any::<u32>().prop_map(Step::Beyond),
    ]
}

/// What was taken, whether it can be checked or not: whether it is the true piece.
type Model = BTreeMap<u32, bool>;

/// The pieces that can be checked, and are true. Removes those that can be checked and are not.
fn checked(model: &mut Model, manifest: &Manifest) -> BTreeSet<u32> {
    let mut checked = BTreeSet::new();
    for number in 0..manifest.count() {
        let can_be = match manifest.voucher(number).unwrap() {
            Voucher::None | Voucher::Manifest(_) => true,
            Voucher::Page(page, _) => checked.contains(&page),
        };
        match model.get(&number) {
            Some(true) if can_be => {
                checked.insert(number);
            }
            Some(false) if can_be && manifest.is_signed() => {
                model.remove(&number);
            }
            _ => {}
        }
    }
    checked
}

proptest! {
    #[test]
    fn assembly_agrees_with_the_model(
        bytes in 1usize..12_000,
        chunk_bytes in 64usize..300,
        signed in any::<bool>(),
        framed in any::<bool>(),
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let (body, pieces, manifest) = cut(bytes, chunk_bytes, signed);
        let mut assembly = Assembly::new(manifest.clone());
        let mut model = Model::new();
        let mut expected = BTreeSet::new();
        // At the end everything comes, from the last to the first.
        let all = (0..pieces.len()).rev().map(|place| (place, true));
        let steps = steps.into_iter().map(|step| match step {
            Step::Good(index) => (index.index(pieces.len()) as u32, pieces[index.index(pieces.len())].clone(), true),
            Step::Corrupt(index) => {
                let place = index.index(pieces.len());
                let mut piece = pieces[place].to_vec();
                piece[0] ^= 1;
                (place as u32, Bytes::from(piece), false)
            }
            Step::Short(index) => {
                let place = index.index(pieces.len());
                (place as u32, pieces[place].slice(1..), false)
            }
            Step::Beyond(number) => (manifest.count().saturating_add(number), Bytes::from_static(b"x"), false),
        }).chain(all.map(|(place, good)| (place as u32, pieces[place].clone(), good)));
        for (number, piece, is_good) in steps {
            // A corrupt piece cannot be told in a topic that is not signed.
            if !signed && !is_good && manifest.piece_bytes(number) == Some(piece.len()) {
                continue;
            }
            let frame = Bytes::from([b"header", &piece[..]].concat());
            let placed = assembly.place(number, piece.clone(), framed.then_some(&frame), 3, hasher(signed));
            let fits = manifest.piece_bytes(number) == Some(piece.len());
            let is_known = model.contains_key(&number);
            if is_known {
                prop_assert_eq!(placed, Placed::Duplicate);
            } else if !fits {
                prop_assert_eq!(placed, Placed::Wrong);
            } else {
                model.insert(number, is_good);
                let before = model.clone();
                let now = checked(&mut model, &manifest);
                let fresh: BTreeSet<u32> = now.difference(&expected).copied().collect();
                let gone: BTreeSet<u32> = before.keys().filter(|number| !model.contains_key(number)).copied().collect();
                expected = now;
                match placed {
                    Placed::New { numbers, forged } => {
                        prop_assert_eq!(numbers.into_iter().collect::<BTreeSet<_>>(), fresh);
                        let forged: BTreeSet<u32> = forged.into_iter().map(|(number, _)| number).collect();
                        prop_assert_eq!(forged, gone);
                    }
                    Placed::Waits => prop_assert!(fresh.is_empty() && gone.is_empty()),
                    Placed::Wrong => prop_assert_eq!(gone.into_iter().collect::<Vec<_>>(), [number]),
                    Placed::Duplicate => prop_assert!(false, "{} is no duplicate", number),
                }
            }
            let held: BTreeSet<u32> = assembly.held().iter().flatten().map(|number| number as u32).collect();
            prop_assert_eq!(&held, &expected);
            let kept: usize = model.keys().map(|&number| pieces[number as usize].len()).sum();
            prop_assert_eq!(assembly.bytes(), kept);
            prop_assert_eq!(assembly.body().is_some(), expected.len() == pieces.len());
            if let Some(&number) = expected.last() {
                let (piece, passed_on) = assembly.piece(number).unwrap();
                prop_assert_eq!(&piece, &pieces[number as usize]);
                prop_assert_eq!(passed_on.is_some(), framed);
            }
        }
        // What was forged and found out after its true piece had come is missing still.
        for number in 0..manifest.count() {
            let _ = assembly.place(number, pieces[number as usize].clone(), None, 3, hasher(signed));
        }
        prop_assert_eq!(assembly.body(), Some(body));
    }
}
