//! A text as numbers: the characters that occur in it, counted up.

use std::error::Error;

use crate::shared::batch::Batch;

/// The characters of a text, each as its place among those that occur.
pub struct Text {
    /// The characters that occur, in the order of their bytes.
    pub characters: Vec<u8>,
    /// What the model learns from.
    pub training: Vec<usize>,
    /// What it has never seen: the last tenth.
    pub held_out: Vec<usize>,
}

impl Text {
    pub fn new(bytes: &[u8]) -> Self {
        let mut characters = bytes.to_vec();
        characters.sort_unstable();
        characters.dedup();
        let mut places = [0; 256];
        for (place, &character) in characters.iter().enumerate() {
            places[usize::from(character)] = place;
        }
        let mut training: Vec<usize> =
            bytes.iter().map(|&byte| places[usize::from(byte)]).collect();
        let held_out = training.split_off(training.len() / 10 * 9);
        Self { characters, training, held_out }
    }

    pub fn encode(&self, text: &str) -> Result<Vec<usize>, Box<dyn Error>> {
        let place = |byte: &u8| {
            self.characters
                .binary_search(byte)
                .map_err(|_| format!("the novel has no character {:?}", char::from(*byte)).into())
        };
        text.as_bytes().iter().map(place).collect()
    }

    pub fn decode(&self, places: &[usize]) -> String {
        places.iter().map(|&place| char::from(self.characters[place])).collect()
    }

    /// What a table of letter pairs, counted in the training text, loses on the held-out text for
    /// each character, in nats. One is added to every count.
    pub fn loss_of_pairs(&self) -> f64 {
        let symbols = self.characters.len();
        let mut counts = vec![1.0; symbols * symbols];
        for pair in self.training.windows(2) {
            counts[pair[0] * symbols + pair[1]] += 1.0;
        }
        let loss = |pair: &[usize]| {
            let row = &counts[pair[0] * symbols..][..symbols];
            -(row[pair[1]] / row.iter().sum::<f64>()).ln()
        };
        let pairs = self.held_out.windows(2);
        pairs.clone().map(loss).sum::<f64>() / pairs.len() as f64
    }
}

/// Rows of equal length, cut out of a text: the `steps` characters from each of the starts, and
/// their successors.
pub fn cut(text: &[usize], starts: &[usize], steps: usize) -> Batch {
    let cut =
        |ahead| starts.iter().flat_map(move |&start| &text[start + ahead..][..steps]).copied();
    Batch { rows: starts.len(), read: cut(0).collect(), wanted: cut(1).map(Some).collect() }
}
