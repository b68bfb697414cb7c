//! Sentences, and the pieces of words that the model knows.

use std::collections::HashMap;
use std::error::Error;
use std::path::Path;

/// Pieces of a sentence that the model takes, its two marks included.
const LONGEST: usize = 256;

/// The model's list of pieces: words, and what stands within a word, marked by `##`.
pub struct Vocabulary {
    numbers: HashMap<String, usize>,
    unknown: usize,
    begin: usize,
    end: usize,
}

impl Vocabulary {
    pub fn open(path: &Path) -> Result<Self, Box<dyn Error>> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let numbers: HashMap<String, usize> =
            text.lines().enumerate().map(|(number, piece)| (piece.to_owned(), number)).collect();
        let number = |piece: &str| {
            let missing = || format!("{}: there is no piece {piece}", path.display());
            numbers.get(piece).copied().ok_or_else(missing)
        };
        let (unknown, begin, end) = (number("[UNK]")?, number("[CLS]")?, number("[SEP]")?);
        Ok(Self { numbers, unknown, begin, end })
    }

    /// The pieces of a sentence, in lower case, between the marks of its ends.
    pub fn pieces(&self, sentence: &str) -> Vec<usize> {
        let words = words(sentence);
        let pieces = words.iter().flat_map(|word| self.pieces_of_word(word));
        let within = pieces.take(LONGEST - 2);
        std::iter::once(self.begin).chain(within).chain([self.end]).collect()
    }

    /// The longest piece that a word begins with, then that of the rest, and so on.
    fn pieces_of_word(&self, word: &str) -> Vec<usize> {
        let mut pieces = Vec::new();
        let mut rest = word;
        while !rest.is_empty() {
            let mark = if pieces.is_empty() { "" } else { "##" };
            let ends = rest.char_indices().map(|(at, letter)| at + letter.len_utf8()).rev();
            let longest = ends
                .filter_map(|end| {
                    Some((end, *self.numbers.get(&format!("{mark}{}", &rest[..end]))?))
                })
                .next();
            let Some((end, piece)) = longest else { return vec![self.unknown] };
            pieces.push(piece);
            rest = &rest[end..];
        }
        pieces
    }
}

/// Words, and every mark by itself.
fn words(sentence: &str) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), String::new());
    for letter in sentence.chars().flat_map(char::to_lowercase) {
        if letter.is_alphanumeric() {
            word.push(letter);
            continue;
        }
        words.push(std::mem::take(&mut word));
        words.push(letter.to_string());
    }
    words.push(word);
    words.retain(|word| !word.trim().is_empty());
    words
}

/// The sentences of a text that have at least `least` words.
pub fn sentences(text: &str, least: usize) -> Vec<String> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.split_inclusive(&['.', '!', '?'])
        .map(|sentence| sentence.trim().to_owned())
        .filter(|sentence| sentence.split(' ').count() >= least)
        .collect()
}
