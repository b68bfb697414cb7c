//! Files come back bit by bit; those that are not whole are refused.

use std::fs;
use std::path::PathBuf;

use fastrand::Rng;
use serde_json::json;

use super::*;
use crate::backend::Cpu;
use crate::group_sparse::layer::{Layer, random};
use crate::tensor::{Tensor, View};

mod damage;

/// A place for a file of a test.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("warpwright-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn file(&self) -> PathBuf {
        self.0.join("layers.safetensors")
    }

    /// Files that lie there.
    fn count(&self) -> usize {
        fs::read_dir(&self.0).unwrap().count()
    }

    /// The message for a file of these bytes.
    fn refused(&self, bytes: &[u8]) -> String {
        fs::write(self.file(), bytes).unwrap();
        Reader::open(self.file()).unwrap_err().to_string()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What is left behind is in the system's folder for such things.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn bytes(count: u8) -> View<Cpu> {
    Tensor::from_vec((0..count).collect::<Vec<u8>>(), &[usize::from(count)]).unwrap().into_view()
}

/// Layers of every kind, and a tensor of three bytes that moves all others to odd places.
fn layers(seed: u64) -> Vec<Layer> {
    let mut rng = Rng::with_seed(seed);
    (0..20)
        .map(|i| {
            let mut layer = Layer::new(format!("m.{i}"), random::matrix(&mut rng), DType::F32);
            layer.info.insert("seen".to_owned(), json!([i, 0.1, {"b": 1, "a": null}]));
            layer
        })
        .collect()
}

fn write(place: &Place, layers: &[Layer]) -> Vec<u8> {
    let mut writer = Writer::create(place.file()).unwrap();
    writer.set("format", "pt");
    for layer in layers {
        writer.layer(layer).unwrap();
    }
    writer.tensor("a", &bytes(3)).unwrap();
    writer.finish().unwrap();
    fs::read(place.file()).unwrap()
}

#[test]
fn layers_come_back_in_any_order_and_equal_input_gives_equal_bytes() {
    let place = Place::new("layers");
    for seed in 0..10 {
        let mut all = layers(seed);
        let first = write(&place, &all);
        all.reverse();
        assert_eq!(write(&place, &all), first);
        assert_eq!(first.len() % 8, (first.len() - 8 - header_length(&first)) % 8);
        let mut reader = Reader::open(place.file()).unwrap();
        assert_eq!(reader.metadata()["format"], "pt");
        assert!(reader.is_compressed("m.3.gqsa.codes") && !reader.is_compressed("a"));
        assert_eq!(reader.tensor("a").unwrap().to_bytes().unwrap(), [0, 1, 2]);
        let found: Vec<Layer> = reader.layers().collect::<crate::Result<_>>().unwrap();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        for (found, layer) in found.iter().zip(&all) {
            assert_eq!((&found.name, &found.info), (&layer.name, &layer.info));
            assert_eq!(found.matrix, layer.matrix, "{}", layer.name);
        }
        assert_eq!(write(&place, &found), first, "what was read is written as it was");
        assert_eq!(place.count(), 1, "nothing else is left");
    }
}

fn header_length(bytes: &[u8]) -> usize {
    u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize
}

#[test]
fn other_libraries_read_what_is_written() {
    let place = Place::new("others");
    let written = write(&place, &layers(3));
    let file = safetensors::SafeTensors::deserialize(&written).unwrap();
    assert_eq!(file.tensor("a").unwrap().data(), [0, 1, 2]);
    let mut reader = Reader::open(place.file()).unwrap();
    assert_eq!(reader.entries().len(), file.len());
    for (name, tensor) in file.iter() {
        let pieces: Vec<Vec<u8>> =
            reader.pieces(name).unwrap().collect::<crate::Result<_>>().unwrap();
        assert_eq!(pieces.concat(), tensor.data(), "{name}");
    }
}

