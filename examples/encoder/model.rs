//! The encoder: a BERT of six layers. With E the embeddings of pieces and of their places, for each layer
//!
//! ```text
//! x = norm(x + W_o attention(W_q x, W_k x, W_v x))
//! x = norm(x + W_2 gelu(W_1 x))
//! ```
//!
//! where each W stands for a linear layer with its bias, and a sentence is the mean of its pieces,
//! of length 1. Sentences are packed into one row; none looks at another.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use gemm::{Parallelism, gemm};
use warpwright::attention::{self, Inputs, Options};
use warpwright::group_sparse::file::Reader;
use warpwright::group_sparse::{self, Weights};
use warpwright::{Cpu, Tensor};

type Outcome<T> = Result<T, Box<dyn Error>>;

const LAYERS: usize = 6;
const HEADS: usize = 12;

/// What multiplies with the weights of the linear layers.
pub trait Linears {
    /// W x + bias, for rows x.
    fn forward(&mut self, layer: &str, x: &Tensor<Cpu, f32>) -> Outcome<Tensor<Cpu, f32>>;
}

/// The model as it came.
pub struct Encoder {
    tensors: BTreeMap<String, Tensor<Cpu, f32>>,
}

impl Encoder {
    pub fn open(path: &Path) -> Outcome<Self> {
        let mut reader = Reader::open(path)?;
        let names: Vec<String> = reader.entries().keys().cloned().collect();
        let mut tensors = BTreeMap::new();
        // Of whole numbers there are only the places, 0, 1, 2, ...
        for name in names.into_iter().filter(|name| !name.ends_with("position_ids")) {
            let tensor = reader.tensor(&name)?.typed()?;
            tensors.insert(name, tensor);
        }
        Ok(Self { tensors })
    }

    pub fn tensor(&self, name: &str) -> Outcome<&Tensor<Cpu, f32>> {
        let missing = || format!("expected a tensor {name} in the model, found none");
        Ok(self.tensors.get(name).ok_or_else(missing)?)
    }

    /// The names of the linear layers.
    pub fn linears(&self) -> impl Iterator<Item = &str> {
        let names = self.tensors.keys().filter(|name| name.starts_with("encoder."));
        names
            .filter(|name| !name.contains("LayerNorm"))
            .filter_map(|name| name.strip_suffix(".weight"))
    }

    /// Sentences, as pieces, in numbers: (sentences, features).
    pub fn embed(
        &self,
        sentences: &[Vec<usize>],
        linears: &mut dyn Linears,
    ) -> Outcome<Vec<Vec<f32>>> {
        let mut bounds = vec![0i32];
        for sentence in sentences {
            bounds.push(bounds[bounds.len() - 1] + sentence.len() as i32);
        }
        let bounds = Tensor::from_vec(bounds, &[sentences.len() + 1])?;
        let mut x = self.embeddings(sentences)?;
        for layer in 0..LAYERS {
            x = self.layer(&format!("encoder.layer.{layer}"), x, &bounds, linears)?;
        }
        let x = x.to_vec()?;
        let width = x.len() / sentences.iter().map(Vec::len).sum::<usize>();
        let mut rows = x.chunks_exact(width);
        Ok(sentences.iter().map(|sentence| mean(rows.by_ref().take(sentence.len()))).collect())
    }

    fn embeddings(&self, sentences: &[Vec<usize>]) -> Outcome<Tensor<Cpu, f32>> {
        let words = self.tensor("embeddings.word_embeddings.weight")?;
        let width = words.shape()[1];
        let words = words.to_vec()?;
        let places = self.tensor("embeddings.position_embeddings.weight")?.to_vec()?;
        let kind = self.tensor("embeddings.token_type_embeddings.weight")?.to_vec()?;
        let mut x = Vec::new();
        for (place, &piece) in sentences.iter().flat_map(|sentence| sentence.iter().enumerate()) {
            let (word, place) = (&words[piece * width..], &places[place * width..]);
            x.extend((0..width).map(|i| word[i] + place[i] + kind[i]));
        }
        self.norm("embeddings.LayerNorm", x)
    }

    fn layer(
        &self,
        name: &str,
        x: Tensor<Cpu, f32>,
        bounds: &Tensor<Cpu, i32>,
        linears: &mut dyn Linears,
    ) -> Outcome<Tensor<Cpu, f32>> {
        let mut heads = |of: &str| -> Outcome<Tensor<Cpu, f32>> {
            let y = linears.forward(&format!("{name}.attention.self.{of}"), &x)?;
            let [rows, width] = [y.shape()[0], y.shape()[1]];
            Ok(Tensor::from_vec(y.into_vec()?, &[rows, HEADS, width / HEADS])?)
        };
        let (q, k, v) = (heads("query")?, heads("key")?, heads("value")?);
        let inputs = Inputs::new(&q, &k, &v).with_packed(bounds, bounds);
        let attended = attention::forward(&inputs, &Options::default())?.out;
        let attended = Tensor::from_vec(attended.into_vec()?, x.shape())?;
        let y = linears.forward(&format!("{name}.attention.output.dense"), &attended)?;
        let x = self.norm(&format!("{name}.attention.output.LayerNorm"), sum(x, y)?)?;

        let inner = linears.forward(&format!("{name}.intermediate.dense"), &x)?;
        let shape = inner.shape().to_vec();
        let inner = inner.into_vec()?.into_iter().map(gelu).collect();
        let y =
            linears.forward(&format!("{name}.output.dense"), &Tensor::from_vec(inner, &shape)?)?;
        self.norm(&format!("{name}.output.LayerNorm"), sum(x, y)?)
    }

