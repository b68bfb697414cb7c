//! The model one character at a time: the same formulas as in `shared/mamba`, by the kernels that move
//! the states of the convolution and of the scan on in place. A step costs the same however long
//! the text before it is.

use fastrand::Rng;
use warpwright::backend::Backend;
use warpwright::causal_conv1d::update::{self as conv_update, CausalConv1dUpdate};
use warpwright::selective_scan::state_update::{self, StateUpdate};
use warpwright::{Result, Tensor};

use crate::shared::dense::{normalise, project};
use crate::shared::mamba::{Mamba, Tensors, conv_options, embed};

/// A text that is being written.
pub struct Writer<'a, B: Backend> {
    model: &'a Mamba<'a, B>,
    tensors: Tensors<B>,
    /// The last inputs of the convolution, (1, D, W - 1).
    conv_state: Tensor<B, f32>,
    /// (1, D, N)
    state: Tensor<B, f32>,
}

impl<'a, B: StateUpdate<f32> + CausalConv1dUpdate<f32>> Writer<'a, B> {
    /// Before the first character.
    pub fn new(model: &'a Mamba<'a, B>) -> Result<Self> {
        let &Mamba { device, sizes, ref parameters } = model;
        let zeros = |entries: usize| {
            let zeros = vec![0.0; sizes.channels * entries];
            Tensor::from_slice(device, &zeros, &[1, sizes.channels, entries])
        };
        Ok(Self {
            model,
            tensors: Tensors::new(device, sizes, parameters, 1)?,
            conv_state: zeros(sizes.taps - 1)?,
            state: zeros(sizes.states)?,
        })
    }

    /// Reads a character, and gives the scores of each next one.
    pub fn read(&mut self, character: usize) -> Result<Vec<f32>> {
        let &Mamba { device, sizes, ref parameters } = self.model;
        let tensors = &self.tensors;
        let (width, channels) = (sizes.width, sizes.channels);
        let upload = |row: &[f32]| Tensor::from_slice(device, row, &[1, row.len()]);
        let mut out = embed(&parameters.embedding, width, &[character]);
        let normalised = normalise(&out, &parameters.scale_in);
        let x = upload(&project(&normalised, &parameters.to_x, width))?;
        let gate = upload(&project(&normalised, &parameters.to_gate, width))?;

        let convolution =
            conv_update::Inputs::new(&x, &tensors.conv_weight).with_bias(&tensors.conv_bias);
        let on_device =
            conv_update::update(&convolution, (&mut self.conv_state).into(), &conv_options())?;
        let u = on_device.to_vec()?;
        let low = project(&u, &parameters.to_low, channels);
        let delta = upload(&project(&low, &parameters.low_to_delta, sizes.rank))?;
        let b = upload(&project(&u, &parameters.to_b, channels))?;
        let c = upload(&project(&u, &parameters.to_c, channels))?;

        let inputs = state_update::Inputs::new(&on_device, &delta, &tensors.a, &b, &c)
            .with_d(&tensors.skip)
            .with_z(&gate)
            .with_dt_bias(&tensors.delta_bias);
        let options = state_update::Options::default().with_dt_softplus(true);
        let y = state_update::update(&mut self.state, &inputs, &options)?.to_vec()?;
        let more = project(&y, &parameters.from_y, channels);
        out.iter_mut().zip(more).for_each(|(out, more)| *out += more);
        let last = normalise(&out, &parameters.scale_out);
        Ok(project(&last, &parameters.to_classes, width))
    }

    /// Reads what was given, then writes so many characters of its own. Gives all characters but
    /// the last, and the scores after each of them.
    pub fn write(
        &mut self,
        given: &[usize],
        count: usize,
        random: &mut Rng,
    ) -> Result<(Vec<usize>, Vec<f32>)> {
        let mut characters = given.to_vec();
        let mut all = Vec::new();
        for place in 0..given.len() + count {
            let scores = self.read(characters[place])?;
            if place + 1 >= given.len() {
                characters.push(draw(&scores, random));
            }
            all.extend(scores);
        }
        characters.pop();
        Ok((characters, all))
    }
}

/// Below 1, what is likely becomes more so.
const TEMPERATURE: f32 = 0.7;

/// A character, drawn by its score.
fn draw(scores: &[f32], random: &mut Rng) -> usize {
    let largest = scores.iter().copied().fold(f32::MIN, f32::max);
    let weights: Vec<f32> = scores.iter().map(|x| ((x - largest) / TEMPERATURE).exp()).collect();
    let mut left = random.f32() * weights.iter().sum::<f32>();
    let drawn = weights.iter().position(|weight| {
        left -= weight;
        left < 0.0
    });
    // Rounding may leave a remainder behind the last weight.
    drawn.unwrap_or(weights.len() - 1)
}