#[test]
fn tensors_of_unknown_types_are_copied() {
    let place = Place::new("copies");
    let source = place.0.join("source");
    let mut writer = Writer::create(&source).unwrap();
    let pieces = [Ok(vec![1, 2]), Ok(vec![3])];
    writer.pieces("half", Dtype::F8_E4M3, &[3], pieces).unwrap();
    writer.finish().unwrap();
    let mut reader = Reader::open(&source).unwrap();
    assert!(reader.tensor("half").unwrap_err().to_string().contains("F8_E4M3"));
    let mut writer = Writer::create(place.file()).unwrap();
    writer.copy(&mut reader, "half").unwrap();
    writer.finish().unwrap();
    assert_eq!(fs::read(source).unwrap(), fs::read(place.file()).unwrap());
}

#[test]
fn what_does_not_end_leaves_nothing() {
    let place = Place::new("unfinished");
    let mut writer = Writer::create(place.file()).unwrap();
    writer.tensor("a", &bytes(3)).unwrap();
    let again = writer.tensor("a", &bytes(3)).unwrap_err().to_string();
    assert!(again.contains("`a`: expected a name of its own"), "{again}");
    let short = writer.pieces("b", Dtype::F32, &[2], [Ok(vec![0; 7])]).unwrap_err().to_string();
    assert!(short.contains("`b`: expected 8 bytes for shape [2] of F32, found 7"), "{short}");
    drop(writer);
    assert_eq!(place.count(), 0);
    let nowhere = place.0.join("no/such/folder");
    assert!(matches!(Writer::create(nowhere).unwrap_err(), Error::Io { .. }));
    assert!(matches!(Writer::create("/").unwrap_err(), Error::Io { .. }));
}

#[test]
fn files_must_be_whole() {
    let place = Place::new("corrupt");
    let whole = write(&place, &layers(4));
    let data = whole.len() - 8 - header_length(&whole);
    for length in [0, 7, 8, 100, whole.len() - 1] {
        let found = place.refused(&whole[..length]);
        assert!(found.contains("not a whole safetensors file: expected"), "{length}: {found}");
    }
    let found = place.refused(&[&whole[..], &[0]].concat());
    let expected = format!("expected {data} bytes of tensors, found {}", data + 1);
    assert!(found.ends_with(&expected), "{found}");
    let found = place.refused(&[&[255u8; 8][..], &whole[8..]].concat());
    assert!(found.contains("expected a header of"), "{found}");
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    assert!(place.refused(&text("{\"a\": 1}")).contains("not a whole safetensors file"));
    let found = place
        .refused(&text("{\"__metadata__\": {\"gqsa.version\": \"7\", \"gqsa.layers\": \"{}\"}}"));
    assert_eq!(found, "group-sparse: option `gqsa.version`: expected 1, found 7");
    let missing = Reader::open(place.0.join("none")).unwrap_err();
    assert!(matches!(missing, Error::Io { .. }), "{missing}");
}

#[test]
fn layers_and_tensors_must_be_there() {
    let place = Place::new("missing");
    write(&place, &layers(5)[..2]);
    let mut reader = Reader::open(place.file()).unwrap();
    let found = reader.layer("m.7").unwrap_err().to_string();
    assert_eq!(found, "group-sparse: option `layer`: expected m.0 or m.1, found m.7");
    let found = reader.tensor("b").unwrap_err().to_string();
    assert!(found.contains("tensor `b`: expected this tensor, found none in "), "{found}");
    // A layer whose tensors are not those that its name promises.
    let mut writer = Writer::create(place.file()).unwrap();
    writer.layer(&layers(5)[0]).unwrap();
    writer.tensor("m.0.gqsa.row_scale", &bytes(2)).unwrap();
    writer.finish().unwrap();
    let found = Reader::open(place.file()).unwrap().layer("m.0").unwrap_err();
    assert!(matches!(found, Error::Unsupported { .. }), "{found}");
}