    /// Each row less its mean, by its standard deviation, times the scale and plus the bias of each column.
    fn norm(&self, name: &str, mut x: Vec<f32>) -> Outcome<Tensor<Cpu, f32>> {
        let scale = self.tensor(&format!("{name}.weight"))?.to_vec()?;
        let bias = self.tensor(&format!("{name}.bias"))?.to_vec()?;
        let width = scale.len();
        for row in x.chunks_exact_mut(width) {
            let mean = row.iter().sum::<f32>() / width as f32;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / width as f32;
            let factor = (variance + 1e-12).sqrt().recip();
            for (x, (scale, bias)) in row.iter_mut().zip(scale.iter().zip(&bias)) {
                *x = (*x - mean) * factor * scale + bias;
            }
        }
        let rows = x.len() / width;
        Ok(Tensor::from_vec(x, &[rows, width])?)
    }
}

/// The layers as they came; their inputs are kept if wanted.
pub struct Dense<'a> {
    pub encoder: &'a Encoder,
    pub inputs: Option<BTreeMap<String, Tensor<Cpu, f32>>>,
}

impl Linears for Dense<'_> {
    fn forward(&mut self, layer: &str, x: &Tensor<Cpu, f32>) -> Outcome<Tensor<Cpu, f32>> {
        if let Some(inputs) = &mut self.inputs {
            inputs.insert(layer.to_owned(), x.clone());
        }
        let weight = self.encoder.tensor(&format!("{layer}.weight"))?;
        let bias = self.encoder.tensor(&format!("{layer}.bias"))?.to_vec()?;
        let ([rows, inner], columns) = ([x.shape()[0], x.shape()[1]], weight.shape()[0]);
        let (values, weight) = (x.to_vec()?, weight.to_vec()?);
        let mut y = bias.repeat(rows);
        // SAFETY: all three have as many elements as their shapes say, and y is no other's.
        unsafe {
            gemm(
                rows,
                columns,
                inner,
                y.as_mut_ptr(),
                1,
                columns as isize,
                true,
                values.as_ptr(),
                1,
                inner as isize,
                weight.as_ptr(),
                inner as isize,
                1,
                1.0,
                1.0,
                false,
                false,
                false,
                Parallelism::Rayon(0),
            );
        }
        Ok(Tensor::from_vec(y, &[rows, columns])?)
    }
}

/// Compressed layers, with the biases of the encoder.
pub struct Compressed<'a> {
    pub encoder: &'a Encoder,
    pub weights: BTreeMap<String, Weights<Cpu>>,
}

impl Linears for Compressed<'_> {
    fn forward(&mut self, layer: &str, x: &Tensor<Cpu, f32>) -> Outcome<Tensor<Cpu, f32>> {
        let bias = self.encoder.tensor(&format!("{layer}.bias"))?;
        Ok(group_sparse::forward(&self.weights[layer], x, Some(bias.into()))?)
    }
}

fn sum(x: Tensor<Cpu, f32>, y: Tensor<Cpu, f32>) -> Outcome<Vec<f32>> {
    Ok(x.to_vec()?.into_iter().zip(y.into_vec()?).map(|(x, y)| x + y).collect())
}

/// x Φ(x), with Φ the normal distribution.
fn gelu(x: f32) -> f32 {
    x * 0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// To 1.5e-7: Abramowitz and Stegun, 7.1.26.
fn erf(x: f32) -> f32 {
    const TERMS: [f32; 5] = [0.254_829_6, -0.284_496_72, 1.421_413_8, -1.453_152_1, 1.061_405_4];
    let t = (1.0 + 0.327_591_1 * x.abs()).recip();
    let sum = TERMS.iter().rev().fold(0.0, |sum, term| (sum + term) * t);
    (1.0 - sum * (-x * x).exp()).copysign(x)
}

/// The mean of rows, made as long as 1.
fn mean<'a>(rows: impl Iterator<Item = &'a [f32]>) -> Vec<f32> {
    let mut sum: Vec<f32> = Vec::new();
    for row in rows {
        sum.resize(row.len(), 0.0);
        sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }
    let length = sum.iter().map(|x| x * x).sum::<f32>().sqrt();
    sum.iter().map(|x| x / length).collect()
}
