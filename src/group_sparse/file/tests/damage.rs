//! Damaged files: whatever the bytes, there is an answer, and a layer that is taken is one that can be
//! written, and multiplied with.

use proptest::prelude::*;

use super::*;
use crate::damage::{apply, config, damages};
use crate::group_sparse::{Weights, forward};

/// Reads all layers of a file. Those that are taken come back as they were.
fn answer(place: &Place, bytes: &[u8]) {
    fs::write(place.file(), bytes).unwrap();
    let Ok(mut reader) = Reader::open(place.file()) else { return };
    let taken: Vec<Layer> = reader.layers().filter_map(crate::Result::ok).collect();
    for layer in &taken {
        let x = Tensor::new(&Cpu, &[1, layer.matrix.format().columns]).unwrap();
        forward::<Cpu, f32>(&Weights::new(&Cpu, &layer.matrix).unwrap(), &x, None).unwrap();
    }
    write(place, &taken);
    let again: Vec<Layer> =
        Reader::open(place.file()).unwrap().layers().collect::<crate::Result<_>>().unwrap();
    // Numbers that are none differ from themselves: text tells more than equality.
    assert_eq!(format!("{again:?}"), format!("{taken:?}"));
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn damaged_tensors_are_answered(
        seed in 0..8u64,
        changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..40),
    ) {
        let place = Place::new("damaged-tensors");
        let mut bytes = write(&place, &layers(seed));
        let data = 8 + header_length(&bytes);
        let length = bytes.len() - data;
        for (at, byte) in changes {
            bytes[data + at % length] = byte;
        }
        answer(&place, &bytes);
    }

    #[test]
    fn damaged_headers_are_answered(seed in 0..8u64, damages in damages(b"0123456789,:\"{}[]\\a")) {
        let place = Place::new("damaged-headers");
        let whole = write(&place, &layers(seed)[..2]);
        let (header, tensors) = whole[8..].split_at(header_length(&whole));
        let mut header = header.to_vec();
        apply(&mut header, &damages);
        answer(&place, &[&(header.len() as u64).to_le_bytes(), &header[..], tensors].concat());
    }
}
