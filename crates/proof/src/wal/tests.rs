//! Frames survive as a whole, and damage before the last batch is told from a torn end.

extern crate std;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::{Batch, Frames};
use crate::tile::Entries;

fn segment(batches: &[Vec<Vec<u8>>]) -> (Vec<u8>, Vec<usize>) {
    let (mut bytes, mut ends, mut first) = (Vec::new(), Vec::new(), 0);
    let mut batch = Batch::default();
    for entries in batches {
        batch.clear();
        for entry in entries {
            assert!(batch.push(entry));
        }
        bytes.extend_from_slice(batch.seal(first));
        first += u64::from(batch.count());
        ends.push(bytes.len());
    }
    (bytes, ends)
}

fn batches() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
    prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..5), 1..6)
}

proptest! {
    #[test]
    fn frames_read_back_what_was_written(batches in batches()) {
        let (bytes, _) = segment(&batches);
        let mut frames = Frames::of(&bytes);
        let mut read = Vec::new();
        while let Some(frame) = frames.read().unwrap() {
            read.push(Entries::of(frame.payload).map(<[u8]>::to_vec).collect::<Vec<_>>());
        }
        prop_assert_eq!(read, batches);
    }

    #[test]
    fn a_flipped_bit_is_a_torn_end_in_the_last_frame_and_damage_before_it(batches in batches(), at in any::<usize>(), bit in 0_u32..8) {
        let (mut bytes, ends) = segment(&batches);
        let at = at % bytes.len();
        bytes[at] ^= 1_u8 << bit;
        let hit = ends.iter().position(|end| at < *end).unwrap();
        let mut frames = Frames::of(&bytes);
        for _ in 0..hit {
            prop_assert!(frames.read().unwrap().is_some());
        }
        let broken = frames.read().unwrap_err();
        prop_assert_eq!(broken.offset, if hit == 0 { 0 } else { ends[hit - 1] });
        prop_assert_eq!(broken.frames_follow, hit + 1 < ends.len());
    }

    #[test]
    fn room_behind_the_last_frame_is_its_end_and_a_torn_write_into_it_is_told(batches in batches(), room in 0_usize..200, cut in any::<usize>()) {
        let (mut bytes, ends) = segment(&batches);
        let whole = bytes.len();
        bytes.resize(whole + room, 0);
        let mut frames = Frames::of(&bytes);
        while frames.read().unwrap().is_some() {}
        prop_assert_eq!(frames.offset(), whole);
        // A crash in the middle of the last frame: some of it is written, in any order, the rest is still room.
        let start = ends.iter().rev().nth(1).copied().unwrap_or(0);
        let cut = start + 1 + cut % (whole - start - 1);
        for half in [start..cut, cut..whole] {
            let mut torn = bytes.clone();
            torn[half].fill(0);
            let mut frames = Frames::of(&torn);
            let end = loop {
                match frames.read() {
                    Ok(Some(_)) => {}
                    Ok(None) => break Ok(()),
                    Err(broken) => break Err(broken),
                }
            };
            let lost = torn.get(start..).is_some_and(|rest| rest.iter().all(|byte| *byte == 0));
            let untouched = torn == bytes;
            prop_assert_eq!(end.is_ok(), lost || untouched);
            prop_assert!(end.err().is_none_or(|broken| broken.offset == start && !broken.frames_follow));
        }
    }

    #[test]
    fn a_cut_leaves_the_whole_frames_before_it(batches in batches(), cut in any::<usize>()) {
        let (bytes, ends) = segment(&batches);
        let cut = cut % (bytes.len() + 1);
        let mut frames = Frames::of(&bytes[..cut]);
        let mut whole = 0;
        let torn = loop {
            match frames.read() {
                Ok(Some(_)) => whole += 1,
                Ok(None) => break false,
                Err(broken) => { prop_assert!(!broken.frames_follow); break true }
            }
        };
        prop_assert_eq!(whole, ends.iter().filter(|end| **end <= cut).count());
        prop_assert_eq!(torn, cut != 0 && !ends.contains(&cut));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut frames = Frames::of(&bytes);
        while let Ok(Some(_)) = frames.read() {}
    }
}
